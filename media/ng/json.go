package ng

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// decodeJSON reads one object. Numbers become int64 where they are whole, true and false become 1 and 0, null is as if
// the key was not there.
func decodeJSON(b []byte) (map[string]any, error) {
	// encoding/json would take 10,000 levels; the walk costs one pass and stops at ours.
	scan := jsonScan{}
	for _, c := range b {
		if _, err := scan.next(c); err != nil {
			return nil, fmt.Errorf("json: %w", err)
		}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var dict map[string]any
	if err := d.Decode(&dict); err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	if dict == nil {
		return nil, errors.New("json: not an object")
	}
	if d.More() {
		return nil, errors.New("json: more behind the object")
	}
	items := 0
	if err := fromJSON(dict, &items); err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	return dict, nil
}

// fromJSON turns the values of an object into those that bencode gives, in place.
func fromJSON(dict map[string]any, items *int) error {
	for key, v := range dict {
		v, err := jsonValue(v, items)
		if err != nil {
			return err
		}
		if v == nil {
			delete(dict, key)
			continue
		}
		dict[key] = v
	}
	return nil
}

func jsonValue(v any, items *int) (any, error) {
	if *items++; *items > maxItems {
		return nil, errTooMany
	}
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("number %.24q", v)
		}
		return f, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case []any:
		for i := range v {
			e, err := jsonValue(v[i], items)
			if err != nil {
				return nil, err
			}
			if e == nil {
				e = ""
			}
			v[i] = e
		}
		return v, nil
	case map[string]any:
		return v, fromJSON(v, items)
	}
	return v, nil // string or null
}

// appendJSON writes a dictionary. JSON has text only: bytes that are not UTF-8 come out as U+FFFD, so bencode is the
// form for SDP in other character sets.
func appendJSON(b []byte, dict map[string]any) ([]byte, error) {
	buf := bytes.NewBuffer(b)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(dict); err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// jsonScan finds the end of one object in a stream of bytes, without understanding more than strings and braces.
type jsonScan struct {
	depth           int
	inText, escaped bool
}

// next takes one byte and tells if the object ended with it.
func (s *jsonScan) next(c byte) (done bool, err error) {
	switch {
	case s.escaped:
		s.escaped = false
	case s.inText && c == '\\':
		s.escaped = true
	case c == '"':
		s.inText = !s.inText
	case s.inText:
	case c == '{' || c == '[':
		if s.depth++; s.depth > maxDepth {
			return false, errTooDeep
		}
	case c == '}' || c == ']':
		s.depth--
		return s.depth <= 0, nil
	}
	return false, nil
}
