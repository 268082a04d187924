package message

import (
	"bytes"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, b := range readTorture(f) {
		f.Add(b)
	}
	f.Add(bigInvite())
	m, s := new(Message), new(Splice)
	f.Fuzz(func(t *testing.T, b []byte) {
		fault := m.Parse(b)
		for _, x := range m.Fields() {
			if x.Start > x.NameEnd || x.NameEnd > x.End || x.Val > x.ValEnd && x.Val > x.End || int(x.End) > len(b) {
				t.Fatalf("field %+v", x)
			}
		}
		if fault != FaultNone {
			return
		}
		// Without edits the message leaves as it came, and it reads the same again.
		s.Reset()
		out, ok := s.Append(make([]byte, 0, len(b)), m)
		if !ok || !bytes.Equal(out, m.Bytes()) {
			t.Fatalf("an unedited message changed")
		}
		again := new(Message)
		if fault := again.Parse(out); fault != FaultNone || again.n != m.n || !bytes.Equal(again.Body(), m.Body()) {
			t.Fatalf("reads differently the second time: %v", fault)
		}
	})
}

// FuzzForward: what the proxy makes of a sane request is sane, with the same fields behind its own.
func FuzzForward(f *testing.F) {
	for _, b := range readTorture(f) {
		f.Add(b)
	}
	f.Add(bigInvite())
	m, again, s := new(Message), new(Message), new(Splice)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m.Parse(b) != FaultNone || !m.Request() || m.First(MaxForwards) == nil || m.MaxForwards() < 1 || !m.Via().HasRPort || m.n > MaxFields-8 {
			return
		}
		if v, has := Param(m.Via().Params, "rport"); has && len(v) > 0 {
			return
		}
		out, ok := forward(s, m, make([]byte, 0, len(b)+2048))
		if !ok {
			t.Fatal("no room")
		}
		if fault := again.Parse(out); fault != FaultNone {
			t.Fatalf("%v:\n%s", fault, out)
		}
		if again.n != m.n+5 || again.MaxForwards() != m.MaxForwards()-1 || !bytes.Equal(again.CallID(), m.CallID()) ||
			!bytes.Equal(again.Body(), m.Body()) {
			t.Fatalf("changed:\n%s", out)
		}
	})
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"sip:600@edge", "sips:a:b@[::1]:5061;transport=tls?x=y", "tel:+49;x=y", "sip:a;b@c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var u URI
		if u.Parse(b) && u.Scheme == SchemeSIP && len(u.Host) == 0 {
			t.Fatal("a sip URI without a host")
		}
		u.Param("transport")
	})
}

func FuzzVia(f *testing.F) {
	for _, s := range []string{"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport", "SIP / 2.0 / TCP [::1] : 5060 ; received=1.2.3.4", "SIP/2.0/UDP x;;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v Via
		if v.Parse(b) && len(v.Host) == 0 {
			t.Fatal("a Via without a host")
		}
	})
}

func FuzzRoute(f *testing.F) {
	for _, s := range []string{"<sip:a;lr>, <sip:b;lr>", "\"x, y\" <sip:a;lr>;p=\"1,2\" , sip:b", "<sip:a", "*"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			v, next, ok := NextValue(rest)
			if !ok {
				return
			}
			if len(next) >= len(rest) {
				t.Fatal("no progress")
			}
			var a NameAddr
			if _, ok := a.Parse(v); ok && len(a.URI) == 0 {
				t.Fatal("an address without a URI")
			}
			rest = next
		}
	})
}
