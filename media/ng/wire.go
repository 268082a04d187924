package ng

import (
	"bytes"
	"errors"
	"fmt"
)

// Form is one of the two encodings of a message.
type Form uint8

// The forms. Bencode carries any byte; JSON is for people and scripts.
const (
	Bencode Form = iota
	JSON
)

// String is the name of the form.
func (f Form) String() string {
	if f == JSON {
		return "json"
	}
	return "bencode"
}

// decode reads a dictionary in either form.
func decode(b []byte) (map[string]any, Form, error) {
	if len(b) > MaxMessage {
		return nil, Bencode, fmt.Errorf("%d bytes, at most %d are allowed", len(b), MaxMessage)
	}
	b = bytes.TrimLeft(b, " \r\n")
	if len(b) == 0 {
		return nil, Bencode, errors.New("no dictionary")
	}
	switch b[0] {
	case 'd':
		dict, err := decodeBencode(b)
		return dict, Bencode, err
	case '{':
		dict, err := decodeJSON(b)
		return dict, JSON, err
	}
	return nil, Bencode, fmt.Errorf("starts with %q, want d (bencode) or { (JSON)", b[0])
}

func encode(b []byte, dict map[string]any, form Form) ([]byte, error) {
	if form == JSON {
		return appendJSON(b, dict)
	}
	return appendBencode(b, dict), nil
}

// ParseRequest reads a request in either form, without cookie. b is not kept.
func ParseRequest(b []byte) (*Request, Form, error) {
	if body := bytes.TrimLeft(b, " \r\n"); len(b) <= MaxMessage && len(body) > 0 && body[0] == 'd' {
		var room [maxKeys]entry
		entries, err := entriesOf(body, room[:0])
		if err != nil {
			return nil, Bencode, fmt.Errorf("read request: %w", err)
		}
		req, err := requestOf(entries)
		return req, Bencode, err
	}
	dict, form, err := decode(b)
	if err != nil {
		return nil, form, fmt.Errorf("read request: %w", err)
	}
	req, err := requestFrom(dict)
	return req, form, err
}

// AppendRequest writes a request behind b.
func AppendRequest(b []byte, req *Request, form Form) ([]byte, error) {
	return encode(b, req.dict(), form)
}

// ParseResponse reads a response in either form, without cookie. b is not kept.
func ParseResponse(b []byte) (*Response, error) {
	dict, _, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	return responseFrom(dict)
}

// AppendResponse writes a response behind b.
func AppendResponse(b []byte, resp *Response, form Form) ([]byte, error) {
	if form == Bencode && resp.plain() {
		return resp.appendPlain(b), nil
	}
	return encode(b, resp.dict(), form)
}

// maxCookie bounds the cookie, chosen by us: Kamailio's has about 20 bytes, a UUID 36.
const maxCookie = 128

// cutCookie splits "COOKIE SP DICTIONARY".
func cutCookie(b []byte) (cookie string, rest []byte, ok bool) {
	i := bytes.IndexByte(b[:min(len(b), maxCookie+1)], ' ')
	if i < 1 {
		return "", nil, false
	}
	return string(b[:i]), b[i+1:], true
}
