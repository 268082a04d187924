package ng

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A dictionary's values are string, int64, float64 (from JSON only), []any and map[string]any.

// Limits of one message, chosen by us. The deepest answer of rtpengine (a query) has 9 levels; 64 KB of SDP and the
// longest lists seen fit four times.
const (
	MaxMessage = 256 << 10
	maxDepth   = 16
	maxItems   = 1 << 14
)

var (
	errTooDeep   = fmt.Errorf("more than %d levels", maxDepth)
	errTooMany   = fmt.Errorf("more than %d items", maxItems)
	errTruncated = errors.New("ends too early")
)

// bdecoder walks over bencode. Its strings are parts of b, which is one string for all of them.
type bdecoder struct {
	b     string
	pos   int
	items int
}

// entry is a key of a request's dictionary with its value.
type entry struct {
	key   string
	value any
}

// entriesOf reads what decodeBencode does, where a d comes first, without making a map of the outermost level: room is where its entries
// may go. They are sorted by key; of a key that comes twice the last is there.
func entriesOf(b []byte, room []entry) ([]entry, error) {
	d := bdecoder{b: string(b), items: 1}
	if err := d.pairs(0, func(key string, v any) { room = append(room, entry{key, v}) }); err != nil {
		return nil, fmt.Errorf("bencode: byte %d: %w", d.pos, err)
	}
	if err := d.ended(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(room, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	kept := room[:0]
	for i, e := range room {
		if i+1 == len(room) || room[i+1].key != e.key {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

// ended refuses what stands behind the dictionary, but for line ends.
func (d *bdecoder) ended() error {
	for i := d.pos; i < len(d.b); i++ {
		if c := d.b[i]; c != '\r' && c != '\n' {
			return fmt.Errorf("bencode: byte %d: more behind the dictionary", d.pos)
		}
	}
	return nil
}

// decodeBencode reads one dictionary that fills b but for line ends. Keys may come in any order; of a key that comes
// twice the last counts.
func decodeBencode(b []byte) (map[string]any, error) {
	d := bdecoder{b: string(b)}
	v, err := d.value(0)
	if err != nil {
		return nil, fmt.Errorf("bencode: byte %d: %w", d.pos, err)
	}
	dict, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("bencode: not a dictionary")
	}
	if err := d.ended(); err != nil {
		return nil, err
	}
	return dict, nil
}

func (d *bdecoder) peek() (byte, error) {
	if d.pos >= len(d.b) {
		return 0, errTruncated
	}
	return d.b[d.pos], nil
}

func (d *bdecoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	if d.items++; d.items > maxItems {
		return nil, errTooMany
	}
	c, err := d.peek()
	if err != nil {
		return nil, err
	}
	switch {
	case c == 'i':
		return d.integer()
	case c >= '0' && c <= '9':
		return d.text()
	case c == 'l':
		return d.list(depth)
	case c == 'd':
		return d.dict(depth)
	}
	return nil, fmt.Errorf("%q, want d, l, i or a length", c)
}

func (d *bdecoder) integer() (int64, error) {
	start := d.pos + 1
	end := start
	for end < len(d.b) && d.b[end] != 'e' {
		if end-start > 20 {
			return 0, errors.New("integer too long")
		}
		end++
	}
	if end == len(d.b) {
		return 0, errTruncated
	}
	n, err := strconv.ParseInt(d.b[start:end], 10, 64)
	if err != nil || d.b[start] == '+' {
		return 0, fmt.Errorf("integer %.24q", d.b[start:end])
	}
	d.pos = end + 1
	return n, nil
}

func (d *bdecoder) text() (string, error) {
	n := 0
	for i := d.pos; ; i++ {
		if i >= len(d.b) {
			return "", errTruncated
		}
		c := d.b[i]
		if c == ':' {
			d.pos = i + 1
			break
		}
		if c < '0' || c > '9' {
			return "", fmt.Errorf("%q inside a length", c)
		}
		if n = n*10 + int(c-'0'); n > MaxMessage {
			return "", errors.New("string too long")
		}
	}
	if n > len(d.b)-d.pos {
		return "", errTruncated
	}
	s := d.b[d.pos : d.pos+n]
	d.pos += n
	return s, nil
}

func (d *bdecoder) list(depth int) ([]any, error) {
	d.pos++
	list := []any{}
	for {
		c, err := d.peek()
		if err != nil {
			return nil, err
		}
		if c == 'e' {
			d.pos++
			return list, nil
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

func (d *bdecoder) dict(depth int) (map[string]any, error) {
	dict := map[string]any{}
	err := d.pairs(depth, func(key string, v any) { dict[key] = v })
	return dict, err
}

// pairs reads the keys and values of a dictionary.
func (d *bdecoder) pairs(depth int, put func(key string, v any)) error {
	d.pos++
	for {
		c, err := d.peek()
		if err != nil {
			return err
		}
		if c == 'e' {
			d.pos++
			return nil
		}
		if c < '0' || c > '9' {
			return fmt.Errorf("%q, want the length of a key", c)
		}
		key, err := d.text()
		if err != nil {
			return err
		}
		v, err := d.value(depth + 1)
		if err != nil {
			return err
		}
		put(key, v)
	}
}

// appendBencode writes a value with the keys of dictionaries sorted. Floats are written as text, as rtpengine does;
// what is none of the value kinds is written as an empty string.
func appendBencode(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendText(b, v)
	case int64:
		b = strconv.AppendInt(append(b, 'i'), v, 10)
		return append(b, 'e')
	case float64:
		return appendText(b, strconv.FormatFloat(v, 'f', -1, 64))
	case []any:
		b = append(b, 'l')
		for _, e := range v {
			b = appendBencode(b, e)
		}
		return append(b, 'e')
	case map[string]any:
		b = append(b, 'd')
		var room [maxKeys]string
		for _, key := range sortedKeys(room[:0], v) {
			b = appendBencode(appendText(b, key), v[key])
		}
		return append(b, 'e')
	}
	return appendText(b, "")
}

// maxKeys is what ordinary dictionaries have at most: room for so many is taken on the stack.
const maxKeys = 24

// sortedKeys appends the keys of a dictionary in order.
func sortedKeys(keys []string, dict map[string]any) []string {
	for key := range dict {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func appendText(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	return append(append(b, ':'), s...)
}
