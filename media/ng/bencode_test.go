package ng

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBencode(t *testing.T) {
	tests := []struct {
		in   string
		want map[string]any
	}{
		{"d7:command4:pinge", map[string]any{"command": "ping"}},
		{"de", map[string]any{}},
		{"d1:bi-42e1:al0:lei0eee\r\n", map[string]any{"a": []any{"", []any{}, int64(0)}, "b": int64(-42)}},
		{"d1:a3:\x00e:1:bd1:ci9223372036854775807eee", map[string]any{"a": "\x00e:", "b": map[string]any{"c": int64(9223372036854775807)}}},
		{"d1:ai1e1:ai2ee", map[string]any{"a": int64(2)}},
	}
	for _, tt := range tests {
		got, err := decodeBencode([]byte(tt.in))
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%q: %s", tt.in, d)
		}
		again, err := decodeBencode(appendBencode(nil, got))
		if d := cmp.Diff(got, again); d != "" || err != nil {
			t.Errorf("%q: printed and read again: %v %s", tt.in, err, d)
		}
	}
	sorted := appendBencode(nil, map[string]any{"b": "", "a": []any{int64(1), 1.5}, "B": map[string]any{}})
	if string(sorted) != "d1:Bde1:ali1e3:1.5e1:b0:e" {
		t.Errorf("%s", sorted)
	}
}

func TestBencodeErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"i1e", "not a dictionary"},
		{"d", "ends too early"},
		{"d1:a", "ends too early"},
		{"d1:a99:x", "ends too early"},
		{"d1:ai1", "ends too early"},
		{"d1:aie", `integer ""`},
		{"d1:ai+1ee", `integer "+1"`},
		{"d1:ai1.5ee", `integer "1.5"`},
		{"d1:ai99999999999999999999ee", "integer"},
		{"d1:ai9999999999999999999999999ee", "integer too long"},
		{"di1ei2ee", "want the length of a key"},
		{"d1:ax", `'x', want d, l, i or a length`},
		{"d1x:ae", "inside a length"},
		{"d99999999999999999999:a", "string too long"},
		{"dede", "more behind the dictionary"},
		{"d1:a" + strings.Repeat("l", 20), "more than 16 levels"},
		{"d1:al" + strings.Repeat("0:", maxItems+1) + "ee", "more than 16384 items"},
	}
	for _, tt := range tests {
		_, err := decodeBencode([]byte(tt.in))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: %v, want %s", tt.in, err, tt.want)
		}
	}
	if _, _, err := decode(bytes.Repeat([]byte("x"), MaxMessage+1)); err == nil {
		t.Error("a message above the limit was read")
	}
}

func TestJSON(t *testing.T) {
	got, form, err := decode([]byte(` {"a":[1,1.5,"x",null,true],"b":null,"c":{"d":false},"e":12345678901234567890}`))
	want := map[string]any{"a": []any{int64(1), 1.5, "x", "", int64(1)}, "c": map[string]any{"d": int64(0)}, "e": 12345678901234567890.0}
	if d := cmp.Diff(want, got); d != "" || err != nil || form != JSON {
		t.Error(err, form, d)
	}
	for _, bad := range []string{`{"a":`, `{} {}`, `{"a":1e999}`, `{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
		`{"a":[` + strings.Repeat("1,", maxItems) + `1]}`} {
		if _, _, err := decode([]byte(bad)); err == nil {
			t.Errorf("%.40q was read", bad)
		}
	}
}

// Whatever is read can be printed and reads the same again, in both forms where text is UTF-8.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"d7:command4:pinge", "d1:al0:lei0eed1:xi-1eee", `{"command":"ping","a":[1,2.5,{"b":null}]}`, "d3:sdp3:\xff\x00\re", "x", "d1:",
		kamailioOffer, kamailioFlagsOffer} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dict, _, err := decode(b)
		if err != nil {
			return
		}
		out := appendBencode(nil, dict)
		again, err := decodeBencode(out)
		if err != nil && len(out) < MaxMessage {
			t.Fatalf("%q: %v", out, err)
		}
		if err == nil && !bytes.Equal(out, appendBencode(nil, again)) {
			t.Fatalf("%q is not stable", out)
		}
		req, err := requestFrom(dict)
		if direct, _, other := ParseRequest(b); (err == nil) != (other == nil) || err == nil && !reflect.DeepEqual(req, direct) {
			t.Fatalf("read as %+v (%v), by way of a map %+v (%v)", direct, other, req, err)
		}
		if err != nil {
			return
		}
		_ = req.Validate()
		first, err := AppendRequest(nil, req, Bencode)
		if err != nil {
			t.Fatal(err)
		}
		req2, _, err := ParseRequest(first)
		if err != nil {
			t.Fatalf("%q: %v", first, err)
		}
		req.Unknown, req2.Unknown = nil, nil
		second, _ := AppendRequest(nil, req2, Bencode)
		if !bytes.Equal(first, second) {
			t.Fatalf("request %q reads as %q", first, second)
		}
		if resp, err := responseFrom(dict); err == nil {
			one := appendBencode(nil, resp.dict())
			resp2, err := ParseResponse(one)
			if err != nil {
				t.Fatalf("response %q: %v", one, err)
			}
			if two := appendBencode(nil, resp2.dict()); !bytes.Equal(one, two) {
				t.Fatalf("response %q reads as %q", one, two)
			}
		}
	})
}

// The reader of streams ends a message where the decoder does.
func FuzzReadMessage(f *testing.F) {
	for _, s := range []string{"1 d7:command4:pinge", `1 {"a":"}\"","b":[{}]}`, "1 di1ee", "x", "1 d1:al", "12 " + kamailioOffer} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := readMessage(newReader(append(bytes.Clone(b), " rest"...)))
		if err != nil {
			return
		}
		_, body, ok := cutCookie(msg)
		if !ok {
			return
		}
		if _, _, err := decode(body); err == nil {
			if _, _, err := decode(append(bytes.Clone(body), "e"...)); err == nil {
				t.Fatalf("%q: the dictionary goes on behind the end", body)
			}
		}
	})
}

func BenchmarkParseRequest(b *testing.B) {
	in := []byte(kamailioOffer)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseRequest(in); err != nil {
			b.Fatal(err)
		}
	}
}
