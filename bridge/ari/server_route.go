package ari

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Functions of this file occur in the order in which a request meets them.

// Route is one operation of ARI.
type Route struct {
	Method string
	Path   string                        // below /ari/, with {names}: channels/{channelId}/answer
	Do     func(r *Request) (any, error) // what it returns is printed as JSON; nil is 204; *Created, *File and *Error have forms of their own
}

// Created is an answer with status 201.
type Created struct{ Body any }

// File is an answer that is no JSON. It is closed after it was sent.
type File struct {
	Type string
	Size int64
	Body io.ReadCloser
}

// Refuse makes a refusal in Asterisk's form.
func Refuse(status int, format string, args ...any) error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// compiled is a route whose path is cut into segments.
type compiled struct {
	Route
	segments []string
}

// compile cuts the paths. Routes without names come first, so that channels/externalMedia is not taken for a channel's name.
func compile(routes []Route) []compiled {
	out := make([]compiled, len(routes))
	for i, r := range routes {
		out[i] = compiled{Route: r, segments: strings.Split(r.Path, "/")}
	}
	slices.SortStableFunc(out, func(a, b compiled) int { return strings.Count(a.Path, "{") - strings.Count(b.Path, "{") })
	return out
}

// find matches a path. Without a match for the method it tells if there is one for another.
func (s *Server) find(method, escaped string) (do func(*Request) (any, error), names map[string]string, known bool) {
	rest, ok := strings.CutPrefix(escaped, "/ari/")
	if !ok {
		return nil, nil, false
	}
	got := strings.Split(rest, "/")
	for i := range got {
		var err error
		if got[i], err = url.PathUnescape(got[i]); err != nil || got[i] == "" {
			return nil, nil, false
		}
	}
	for _, c := range s.routes {
		if len(c.segments) != len(got) {
			continue
		}
		match, found := true, map[string]string{}
		for i, seg := range c.segments {
			if name, isName := strings.CutPrefix(seg, "{"); isName {
				found[strings.TrimSuffix(name, "}")] = got[i]
			} else if seg != got[i] {
				match = false
				break
			}
		}
		switch {
		case match && c.Method == method:
			return c.Do, found, true
		case match:
			known = true
		}
	}
	return nil, nil, known
}

// answer runs one request of any origin: HTTP, or REST over the event socket.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	do, names, known := s.find(r.Method, r.URL.EscapedPath())
	switch {
	case do == nil && known:
		refuse(w, http.StatusMethodNotAllowed, "Invalid method")
		return
	case do == nil:
		refuse(w, http.StatusNotFound, "Resource not found")
		return
	}
	req, err := readRequest(r, names)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	v, err := do(req)
	if err == nil {
		reply(w, v)
		return
	}
	if no := (*Error)(nil); errors.As(err, &no) {
		refuse(w, no.Status, no.Message)
		return
	}
	s.cfg.Logger.Warn("ari request", "method", r.Method, "path", r.URL.Path, "error", err)
	refuse(w, http.StatusInternalServerError, "Internal Server Error")
}

// Request is what a client asks for. A parameter may come in the query or in a JSON body, as with Asterisk; the body wins.
type Request struct {
	names  map[string]string
	values map[string][]string
	lists  map[string]bool // came as they are, not to be cut at commas
	vars   map[string]string
}

// readRequest reads query and body. They come from strangers: whatever they are, the answer is a request or an error.
func readRequest(r *http.Request, names map[string]string) (*Request, error) {
	req := &Request{names: names, values: map[string][]string{}, lists: map[string]bool{}, vars: map[string]string{}}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errors.New("query string cannot be read")
	}
	maps.Copy(req.values, query)
	if r.Body == nil {
		return req, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("body cannot be read, or is longer than %d bytes", maxBody)
	}
	if len(body) == 0 {
		return req, nil
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, errors.New("form cannot be read")
		}
		maps.Copy(req.values, form)
		return req, nil
	}
	return req, req.readJSON(body)
}

func (r *Request) readJSON(body []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return errors.New("JSON body cannot be read")
	}
	for name, raw := range fields {
		var list []json.RawMessage
		switch {
		case name == "variables":
			var vars map[string]json.RawMessage
			if err := json.Unmarshal(raw, &vars); err != nil {
				return errors.New("variables is no object of names and values")
			}
			for k, v := range vars {
				text, err := scalar(v)
				if err != nil {
					return fmt.Errorf("variables: %s is no string or number", k)
				}
				r.vars[k] = text
			}
		case json.Unmarshal(raw, &list) == nil && list != nil:
			r.values[name], r.lists[name] = nil, true
			for _, item := range list {
				text, err := scalar(item)
				if err != nil {
					text = string(item) // an object: eventFilter's lists are read from the raw text
				}
				r.values[name] = append(r.values[name], text)
			}
		default:
			text, err := scalar(raw)
			if err != nil {
				text = string(raw)
			}
			r.values[name], r.lists[name] = []string{text}, true
		}
	}
	return nil
}

// scalar reads a JSON string, number or truth value as text.
func scalar(raw json.RawMessage) (string, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strings.TrimSpace(string(raw)), nil
	case nil:
		return "", nil
	}
	return "", errors.New("not a scalar")
}

// Name is a part of the path.
func (r *Request) Name(name string) string { return r.names[name] }

// Has tells if a parameter was given.
func (r *Request) Has(name string) bool { return len(r.values[name]) > 0 }

// Text is a parameter's first value; "" if it was not given.
func (r *Request) Text(name string) string {
	if v := r.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Or is a parameter's first value, or another one if it was not given.
func (r *Request) Or(name, other string) string {
	if v := r.Text(name); v != "" {
		return v
	}
	return other
}

// List are a parameter's values: repeated, a JSON list, or separated by commas in the query.
func (r *Request) List(name string) []string {
	var out []string
	for _, v := range r.values[name] {
		if r.lists[name] {
			out = append(out, v)
			continue
		}
		for part := range strings.SplitSeq(v, ",") {
			if part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// Int is a number within bounds.
func (r *Request) Int(name string, other, low, high int) (int, error) {
	text := r.Text(name)
	if text == "" {
		return other, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, Refuse(http.StatusBadRequest, "%s: %q is no number from %d to %d", name, text, low, high)
	}
	return n, nil
}

// Bool is a truth value as Asterisk reads it.
func (r *Request) Bool(name string) bool {
	switch strings.ToLower(r.Text(name)) {
	case "true", "yes", "1", "y", "t", "on":
		return true
	}
	return false
}

// Variables are those of the body.
func (r *Request) Variables() map[string]string { return r.vars }

func reply(w http.ResponseWriter, v any) {
	status := http.StatusOK
	switch answer := v.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
		return
	case *File:
		defer answer.Body.Close()
		w.Header().Set("Content-Type", answer.Type)
		w.Header().Set("Content-Length", strconv.FormatInt(answer.Size, 10))
		_, _ = io.CopyN(w, answer.Body, answer.Size) // a client that went away needs no answer
		return
	case *Created:
		status, v = http.StatusCreated, answer.Body
	}
	body, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "Internal Server Error")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func refuse(w http.ResponseWriter, status int, message string) {
	body, _ := json.Marshal(errorBody{Message: message}) // a string always marshals
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// HangupCause reads reason_code and reason as ast_ari_channels_hangup in resource_channels.c does.
func HangupCause(r *Request) (int, error) {
	bad := Refuse(http.StatusBadRequest, "Invalid reason for hangup reason provided")
	if code := r.Text("reason_code"); code != "" {
		n, err := strconv.Atoi(code)
		if err != nil || n < 1 || n > 127 {
			return 0, bad
		}
		return n, nil
	}
	if n, ok := hangupReasons()[r.Or("reason", "normal")]; ok {
		return n, nil
	}
	return 0, bad
}

// hangupReasons are the words that ARI takes in place of a Q.850 cause.
func hangupReasons() map[string]int {
	return map[string]int{
		"normal": 16, "busy": 17, "congestion": 34, "no_answer": 19, "timeout": 18, "rejected": 21, "unallocated": 1,
		"normal_unspecified": 31, "number_incomplete": 28, "codec_mismatch": 58, "interworking": 127, "failure": 38,
		"answered_elsewhere": 26,
	}
}
