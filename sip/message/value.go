package message

import "bytes"

// NextValue cuts the first value off a comma-separated list and returns the rest behind the comma. Commas in quoted
// strings and angle brackets belong to the value. ok is false for an empty value or an unfinished quote or bracket.
func NextValue(list []byte) (value, rest []byte, ok bool) {
	if bytes.IndexByte(list, ',') < 0 { // the usual case; an open quote or bracket is found where the value is read
		value = trimLWS(list)
		return value, nil, len(value) > 0
	}
	end := listEnd(list)
	if end < 0 {
		return nil, nil, false
	}
	value = trimLWS(list[:end])
	if end < len(list) {
		rest = skipLWS(list[end+1:])
		if len(rest) == 0 { // a comma with nothing behind it
			return value, nil, false
		}
	}
	return value, rest, len(value) > 0
}

// listEnd finds the first comma outside of quotes and brackets; len(s) if there is none, -1 if a quote or bracket is left open.
func listEnd(s []byte) int {
	angle := false
	for i := 0; i < len(s); i++ {
		if !listChar[s[i]] {
			continue
		}
		switch s[i] {
		case '"':
			if angle { // a quote may stand raw within a URI of a sloppy client
				continue
			}
			n := quotedLen(s[i:])
			if n == 0 {
				return -1
			}
			i += n - 1
		case '<':
			angle = true
		case '>':
			angle = false
		default:
			if !angle {
				return i
			}
		}
	}
	if angle {
		return -1
	}
	return len(s)
}

// listChar is what listEnd stops at.
var listChar = [256]bool{'"': true, '<': true, '>': true, ',': true}

// quotedLen is the length of the quoted string at the start of s with both quotes, 0 if it does not end.
func quotedLen(s []byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// NextParam cuts the first parameter off a list that starts with a semicolon. hasValue tells "rport=" from "rport".
// ok is false at the end of the list (then rest is empty) and for a parameter that cannot be read (then it is not).
func NextParam(list []byte) (name, value []byte, hasValue bool, rest []byte, ok bool) {
	// The usual ";name=value" or ";name" without white space; all else is looked at again, with more care.
	if len(list) > 1 && list[0] == ';' && nameChar[list[1]] {
		i := 2
		for i < len(list) && nameChar[list[i]] {
			i++
		}
		if i == len(list) || list[i] == ';' {
			return list[1:i], nil, false, list[i:], true
		}
		if list[i] == '=' {
			end := len(list)
			if semi := bytes.IndexByte(list[i+1:], ';'); semi >= 0 {
				end = i + 1 + semi
			}
			if v := list[i+1 : end]; len(v) > 0 && v[0] > ' ' && v[0] != '"' && v[len(v)-1] > ' ' {
				return list[1:i], v, true, list[end:], true
			}
		}
	}
	return nextParam(list)
}

// nextParam reads a parameter with white space and quotes wherever they are allowed.
func nextParam(list []byte) (name, value []byte, hasValue bool, rest []byte, ok bool) {
	list = skipLWS(list)
	if len(list) == 0 {
		return nil, nil, false, list[:0], false
	}
	if list[0] != ';' {
		return nil, nil, false, list, false
	}
	b := skipLWS(list[1:])
	i := 0
	for i < len(b) && nameChar[b[i]] {
		i++
	}
	if i == 0 {
		return nil, nil, false, list, false
	}
	name, b = b[:i], skipLWS(b[i:])
	if len(b) == 0 || b[0] == ';' {
		return name, nil, false, b, true
	}
	if b[0] != '=' {
		return nil, nil, false, list, false
	}
	b = skipLWS(b[1:])
	if len(b) > 0 && b[0] == '"' {
		n := quotedLen(b)
		if n == 0 {
			return nil, nil, false, list, false
		}
		return name, b[:n], true, skipLWS(b[n:]), true
	}
	end := bytes.IndexByte(b, ';')
	if end < 0 {
		end = len(b)
	}
	return name, trimLWS(b[:end]), true, b[end:], true
}

// nameChar is what a parameter's name is made of: a token's characters and those that a URI's parameter may have besides, RFC 3261
// section 25.1 param-unreserved.
var nameChar = func() (t [256]bool) {
	t = tokenChar
	for _, c := range "[]/:&$()" {
		t[c] = true
	}
	return t
}()

// Param finds a parameter by its lower-case name in a list that starts with a semicolon.
func Param(list []byte, lower string) (value []byte, found bool) {
	for {
		name, v, _, rest, ok := NextParam(list)
		if !ok {
			return nil, false
		}
		if EqualFold(name, lower) {
			return v, true
		}
		list = rest
	}
}

// paramsValid tells if every parameter of the list can be read.
func paramsValid(list []byte) bool {
	for {
		_, _, _, rest, ok := NextParam(list)
		if !ok {
			return len(rest) == 0
		}
		list = rest
	}
}
