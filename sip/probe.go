package sip

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

// probe runs the OPTIONS to the farm nodes until ctx ends.
func (p *Proxy) probe(ctx context.Context) {
	pr := &prober{p: p, out: make([]byte, 0, 1024), states: map[netip.AddrPort]dispatch.State{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(p.farms.Tick(p.now(), pr))
			pr.report()
		}
	}
}

// prober sends the probes. What it must know of the answer stands in its Via, as with every request.
type prober struct {
	p      *Proxy
	out    []byte
	serial uint64
	states map[netip.AddrPort]dispatch.State
}

// Probe sends one OPTIONS, RFC 3261 section 11.
func (pr *prober) Probe(n *dispatch.Node) {
	p := pr.p
	next := p.hopTo(n, nil)
	if next.side == nil {
		return
	}
	pr.serial++
	h := p.key.hasher(hashProbe)
	h.word(pr.serial)
	h.word(uint64(p.now().UnixNano()))
	lo, hi := h.sum()
	var text [64]byte
	branch := appendBranch(text[:0], lo, hi)
	self := next.side.host
	if next.side.six {
		self = "[" + self + "]"
	}
	b := append(pr.out[:0], "OPTIONS sip:"...)
	b = append(b, n.Addr().String()...)
	b = append(append(append(b, " SIP/2.0\r\n"...), next.side.via...), branch...)
	b = append(b, ";rport;vb="...)
	b = p.key.appendVia(b, &viaState{flags: viaProbe, listener: uint8(next.side.index), dest: n.Addr()}, branch)
	b = append(append(append(b, "\r\nMax-Forwards: 70\r\nFrom: <sip:probe@"...), self...), ">;tag="...)
	b = strconv.AppendUint(b, lo, 36)
	b = append(append(append(b, "\r\nTo: <sip:"...), n.Addr().String()...), ">\r\nCall-ID: "...)
	b = strconv.AppendUint(b, hi, 36)
	b = append(append(append(b, "\r\nCSeq: 1 OPTIONS\r\nContact: "...), next.side.uri...), ">\r\nContent-Length: 0\r\n\r\n"...)
	pr.out = b
	to := transport.Target{Listener: next.side.Listener, Addr: n.Addr()}
	if p.out.Send(b, to) == nil {
		p.tapOut(to, b)
	}
}

// report logs changes between up and down.
func (pr *prober) report() {
	for _, n := range pr.p.farms.Nodes() {
		if old, known := pr.states[n.Addr]; known && old != n.State {
			pr.p.cfg.Log.Warn("farm node changed", "node", n.Addr, "state", n.State, "was", old)
		}
		pr.states[n.Addr] = n.State
	}
}
