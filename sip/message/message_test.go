package message

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

const sdpBody = "v=0\r\no=- 3901 1 IN IP4 192.0.2.17\r\ns=-\r\nc=IN IP4 192.0.2.17\r\nt=0 0\r\nm=audio 40000 RTP/AVP 96 9 0 8 101\r\n" +
	"a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n" +
	"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\na=rtcp:40001 IN IP4 192.0.2.17\r\n" +
	"a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=candidate:1 1 UDP 2130706431 192.0.2.17 40000 typ host\r\n" +
	"a=candidate:1 2 UDP 2130706430 192.0.2.17 40001 typ host\r\na=candidate:2 1 UDP 1694498815 203.0.113.141 40000 typ srflx raddr 192.0.2.17\r\n"

// bigInvite has 1,400 bytes, as a softphone sends it.
func bigInvite() []byte {
	head := "INVITE sip:600@edge.example.com;transport=udp SIP/2.0\r\n" +
		"Via: SIP/2.0/UDP 192.0.2.17:5062;branch=z9hG4bKnashds8f0a9d8f7;rport\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: \"Alice Example\" <sip:1001@edge.example.com>;tag=9fxced76sl\r\n" +
		"To: <sip:600@edge.example.com>\r\n" +
		"Call-ID: 3848276298220188511@192.0.2.17\r\n" +
		"CSeq: 20 INVITE\r\n" +
		"Contact: <sip:1001@192.0.2.17:5062;transport=udp>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"\r\n" +
		"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, REFER, SUBSCRIBE, NOTIFY, INFO, MESSAGE\r\n" +
		"Supported: replaces, timer, gruu, outbound\r\n" +
		"Allow-Events: talk, hold, conference, refer\r\n" +
		"Session-Expires: 1800\r\nMin-SE: 90\r\n" +
		"Accept: application/sdp, application/dtmf-relay\r\n" +
		"User-Agent: softphone 4.5.1 8a2\r\n" +
		"P-Preferred-Identity: <sip:1001@edge.example.com>\r\n" +
		"Content-Type: application/sdp\r\n"
	return []byte(head + "Content-Length: " + itoa(len(sdpBody)) + "\r\n\r\n" + sdpBody)
}

func itoa(n int) string {
	s := ""
	for ; n > 0; n /= 10 {
		s = string(rune('0'+n%10)) + s
	}
	return s
}

// edit does what the proxy does to a request.
func forward(s *Splice, m *Message, dst []byte) ([]byte, bool) {
	s.Reset()
	via := m.First(ViaField)
	s.Cut(int(via.Start), int(via.Start))
	s.Str("Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKAAAAAAAAAAAAAAAAAAAAAA;vb=AAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n")
	at := m.At(m.Via().RPortName) + 5
	s.Cut(at, at)
	s.Str("=")
	s.Num(5062)
	s.Str(";received=")
	s.Addr(netip.AddrFrom4([4]byte{192, 0, 2, 17}))
	s.Cut(m.HeaderAt(), m.HeaderAt())
	s.Str("Record-Route: <sip:198.51.100.1:5060;lr;vb=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA>\r\n")
	mf := m.First(MaxForwards)
	s.Cut(int(mf.Val), int(mf.ValEnd))
	s.Num(m.MaxForwards() - 1)
	s.Cut(m.HeaderEnd(), m.HeaderEnd())
	s.Str("VB-Source: 192.0.2.17:5062\r\nVB-Transport: udp\r\nVB-Domain: edge.example.com\r\n")
	return s.Append(dst, m)
}

func TestSpliceKeepsTheRest(t *testing.T) {
	var m Message
	var s Splice
	in := bigInvite()
	if f := m.Parse(in); f != FaultNone {
		t.Fatal(f)
	}
	out, ok := forward(&s, &m, make([]byte, 0, 4096))
	if !ok {
		t.Fatal("no room")
	}
	got := string(out)
	for _, undo := range []string{
		"Record-Route: <sip:198.51.100.1:5060;lr;vb=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA>\r\n",
		"Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKAAAAAAAAAAAAAAAAAAAAAA;vb=AAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
		"=5062;received=192.0.2.17", "VB-Source: 192.0.2.17:5062\r\nVB-Transport: udp\r\nVB-Domain: edge.example.com\r\n",
	} {
		if strings.Count(got, undo) != 1 {
			t.Errorf("%q stands %d times", undo, strings.Count(got, undo))
		}
		got = strings.Replace(got, undo, "", 1)
	}
	got = strings.Replace(got, "Max-Forwards: 69", "Max-Forwards: 70", 1)
	if got != string(in) {
		t.Errorf("the rest changed:\n%s", got)
	}
}

func TestSpliceBounds(t *testing.T) {
	var m Message
	var s Splice
	m.Parse(bigInvite())
	if _, ok := forward(&s, &m, make([]byte, 0, len(m.Bytes()))); ok {
		t.Error("written beyond the buffer")
	}
	s.Reset()
	for range maxEdits + 1 {
		s.Cut(0, 0)
	}
	if _, ok := s.Append(make([]byte, 0, 4096), &m); ok {
		t.Error("more edits than there is room for")
	}
	s.Reset()
	s.Cut(0, 0)
	s.Put(make([]byte, maxScratch+1))
	if _, ok := s.Append(make([]byte, 0, 65536), &m); ok {
		t.Error("more text than there is room for")
	}
}

// TestB14Duplicates: a second From, To, Call-ID, CSeq or Max-Forwards is a fault, in the compact form as well.
func TestB14Duplicates(t *testing.T) {
	var m Message
	for _, line := range []string{"From: <sip:a@b>;tag=1", "f: <sip:a@b>;tag=1", "To: <sip:a@b>", "t:<sip:a@b>", "Call-ID: x", "i : x",
		"CSeq: 20 INVITE", "cseq:20 INVITE", "Max-Forwards: 70", "MAX-FORWARDS : 1", "l: 0"} {
		b := bytes.Replace(bigInvite(), []byte("Supported:"), []byte(line+"\r\nSupported:"), 1)
		if f := m.Parse(b); f != FaultDuplicate {
			t.Errorf("%s: %v", line, f)
		}
	}
}

// TestKnownNames: the hash is perfect for the names that are told apart, and every spelling of them is known.
func TestKnownNames(t *testing.T) {
	for _, n := range fieldNames {
		for _, name := range []string{n.usual, strings.ToLower(n.usual), strings.ToUpper(n.usual)} {
			if k := kindOf([]byte(name)); k != n.kind {
				t.Errorf("%s: kind %d, want %d", name, k, n.kind)
			}
			line := []byte(name + ": 0123456789 0123456789\r\n")
			if at, k := fieldName(line); at != len(name) || k != n.kind {
				t.Errorf("%s: fieldName says %d, kind %d, want %d", name, at, k, n.kind)
			}
		}
	}
	for _, name := range otherNames {
		if got := knownNames[nameSlot(len(name), name[0], name[len(name)-1])].lower; got != strings.ToLower(name) {
			t.Errorf("%s has lost its slot to %s", name, got)
		}
		if at, k := fieldName([]byte(name + ": 0123456789 0123456789\r\n")); at != len(name) || k != Other {
			t.Errorf("%s: fieldName says %d, kind %d", name, at, k)
		}
	}
	for _, line := range []string{":012345678901234567890123456789", "Bad Name: 0123456789012345", "Call\rID: 0123456789012345", "No-Colon 012345678901234567890"} {
		if at, _ := fieldName([]byte(line)); at != 0 {
			t.Errorf("%q: %d", line, at)
		}
	}
}

// TestB02Spellings: every spelling of an internal header field is recognised.
func TestB02Spellings(t *testing.T) {
	var m Message
	for line, want := range map[string]int{
		"VB-Source: x": 1, "vb-source:x": 1, "Vb-SoUrCe \t : x": 1, "VB-CALL-ID: x": 1, "VB-CONFBRIDGE-ID:\r\n x": 1,
		"VBOUT-Anything: x": 1, "vbout-x:1": 1, "VBOUT: x": 0, "VB: x": 0, "X-VB-Source: x": 0, "VB-Abcde: x": 1,
		"VB-: x": 0, "VB-Domain: a\r\n\tb": 1, "VB-S: 1\r\nvb-s: 2": 2,
	} {
		b := bytes.Replace(bigInvite(), []byte("Supported:"), []byte(line+"\r\nSupported:"), 1)
		if f := m.Parse(b); f != FaultNone {
			t.Errorf("%s: %v", line, f)
		}
		if m.Count(Internal) != want {
			t.Errorf("%s: counted %d", line, m.Count(Internal))
		}
	}
}

func TestURI(t *testing.T) {
	for _, c := range []struct {
		in, user, host string
		port           uint16
		ok             bool
	}{
		{"sip:600@edge.example.com", "600", "edge.example.com", 0, true},
		{"sips:alice:secret@[2001:db8::1]:5061;transport=tls", "alice", "2001:db8::1", 5061, true},
		{"sip:[::1]", "", "::1", 0, true},
		{"sip:edge:5060", "", "edge", 5060, true},
		{"sip:a;b=c?d@host?subject=x", "a;b=c?d", "host", 0, true},
		{"tel:+49301234;phone-context=x", "+49301234", "", 0, true},
		{"sip:@host", "", "", 0, false},
		{"sip:", "", "", 0, false},
		{"sip:a@host:99999", "", "", 0, false},
		{"sip:a@[::1", "", "", 0, false},
		{"sip:a@[xyz]", "", "", 0, false},
		{"sip:a b@host", "", "", 0, false},
		{"a@host", "", "", 0, false},
	} {
		var u URI
		ok := u.Parse([]byte(c.in))
		if ok != c.ok || ok && (string(u.User) != c.user || string(u.Host) != c.host || u.Port != c.port) {
			t.Errorf("%s: %v %q %q %d", c.in, ok, u.User, u.Host, u.Port)
		}
	}
}

func TestParseAddr(t *testing.T) {
	for _, s := range []string{"127.0.0.1", "1.2.3", "256.1.1.1", "1.2.3.4.5", "", "::", "::1", "2001:db8::1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9", "::ffff:192.0.2.1", "fe80::1%eth0", "1::2::3", ":1", "1:", "12345::", "1::", "::1.2.3", "1:2:3:4:5:6:1.2.3.4", "0001.2.3.4"} {
		got, ok := ParseAddr([]byte(s))
		want, err := netip.ParseAddr(s)
		if want.Zone() != "" {
			continue
		}
		if ok != (err == nil) || ok && got != want {
			t.Errorf("%q: %v %v, netip says %v %v", s, got, ok, want, err)
		}
	}
}

func TestZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	in := bigInvite()
	m, s := new(Message), new(Splice)
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(200, func() {
		if m.Parse(in) != FaultNone {
			t.Fatal("fault")
		}
		if _, ok := forward(s, m, dst); !ok {
			t.Fatal("no room")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSpeedInvite: the message of the benchmarks is one of 1.4 kB.
func TestSpeedInvite(t *testing.T) {
	if n := len(bigInvite()); n != 1400 {
		t.Errorf("%d bytes", n)
	}
}

func BenchmarkParse1400(b *testing.B) {
	in := bigInvite()
	m := new(Message)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		m.Parse(in)
	}
}

// BenchmarkParseSplice1400 is what the edge spends on reading an INVITE of 1.4 kB and writing it again: 1 us is wanted.
func BenchmarkParseSplice1400(b *testing.B) {
	in := bigInvite()
	m, s := new(Message), new(Splice)
	dst := make([]byte, 0, 4096)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		m.Parse(in)
		forward(s, m, dst)
	}
}
