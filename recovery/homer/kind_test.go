package homer

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"rtcedge/recovery/hep"
)

// said is a captured message: `INVITE from-tag to-tag`, or `200 INVITE from-tag to-tag`; out of the edge if to is true, with the phone's port.
type said struct {
	start, method, from, to string
	out                     bool
	port                    uint16
}

func (m said) packet(callID string) hep.Packet {
	edge, far := netip.MustParseAddrPort("192.0.2.1:5060"), netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), m.port)
	p := hep.Packet{Source: far, Destination: edge, Protocol: hep.SIP, Time: time.Unix(1000, 0)}
	if m.out {
		p.Source, p.Destination = edge, far
	}
	tag := func(t string) string {
		if t != "" {
			t = ";tag=" + t
		}
		return "<sip:x@example.com;p=1>" + t
	}
	p.Payload = fmt.Appendf(nil, "%s\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nf: \"A >;tag=no\" %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 %s\r\n\r\n", m.start, tag(m.from), tag(m.to), callID, m.method)
	return p
}

func request(method, from, to string) said {
	return said{method + " sip:x SIP/2.0", method, from, to, false, 5060}
}

func response(code int, method, from, to string) said {
	return said{fmt.Sprintf("SIP/2.0 %d Text", code), method, from, to, true, 5060}
}

func feed(s *Store, now time.Time, callID string, messages ...said) {
	for _, m := range messages {
		s.add(m.packet(callID), now)
	}
}

// TestB53StrangersPushOutNoCall: INVITEs that are refused, rung at or never answered, and answers that nobody asked for, fill the memory: a call that says
// nothing stays, and one that rings as well.
func TestB53StrangersPushOutNoCall(t *testing.T) {
	now := time.Unix(1000, 0)
	s := NewStore(StoreConfig{MaxBytes: 100_000})
	feed(s, now, "live", request("INVITE", "a", ""), response(180, "INVITE", "a", "b"), response(200, "INVITE", "a", "b"), request("ACK", "a", "b"))
	feed(s, now, "rings", request("INVITE", "a", ""), response(100, "INVITE", "a", ""), response(180, "INVITE", "a", "b"))
	for i := range 5000 {
		id := fmt.Sprint("scan", i)
		switch i % 5 {
		case 0:
			feed(s, now, id, request("INVITE", "a", ""), response(401, "INVITE", "a", "b"), request("ACK", "a", "b"))
		case 1:
			feed(s, now, id, request("INVITE", "a", ""), response(100, "INVITE", "a", ""), response(404, "INVITE", "a", "b"))
		case 2:
			feed(s, now, id, request("INVITE", "a", ""))
		case 3: // he answers himself
			fake := said{"SIP/2.0 200 OK", "INVITE", "a", "b", false, 5060}
			feed(s, now, id, fake, request("INVITE", "a", ""), fake)
		case 4:
			feed(s, now, id, request("INVITE", "a", ""), response(180, "INVITE", "a", "b"), request("CANCEL", "a", ""), response(487, "INVITE", "a", "b"))
		}
	}
	if st := s.Stats(); len(messages(t, s, "live")) != 4 || len(messages(t, s, "rings")) != 3 || st.Bytes > 100_000 || st.Evicted[kindOther] < 4000 {
		t.Fatalf("live %d, rings %d, %+v", len(messages(t, s, "live")), len(messages(t, s, "rings")), st)
	}
}

// TestB53WhatEndsACall: a BYE that was accepted, of the last dialog that lives, and nothing else. What ended is forgotten after MaxAge.
func TestB53WhatEndsACall(t *testing.T) {
	up := []said{request("INVITE", "a", ""), response(200, "INVITE", "a", "b"), request("ACK", "a", "b")}
	forked := append(up, response(200, "INVITE", "a", "loser"), request("ACK", "a", "loser"), request("BYE", "a", "loser"), response(200, "BYE", "a", "loser"))
	bye := []said{request("BYE", "b", "a"), response(200, "BYE", "b", "a")}
	for name, tt := range map[string]struct {
		messages []said
		kept     bool
	}{
		"up":                                   {up, true},
		"a BYE":                                {append(up, bye...), false},
		"a BYE by the caller":                  {append(up, request("BYE", "a", "b"), response(200, "BYE", "a", "b")), false},
		"a BYE without an answer":              {append(up, bye[0]), true},
		"a stranger's BYE":                     {append(up, request("BYE", "evil", "b"), response(481, "BYE", "evil", "b")), true},
		"a stranger's BYE and his own answer":  {append(up, bye[0], said{"SIP/2.0 200 OK", "BYE", "b", "a", false, 5061}), true},
		"a BYE to the loser of a fork":         {forked, true},
		"then one to the winner":               {append(forked, bye...), false},
		"a re-INVITE that is accepted behind":  {append(up, bye[0], bye[1], request("INVITE", "a", "b"), response(200, "INVITE", "a", "b")), true},
		"a re-INVITE that is refused":          {append(up, request("INVITE", "a", "b"), response(488, "INVITE", "a", "b")), true},
		"a re-INVITE that rings, of an ended":  {append(up, bye[0], bye[1], request("INVITE", "a", "b"), response(180, "INVITE", "a", "b")), false},
		"an INVITE that nobody answers":        {up[:1], false},
		"a second answer, retransmitted twice": {append(up, up[1], up[1], bye[0], bye[1]), false},
	} {
		now := time.Unix(1000, 0)
		s := NewStore(StoreConfig{})
		feed(s, now, "c", tt.messages...)
		feed(s, now.Add(11*time.Minute), "other", request("OPTIONS", "x", ""))
		if kept := len(messages(t, s, "c")); kept != len(tt.messages) && kept != 0 || kept != 0 != tt.kept {
			t.Errorf("%s: %d of %d messages are kept", name, kept, len(tt.messages))
		}
	}
}

// TestB53DialogsAreBounded: a Call-ID with many answers costs no memory without end.
func TestB53DialogsAreBounded(t *testing.T) {
	s := NewStore(StoreConfig{})
	feed(s, time.Unix(1000, 0), "c", request("INVITE", "a", ""))
	for i := range 1000 {
		feed(s, time.Unix(1000, 0), "c", response(200, "INVITE", "a", fmt.Sprint("b", i)))
	}
	if n := len(s.calls["c"].dialogs); n != maxDialogs {
		t.Errorf("%d dialogs", n)
	}
}

func FuzzKind(f *testing.F) {
	f.Add([]byte("SIP/2.0 200 OK\r\nf: <x>;tag=a\r\nTo: y;tag = b;c\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n"))
	f.Add([]byte("SIP/2.0 2"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := NewStore(StoreConfig{})
		p := hep.Packet{Protocol: hep.SIP, Payload: raw, CorrelationID: []byte("c")}
		s.Add(p)
		s.Add(p)
		if code := status(raw); code < 0 || code > 999 {
			t.Fatal(code)
		}
	})
}

// BenchmarkAdd is what a captured message takes: a request, and an answer, which is looked into.
func BenchmarkAdd(b *testing.B) {
	for _, m := range []said{request("INVITE", "a", ""), response(200, "INVITE", "a", "b")} {
		b.Run(m.start, func(b *testing.B) {
			s := NewStore(StoreConfig{})
			now := time.Unix(1000, 0)
			p := m.packet("c")
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%16 == 0 {
					s.calls = map[string]*call{}
				}
				s.add(p, now)
			}
		})
	}
}
