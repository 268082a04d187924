package ng

import (
	"reflect"
	"testing"
	"time"
)

// TestB22PlainResponse: the short way to write an answer writes what the long one does, whichever field is set.
func TestB22PlainResponse(t *testing.T) {
	check := func(name string, r *Response) {
		got, err := AppendResponse([]byte("1 "), r, Bencode)
		if want := "1 " + string(appendBencode(nil, r.dict())); err != nil || string(got) != want {
			t.Errorf("%s: %s, want %s (%v)", name, got, want, err)
		}
	}
	values := map[string]any{
		"Result": "ok", "ErrorReason": "no", "Warning": "w", "Message": "m", "SDP": []byte("v=0\r\n"), "Calls": []string{"a"},
		"Duration": time.Second, "Statistics": map[string]any{"a": int64(1)}, "Subscribed": &Subscribed{ToTag: "t"}, "Call": &CallInfo{}, "Heard": &Heard{},
	}
	all := new(Response)
	for i := range reflect.TypeFor[Response]().NumField() {
		name := reflect.TypeFor[Response]().Field(i).Name
		v, ok := values[name]
		if !ok {
			t.Fatalf("a new field %s: does plain know it? Give it a value here", name)
		}
		one := &Response{Result: "ok"}
		reflect.ValueOf(one).Elem().Field(i).Set(reflect.ValueOf(v))
		check(name, one)
		if one.plain() {
			reflect.ValueOf(all).Elem().Field(i).Set(reflect.ValueOf(v))
		}
	}
	check("all that is plain", all)
}
