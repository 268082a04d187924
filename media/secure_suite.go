package media

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// srtpSuite is a crypto suite by its SDP name (RFC 4568 section 6.2, RFC 6188, RFC 7714).
type srtpSuite uint8

const (
	srtpPlain srtpSuite = iota
	srtpCM128Tag80
	srtpCM128Tag32
	srtpCM256Tag80
	srtpCM256Tag32
	srtpGCM128
	srtpGCM256
)

// srtpParams are the sizes of a suite in bytes; tagLen is that of RTP.
type srtpParams struct {
	name                    string
	keyLen, saltLen, tagLen int
	aead                    bool
}

func (s srtpSuite) params() (srtpParams, bool) {
	switch s {
	case srtpCM128Tag80:
		return srtpParams{"AES_CM_128_HMAC_SHA1_80", 16, 14, 10, false}, true
	case srtpCM128Tag32:
		return srtpParams{"AES_CM_128_HMAC_SHA1_32", 16, 14, 4, false}, true
	case srtpCM256Tag80:
		return srtpParams{"AES_256_CM_HMAC_SHA1_80", 32, 14, 10, false}, true
	case srtpCM256Tag32:
		return srtpParams{"AES_256_CM_HMAC_SHA1_32", 32, 14, 4, false}, true
	case srtpGCM128:
		return srtpParams{"AEAD_AES_128_GCM", 16, 12, 16, true}, true
	case srtpGCM256:
		return srtpParams{"AEAD_AES_256_GCM", 32, 12, 16, true}, true
	}
	return srtpParams{}, false
}

// String returns the name in SDP; "" is the plain one.
func (s srtpSuite) String() string {
	p, _ := s.params()
	return p.name
}

// srtpSuiteByName is the reverse of String; srtpPlain for a name that we do not know.
func srtpSuiteByName(name string) srtpSuite {
	for s := srtpCM128Tag80; s <= srtpGCM256; s++ {
		if s.String() == name {
			return s
		}
	}
	return srtpPlain
}

// Labels of the session keys (RFC 3711 section 4.3.1 and 4.3.2).
const (
	srtpLabelCipher = iota
	srtpLabelAuth
	srtpLabelSalt
	srtcpLabelCipher
	srtcpLabelAuth
	srtcpLabelSalt
)

// srtpDerive fills out with the session key of a label, for a key derivation rate of 0 (RFC 3711 section 4.3.3). A salt of 12
// bytes is padded with zeros (RFC 7714 section 11); a master key of 32 bytes makes the function AES-256 (RFC 6188 section 3).
func srtpDerive(master cipher.Block, salt []byte, label byte, out []byte) {
	var x, stream [aes.BlockSize]byte
	copy(x[:14], salt)
	x[7] ^= label
	for i := 0; len(out) > 0; i++ {
		binary.BigEndian.PutUint16(x[14:], uint16(i))
		master.Encrypt(stream[:], x[:])
		out = out[copy(out, stream[:]):]
	}
}

// srtpMaster is the function that a master key makes of it.
func srtpMaster(key []byte) (cipher.Block, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive session keys: %w", err)
	}
	return block, nil
}
