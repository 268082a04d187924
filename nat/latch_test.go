package nat

import (
	"net/netip"
	"testing"
	"time"
)

var (
	sdpPublic  = netip.MustParseAddrPort("198.51.100.7:4000")
	sdpPrivate = netip.MustParseAddrPort("192.168.1.20:4000")
	home       = netip.MustParseAddr("203.0.113.9") // the public address of a NAT
	attacker   = netip.MustParseAddrPort("192.0.2.66:31337")
	start      = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// latchStep is a packet, or a signalling update where Expected is set.
type latchStep struct {
	ms        int
	from      string
	auth      bool
	expected  string
	signalled string
	want      Verdict
	dest      string // "" is not looked at
}

func TestB33Latch(t *testing.T) {
	private := LatchConfig{Expected: sdpPrivate, Signalling: home}
	for _, tc := range []struct {
		name  string
		cfg   LatchConfig
		steps []latchStep
	}{
		{"the SDP's address locks at once", LatchConfig{Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "198.51.100.7:4000", want: Learn, dest: "198.51.100.7:4000"},
			{ms: 1, from: "198.51.100.7:4002", want: Drop},
			{ms: 9000, from: "192.0.2.66:4000", want: Drop, dest: "198.51.100.7:4000"},
		}},
		{"another port of the SDP's address is taken until the right one sends", LatchConfig{Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "198.51.100.7:5000", want: Learn, dest: "198.51.100.7:5000"},
			{ms: 10, from: "198.51.100.7:5002", want: Drop},
			{ms: 20, from: "198.51.100.7:4000", want: Learn, dest: "198.51.100.7:4000"},
			{ms: 40, from: "198.51.100.7:5000", want: Drop},
		}},
		{"the window closes", LatchConfig{Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "198.51.100.7:5000", want: Learn},
			{ms: 3000, from: "198.51.100.7:5000", want: Accept},
			{ms: 3020, from: "198.51.100.7:4000", want: Drop, dest: "198.51.100.7:5000"},
		}},
		{"behind NAT the address of signalling counts", private, []latchStep{
			{ms: 0, from: "192.0.2.66:31337", want: Drop, dest: "192.168.1.20:4000"},
			{ms: 900, from: "192.0.2.66:31337", want: Drop},
			{ms: 1000, from: "203.0.113.9:61000", want: Learn, dest: "203.0.113.9:61000"},
			{ms: 1020, from: "192.0.2.66:31337", want: Drop},
		}},
		{"a stranger gets in after the patience and gives way", private, []latchStep{
			{ms: 0, from: "192.0.2.66:31337", want: Drop},
			{ms: 4990, from: "192.0.2.66:31337", want: Drop},
			{ms: 5000, from: "192.0.2.66:31337", want: Learn, dest: "192.0.2.66:31337"},
			{ms: 5010, from: "192.0.2.67:31337", want: Drop},
			{ms: 60000, from: "203.0.113.9:61000", want: Learn, dest: "203.0.113.9:61000"},
			{ms: 60010, from: "192.0.2.66:31337", want: Drop},
		}},
		{"nothing to compare with: a short probation", LatchConfig{Expected: sdpPrivate}, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Drop},
			{ms: 100, from: "203.0.113.9:61000", want: Drop},
			{ms: 200, from: "192.0.2.66:31337", want: Drop},
			{ms: 260, from: "203.0.113.9:61000", want: Learn, dest: "203.0.113.9:61000"},
			{ms: 9000, from: "192.0.2.66:31337", want: Drop},
			{ms: 9100, from: "203.0.113.9:4000", want: Learn}, // the SDP's port, which a spray does not know
		}},
		{"a host that sends from another of its addresses (baresip): the SDP's port is enough", private, []latchStep{
			{ms: 0, from: "198.51.100.7:4000", want: Learn, dest: "198.51.100.7:4000"},
			{ms: 20, from: "192.0.2.66:31337", want: Drop},
			{ms: 4000, from: "198.51.100.7:4000", want: Accept},
			{ms: 4020, from: "192.0.2.66:4000", want: Drop},
		}},
		{"plain NAT rebinding is refused, authenticated is followed", private, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Learn},
			{ms: 4000, from: "203.0.113.9:61000", want: Accept},
			{ms: 5000, from: "203.0.113.9:61777", want: Drop},
			{ms: 5000, from: "203.0.113.9:61777", auth: true, want: Learn, dest: "203.0.113.9:61777"},
			{ms: 5020, from: "203.0.113.9:61777", auth: true, want: Accept},
			{ms: 5040, from: "192.0.2.66:31337", want: Drop},
		}},
		{"an authenticated stranger wins before anybody is learnt", private, []latchStep{
			{ms: 0, from: "100.64.3.3:9", auth: true, want: Learn, dest: "100.64.3.3:9"},
			{ms: 10, from: "192.168.1.20:4000", want: Drop},
		}},
		{"a re-offer with the same address changes nothing", private, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Learn},
			{ms: 4000, from: "203.0.113.9:61000", want: Accept},
			{ms: 4001, expected: "192.168.1.20:4000", signalled: "203.0.113.9"},
			{ms: 4002, from: "203.0.113.9:61002", want: Drop, dest: "203.0.113.9:61000"},
		}},
		{"a re-offer from a new network moves the latch, the former source is heard meanwhile", private, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Learn},
			{ms: 4000, from: "203.0.113.9:61000", want: Accept},
			{ms: 4001, expected: "10.20.0.4:4000", signalled: "198.51.100.99"},
			{ms: 4010, from: "203.0.113.9:61000", want: Accept, dest: "203.0.113.9:61000"},
			{ms: 4020, from: "192.0.2.66:31337", want: Drop},
			{ms: 4030, from: "198.51.100.99:777", want: Learn, dest: "198.51.100.99:777"},
			{ms: 4040, from: "203.0.113.9:61000", want: Drop},
		}},
		{"a re-offer that moves only the SDP is forgotten when the source stays", private, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Learn},
			{ms: 1000, expected: "192.168.1.20:4004"},
			{ms: 3900, from: "203.0.113.9:61000", want: Accept},
			{ms: 4000, from: "203.0.113.9:61000", want: Learn, dest: "203.0.113.9:61000"},
		}},
		{"a peer without NAT is sent to where it moves, before it sends", LatchConfig{Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "198.51.100.7:4000", want: Learn},
			{ms: 100, expected: "198.51.100.8:6000"},
			{ms: 110, from: "198.51.100.7:4000", want: Accept, dest: "198.51.100.8:6000"},
			{ms: 120, from: "198.51.100.8:6000", want: Learn, dest: "198.51.100.8:6000"},
			{ms: 130, from: "198.51.100.7:4000", want: Drop},
		}},
		{"hold by an unspecified address moves nobody", private, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Learn},
			{ms: 10, expected: "0.0.0.0:4000"},
			{ms: 20, from: "203.0.113.9:61000", want: Accept, dest: "203.0.113.9:61000"},
		}},
		{"delayed", LatchConfig{Mode: Delayed, Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "192.0.2.66:31337", want: Accept, dest: "198.51.100.7:4000"},
			{ms: 3000, from: "203.0.113.9:61000", want: Learn, dest: "203.0.113.9:61000"},
			{ms: 3010, from: "192.0.2.66:31337", want: Accept, dest: "203.0.113.9:61000"},
		}},
		{"delayed and strict", LatchConfig{Mode: Delayed, Expected: sdpPublic, StrictSource: true}, []latchStep{
			{ms: 0, from: "192.0.2.66:31337", want: Drop},
			{ms: 10, from: "198.51.100.7:4000", want: Accept},
			{ms: 3000, from: "203.0.113.9:61000", want: Learn},
			{ms: 3010, from: "192.0.2.66:31337", want: Drop},
		}},
		{"immediate", LatchConfig{Mode: Immediate, Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Learn, dest: "203.0.113.9:61000"},
			{ms: 10, from: "198.51.100.7:4000", want: Accept, dest: "203.0.113.9:61000"},
		}},
		{"off and strict", LatchConfig{Mode: Off, Expected: sdpPublic, StrictSource: true}, []latchStep{
			{ms: 0, from: "203.0.113.9:61000", want: Drop},
			{ms: 10, from: "198.51.100.7:4000", want: Accept, dest: "198.51.100.7:4000"},
		}},
		{"asymmetric keeps the destination", LatchConfig{Asymmetric: true, Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "198.51.100.7:9999", want: Learn, dest: "198.51.100.7:4000"},
			{ms: 10, from: "192.0.2.66:31337", want: Drop},
		}},
		{"handover follows everybody", LatchConfig{Handover: true, Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "198.51.100.7:4000", want: Learn},
			{ms: 10, from: "203.0.113.9:61000", want: Learn, dest: "203.0.113.9:61000"},
		}},
		{"an IPv4 source on an IPv6 socket is the same address", LatchConfig{Expected: sdpPublic}, []latchStep{
			{ms: 0, from: "[::ffff:198.51.100.7]:4000", want: Learn},
			{ms: 1, from: "[::ffff:198.51.100.7]:4000", want: Accept},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := NewLatch(tc.cfg, start)
			for i, s := range tc.steps {
				if s.expected != "" {
					var sig netip.Addr
					if s.signalled != "" {
						sig = netip.MustParseAddr(s.signalled)
					}
					l.Update(ap(s.expected), sig, at(s.ms))
					continue
				}
				if got := l.Packet(ap(s.from), s.auth, at(s.ms)); got != s.want {
					t.Fatalf("step %d (%d ms, %s): verdict %d, want %d", i, s.ms, s.from, got, s.want)
				}
				if s.dest != "" && l.Destination() != ap(s.dest) {
					t.Fatalf("step %d (%d ms): sends to %v, want %s", i, s.ms, l.Destination(), s.dest)
				}
			}
		})
	}
}

// TestB33StrangerNeverLocks: who was let in for want of a better one gives way at any time.
func TestB33StrangerNeverLocks(t *testing.T) {
	l := NewLatch(LatchConfig{Expected: sdpPrivate, Signalling: home}, start)
	learnt := -1
	for ms := 0; ms < 20000; ms += 20 {
		if v := l.Packet(attacker, false, at(ms)); v == Learn && learnt < 0 {
			learnt = ms
		}
	}
	if learnt != 5000 || l.Locked() {
		t.Fatalf("stranger learnt at %d ms, locked %v", learnt, l.Locked())
	}
	if v := l.Packet(netip.AddrPortFrom(home, 61000), false, at(20000)); v != Learn {
		t.Fatalf("the peer gets verdict %d", v)
	}
	if v := l.Packet(attacker, false, at(20001)); v != Drop {
		t.Fatalf("the stranger gets verdict %d", v)
	}
}

func TestPacketAllocatesNothing(t *testing.T) {
	l := NewLatch(LatchConfig{Expected: sdpPublic}, start)
	now := start
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Millisecond)
		l.Packet(sdpPublic, false, now)
		l.Packet(attacker, false, now)
		l.Packet(sdpPublic, true, now)
	}); n != 0 {
		t.Fatalf("%v allocations per packet", n)
	}
}

func TestClassify(t *testing.T) {
	for _, tc := range []struct {
		b    []byte
		want Class
	}{
		{[]byte{0, 1}, STUN}, {[]byte{3, 0}, STUN}, {[]byte{4, 0}, Unknown}, {[]byte{16, 0}, ZRTP}, {[]byte{20, 0}, DTLS},
		{[]byte{63, 0}, DTLS}, {[]byte{64, 0}, TURNChannel}, {[]byte{79, 0}, TURNChannel}, {[]byte{80, 0}, Unknown},
		{[]byte{128, 0}, RTP}, {[]byte{128, 0x80}, RTP}, {[]byte{191, 191}, RTP}, {[]byte{128, 192}, RTCP},
		{[]byte{128, 200}, RTCP}, {[]byte{128, 223}, RTCP}, {[]byte{128, 224}, RTP}, {[]byte{192, 200}, Unknown}, {[]byte{128}, Unknown}, {nil, Unknown},
	} {
		if got := Classify(tc.b); got != tc.want {
			t.Errorf("Classify(%v) = %d, want %d", tc.b, got, tc.want)
		}
	}
}

func BenchmarkPacketLocked(b *testing.B) {
	l := NewLatch(LatchConfig{Expected: sdpPublic}, start)
	l.Packet(sdpPublic, false, start)
	for b.Loop() {
		if l.Packet(sdpPublic, false, start) != Accept {
			b.Fatal("not locked")
		}
	}
}
