package sip

import (
	"net/netip"
	"strings"
	"testing"

	"rtcedge/sip/transport"
)

func parseAddr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// hot makes a proxy on its fast path and a request and response for it.
func hot(t *testing.T) (r *rig, req, resp *transport.Message) {
	r = newRig(t, Config{Farms: farms(node1, node2, node3)})
	text := r.text(invite(strings.Repeat("X-Filler: 0123456789012345678901234567890123456789\n", 10) + sdp))
	out := r.putOn(0, 0, phone, text)
	req = &transport.Message{Bytes: []byte(text), From: parseAddr(phone), Listener: r.ls[0], Worker: new(transport.Worker)}
	resp = &transport.Message{Bytes: []byte(answer(out[0].text, 200, "x", sdp)), From: out[0].to.Addr, Listener: r.ls[0], Worker: req.Worker}
	c := r.p.newPass()
	c.send = r
	req.Worker.State, r.mute = c, true
	return r, req, resp
}

// TestZeroAllocs: nothing is allocated for a forwarded request or response over UDP.
func TestZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r, req, resp := hot(t)
	c := req.Worker.State.(*pass)
	for name, m := range map[string]*transport.Message{"request": req, "response": resp} {
		before := r.n
		if n := testing.AllocsPerRun(100, func() { c.send = r; r.p.begin(c, m) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if r.n == before {
			t.Errorf("%s: nothing was sent: %v", name, r.drops())
		}
	}
}

func benchmark(b *testing.B, pick func(req, resp *transport.Message) *transport.Message) {
	t := &testing.T{}
	r, req, resp := hot(t)
	m := pick(req, resp)
	c := req.Worker.State.(*pass)
	b.SetBytes(int64(len(m.Bytes)))
	b.ReportAllocs()
	for b.Loop() {
		c.send = r
		r.p.begin(c, m)
	}
}

func BenchmarkRequest(b *testing.B) {
	benchmark(b, func(req, _ *transport.Message) *transport.Message { return req })
}

func BenchmarkResponse(b *testing.B) {
	benchmark(b, func(_, resp *transport.Message) *transport.Message { return resp })
}

func BenchmarkBranch(b *testing.B) {
	_, req, _ := hot(&testing.T{})
	c := req.Worker.State.(*pass)
	c.msg.Parse(req.Bytes)
	k := newKey(make([]byte, 32))
	for b.Loop() {
		k.branchOf(&c.msg)
	}
}

// shedding makes a proxy that refuses every new call, an INVITE, and the ACK of its refusal.
func shedding(t *testing.T) (r *rig, invite, ack *transport.Message) {
	r, req, _ := hot(t)
	r.mute = false
	c := req.Worker.State.(*pass)
	c.load = r.p.newLoad()
	c.load.socks[0].level = 1
	c.send = r
	r.p.begin(c, req)
	refusal := r.sent[len(r.sent)-1].text
	to := refusal[strings.Index(refusal, "\r\nTo: ")+2:]
	to = to[:strings.Index(to, "\r\n")]
	text := string(req.Bytes[:strings.Index(string(req.Bytes), "\r\n\r\n")])
	text = strings.ReplaceAll(strings.ReplaceAll(text, "INVITE sip", "ACK sip"), " INVITE", " ACK")
	lines := strings.Split(text, "\r\n")
	kept := lines[:0]
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "To: "):
			kept = append(kept, to)
		case !strings.HasPrefix(l, "X-Filler") && !strings.HasPrefix(l, "Content-") && !strings.HasPrefix(l, "Contact"):
			kept = append(kept, l)
		}
	}
	r.mute = true
	return r, req, &transport.Message{Bytes: []byte(strings.Join(kept, "\r\n") + "\r\nContent-Length: 0\r\n\r\n"), From: req.From, Listener: req.Listener, Worker: req.Worker}
}

// BenchmarkShed is what a refused call costs: its INVITE and its ACK.
func BenchmarkShed(b *testing.B) {
	r, req, ack := shedding(&testing.T{})
	c := req.Worker.State.(*pass)
	b.ReportAllocs()
	for b.Loop() {
		c.send = r
		r.p.begin(c, req)
		r.p.begin(c, ack)
	}
	if c.count.drops[DropAbsorbed].Load() == 0 || c.count.drops[DropOverload].Load() == 0 {
		b.Error("nothing was refused")
	}
}
