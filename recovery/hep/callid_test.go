package hep

import (
	"bytes"
	"strings"
	"testing"
)

func TestB12CallID(t *testing.T) {
	head := "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c\r\n"
	for name, tt := range map[string]struct{ in, want string }{
		"long":                {invite, "asidkj3ss@192.0.2.4"},
		"response":            {"SIP/2.0 200 OK\r\nCall-ID: x\r\n\r\n", "x"},
		"compact":             {head + "i:x\r\n\r\n", "x"},
		"compact upper":       {head + "I \t: x \t\r\n\r\n", "x"},
		"any case":            {head + "cALL-iD  :  x\r\n\r\n", "x"},
		"bare LF":             {"INVITE sip:a@b SIP/2.0\nVia: c\nCall-ID: x\n\n", "x"},
		"folded":              {head + "Call-ID:\r\n \r\n\tx\r\n\r\n", "x"},
		"not a folded one":    {head + "Subject: a\r\n Call-ID: y\r\nCall-ID: x\r\n\r\n", "x"},
		"first of two":        {head + "Call-ID: x\r\ni: y\r\n\r\n", "x"},
		"last line without":   {head + "i: x", "x"},
		"none":                {head + "\r\n", ""},
		"empty":               {head + "Call-ID: \r\nTo: x\r\n\r\n", ""},
		"empty at the end":    {head + "Call-ID:", ""},
		"only in the body":    {head + "\r\nCall-ID: x\r\n\r\n", ""},
		"start line only":     {"Call-ID: x", ""},
		"longer names":        {head + "Call-IDs: y\r\nCall-Info: z\r\nIn: v\r\nx-Call-ID: w\r\n\r\n", ""},
		"no colon":            {head + "Call-ID x\r\ni\r\n\r\n", ""},
		"nothing":             {"", ""},
		"keepalive":           {"\r\n\r\n", ""},
		"a NUL is not judged": {head + "i: a\x00b\r\n\r\n", "a\x00b"},
	} {
		if got := CallID([]byte(tt.in)); string(got) != tt.want || (got != nil) != (tt.want != "") {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestField: names that begin with their own compact form, and those without one.
func TestField(t *testing.T) {
	const head = "SIP/2.0 200 OK\r\nFoo: no\r\nf: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCSEQ: 7 INVITE\r\nfrom: no\r\n\r\nServer: no\r\n"
	for name, tt := range map[string]struct {
		short byte
		want  string
	}{"from": {'f', "<sip:a@b>;tag=1"}, "to": {'t', "<sip:c@d>;tag=2"}, "cseq": {0, "7 INVITE"}, "server": {0, ""}} {
		if got := Field([]byte(head), name, tt.short); string(got) != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestCallIDIsView: the result shares the message's memory.
func TestCallIDIsView(t *testing.T) {
	b := []byte(invite)
	id := CallID(b)
	if at := strings.Index(invite, "asidkj"); &id[0] != &b[at] {
		t.Error("a copy")
	}
}

func FuzzCallID(f *testing.F) {
	f.Add([]byte(invite))
	f.Add([]byte("x\ni:\n\tx\n"))
	f.Add([]byte("x\r\nCall-ID \t:\r\n \r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id := CallID(b)
		if id == nil {
			return
		}
		if len(id) == 0 || !bytes.Contains(b, id) || bytes.IndexByte(id, '\n') >= 0 || blank(id[0]) || blank(id[len(id)-1]) {
			t.Fatalf("%q", id)
		}
	})
}

func BenchmarkCallID(b *testing.B) {
	in := []byte(invite)
	b.ReportAllocs()
	for b.Loop() {
		CallID(in)
	}
}
