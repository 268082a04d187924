package store

import (
	"fmt"
	"strings"
)

// checkKey refuses what the server would: a control line longer than its limit makes it close the connection, for every other question too.
func checkKey(key string) error {
	if n := len(escape(key)); n == 0 || n > maxKey {
		return fmt.Errorf("%w: %d bytes on the wire, allowed are 1 to %d", ErrKey, n, maxKey)
	}
	return nil
}

const hexDigits = "0123456789ABCDEF"

// escape makes a NATS key: letters, digits, - / _ and single inner dots stay, every other byte becomes =XX.
func escape(key string) string {
	plain := true
	for i := range len(key) {
		plain = plain && allowed(key, i)
	}
	if plain {
		return key
	}
	var sb strings.Builder
	for i := range len(key) {
		if c := key[i]; allowed(key, i) {
			sb.WriteByte(c)
		} else {
			sb.WriteByte('=')
			sb.WriteByte(hexDigits[c>>4])
			sb.WriteByte(hexDigits[c&15])
		}
	}
	return sb.String()
}

func allowed(key string, i int) bool {
	c := key[i]
	if c == '.' {
		return i > 0 && i < len(key)-1 && key[i-1] != '.'
	}
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '/'
}

// unescape is the inverse of escape; what is no escape stays.
func unescape(key string) string {
	if !strings.Contains(key, "=") {
		return key
	}
	var sb strings.Builder
	for i := 0; i < len(key); i++ {
		if key[i] == '=' && i+2 < len(key) {
			hi, lo := strings.IndexByte(hexDigits, key[i+1]), strings.IndexByte(hexDigits, key[i+2])
			if hi >= 0 && lo >= 0 {
				sb.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		sb.WriteByte(key[i])
	}
	return sb.String()
}
