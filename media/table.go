package media

import (
	"net/netip"
	"time"

	"rtcedge/media/udp"
)

// table is the session table of one worker: which streams there are, what becomes of their packets, and what was counted. The rest of
// the package takes, changes and gives back ports by it alone and does not know how their packets arrive and leave. That is the layer's
// matter, which stands behind udp.Loop: a socket per port (layer 0, by system calls or by the net package), or ports without sockets,
// steered to one (layer 1). A layer that forwards by itself would be told here what it needs, and add what it has counted.
//
// Control calls it, with the call's lock held. TestTableConformance feeds packets to each layer and compares what comes out.
type table struct {
	worker *worker
	layer  *udp.Loop
	socket udp.Options
}

// settleTime is chosen by us: a worker that is alive is done with a batch long before.
const settleTime = 50 * time.Millisecond

// counters is what a table knows of the packets of one leg.
type counters struct {
	RTP, RTCP, Sent struct{ Packets, Bytes uint64 } // from the party; to it
	Lost            int64
	Jitter, Trip    time.Duration
	Drops           uint64 // of the party's packets, for any reason
	SSRC            uint32
	Last            time.Time      // of a packet from the party; zero before the first
	Source          netip.AddrPort // that was learnt; invalid before
}

// Install takes a pair of ports for each leg and makes the stream known. Its packets are dropped as "no-route" until the first Update.
// at are the RTP ports to take; 0 is any.
func (t *table) Install(s *stream, at [2]uint16) error {
	for i := range s.legs {
		l := &s.legs[i]
		if l.rtp == nil {
			l.makePorts()
		}
		if l.absent {
			l.number = discardPort
			continue
		}
		var err error
		if l.number, err = l.network.pool.open(t, at[i], l.rtp, l.rtcp); err != nil {
			t.Remove(s)
			return err
		}
		l.pool, l.tos = l.network.pool, t.socket.TOS
	}
	t.layer.Later(func() { t.worker.add(s) })
	return nil
}

// Update gives the stream a new route.
func (t *table) Update(s *stream, r *route) {
	for i := range s.legs {
		if r.flows[i].dtls == nil {
			s.legs[i].dtls.takeAway(t.worker)
		}
	}
	t.fit(s, r)
	s.route.Store(r)
	if r.established() {
		t.layer.Do(s.begin)
	}
	for i := range s.legs {
		s.legs[i].ice.published(r.flows[i].ice)
	}
}

// fit closes the RTCP port of a leg whose party has agreed to rtcp-mux, and opens it where one has changed its mind. The number stays
// the leg's either way. Where another process has it meanwhile RTCP is lost, each packet a counted one.
func (t *table) fit(s *stream, r *route) {
	for i := range s.legs {
		l := &s.legs[i]
		if l.pool == nil || l.muxed == r.flows[i].mux {
			continue
		}
		l.muxed = r.flows[i].mux
		p := l.rtcp
		if l.muxed {
			t.layer.Do(p.close)
			continue
		}
		again := t.socket
		again.TOS = l.tos
		if conn, err := t.layer.Listen(netip.AddrPortFrom(l.network.Addr, l.number+1), again, p); err == nil {
			t.layer.Do(func() { p.conn = conn })
		}
	}
}

// Remove takes the stream out: its sockets are closed and its ports given back on the layer's goroutine or, after the layer has ended
// and closed all sockets, here.
func (t *table) Remove(s *stream) {
	for i := range s.legs {
		s.legs[i].dtls.takeAway(t.worker)
		s.legs[i].ice.close()
	}
	s.route.Store(nil) // nothing passes any more
	post := t.layer.Later
	if s.scarce() {
		post = t.layer.Do
	}
	done := post(func() {
		t.worker.forget(s)
		for i := range s.legs {
			if l := &s.legs[i]; l.pool != nil {
				l.rtp.close()
				l.rtcp.close()
			}
		}
		s.giveBack()
	})
	if !done {
		s.giveBack()
	}
}

// scarce tells if the stream's ports are wanted at once. Else some milliseconds more, a tick at most, are cheaper than to wake the worker.
func (s *stream) scarce() bool {
	for i := range s.legs {
		if l := &s.legs[i]; l.pool != nil && l.pool.scarce() {
			return true
		}
	}
	return false
}

// giveBack returns the pairs to their pools.
func (s *stream) giveBack() {
	for i := range s.legs {
		if l := &s.legs[i]; l.pool != nil {
			l.pool.give(l.number, false)
		}
	}
}

// settle lets all workers finish what they were told, such as to give ports back: an idle one would do it with its next tick. A worker that
// does not run yet is not waited for.
func (t *table) settle() {
	var waiting []chan struct{}
	for _, w := range t.worker.engine.workers {
		done := make(chan struct{})
		if w.table.layer.Do(func() { close(done) }) {
			waiting = append(waiting, done)
		}
	}
	limit := time.After(settleTime)
	for _, done := range waiting {
		select {
		case <-done:
		case <-limit:
			return
		}
	}
}

// Counters reads what was counted for a leg.
func (t *table) Counters(s *stream, side int) counters {
	l := &s.legs[side]
	c := counters{
		Lost: l.in.lost.Load(), Jitter: time.Duration(l.in.jitter.Load()), Trip: time.Duration(l.trip.Load()),
		Drops: l.drops.total(), SSRC: l.in.ssrc.Load(),
	}
	c.RTP.Packets, c.RTP.Bytes = l.in.packets.Load(), l.in.bytes.Load()
	c.RTCP.Packets, c.RTCP.Bytes = l.inRTCP.packets.Load(), l.inRTCP.bytes.Load()
	c.Sent.Packets, c.Sent.Bytes = l.sent.packets.Load(), l.sent.bytes.Load()
	if ns := l.in.last.Load(); ns != 0 {
		c.Last = time.Unix(0, ns)
	}
	if p := l.latched.Load(); p != nil {
		c.Source = *p
	}
	return c
}

func (l *leg) makePorts() {
	l.ports = [2]port{{leg: l}, {leg: l, rtcp: true}}
	l.rtp, l.rtcp = &l.ports[0], &l.ports[1]
}

// local is our RTP address of the leg, as a socket is bound to it.
func (l *leg) local() netip.AddrPort { return netip.AddrPortFrom(l.network.Addr, l.number) }

// localRTCP is our port for RTCP beside it.
func (l *leg) localRTCP() uint16 { return l.number + 1 }

// write sends from the port; false is a packet that did not leave. It runs on the worker's goroutine, as close does.
func (p *port) write(b []byte, to netip.AddrPort) bool {
	return p.conn != nil && p.conn.WriteTo(b, to) == nil
}

// close closes the port, if it is open.
func (p *port) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}
