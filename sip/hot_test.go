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
