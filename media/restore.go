package media

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"rtcedge/nat"
)

// Restore takes a call over from its session record: same ports, SSRCs and keys, so that the parties need not know. The address
// must have moved here already, under the same interface name, and the ports must be free. The numbering goes on with a jump
// over what the other node may have sent after the record was made. A recording does not go on by itself.
func (e *Engine) Restore(record []byte) error {
	rec, err := readRecord(record)
	if err != nil {
		return err
	}
	now := e.cfg.Now()
	age := max(now.Sub(rec.At), 0)
	e.mu.Lock()
	if e.mu.ended {
		e.mu.Unlock()
		return errors.New("restore: the node is shutting down")
	}
	if e.mu.calls[rec.CallID] != nil {
		e.mu.Unlock()
		return fmt.Errorf("restore: call %q is here already", rec.CallID)
	}
	c := newCall(rec.CallID, e.emptiest(), now)
	c.created, c.options = rec.Created, rec.Options
	c.mu.Lock()
	e.mu.calls[rec.CallID] = c
	e.callsTotal.Add(1)
	e.mu.Unlock()
	for i := range rec.Dialogs {
		if err = e.restoreDialog(c, &rec.Dialogs[i], age); err != nil {
			break
		}
	}
	for i := range rec.Subscriptions {
		if err == nil {
			err = e.restoreSubscription(c, &rec.Subscriptions[i], age)
		}
	}
	if err == nil {
		c.apply()
		c.mu.Unlock()
		e.restored.Add(1)
		e.changed(rec.CallID)
		return nil
	}
	c.unsubscribe(func(*subscription) bool { return true })
	for _, d := range c.dialogs {
		d.release()
	}
	c.dialogs = nil
	c.mu.Unlock()
	e.discard(c)
	return fmt.Errorf("restore call %q: %w", rec.CallID, err)
}

// restoreDialog adds a dialog to the call, whatever happens, so that the caller can release it.
func (e *Engine) restoreDialog(c *call, rec *dialogRecord, age time.Duration) error {
	d := &dialog{worker: c.worker, callID: c.id, offer: rec.Offer.offer(), branch: rec.Branch}
	c.dialogs = append(c.dialogs, d)
	for i := range rec.Parties {
		p := &rec.Parties[i]
		n := e.networkAt(p.Interface, p.Local)
		if n == nil {
			return fmt.Errorf("interface %s/%s is not here", p.Interface, p.Local)
		}
		d.parties[i] = party{tags: p.Tags, label: p.Label, network: n, created: p.Created, absent: p.Absent}
		if p.Signed != nil {
			d.parties[i].signed = *p.Signed
		}
	}
	if d.offer != nil && len(d.offer.media) > len(rec.Streams) {
		return errors.New("the offer has more m= lines than there are streams")
	}
	for i, sr := range rec.Streams {
		d.streams = append(d.streams, nil)
		if sr == nil {
			continue
		}
		s, err := d.restoreStream(i, sr, age)
		if err != nil {
			return fmt.Errorf("m= line %d: %w", i+1, err)
		}
		d.streams[i] = s
	}
	return nil
}

func (e *Engine) networkAt(name string, addr netip.Addr) *network {
	for _, n := range e.networks {
		if n.Name == name && n.Addr == addr {
			return n
		}
	}
	return nil
}

// restoreStream opens the ports and publishes the route, with the worker's state behind it.
func (d *dialog) restoreStream(index int, rec *streamRecord, age time.Duration) (*stream, error) {
	s := &stream{worker: d.worker, callID: d.callID, index: index}
	copy(s.cname[:], rec.CName)
	for i := range s.legs {
		l, lr := &s.legs[i], &rec.Legs[i]
		l.stream, l.side, l.network, l.ssrc, l.far = s, i, d.parties[i].network, lr.SSRC, lr.Far.description()
		l.absent = d.parties[i].absent
		l.makePorts()
		l.keys.own = lr.Own
		if lr.Local != nil && lr.Remote != nil {
			l.keys.Local, l.keys.Remote = *lr.Local, *lr.Remote
		}
		l.restoreICE(lr.ICE, &lr.Far)
		if err := l.restoreDTLS(lr.DTLS, age); err != nil {
			return nil, err
		}
		l.gate.Store(lr.Gate)
		l.in.packets.Store(uint64(max(lr.In[0], 0)))
		l.in.bytes.Store(uint64(max(lr.In[1], 0)))
		l.in.lost.Store(lr.In[2])
	}
	r, err := s.restoreRoute(rec, age)
	if err != nil {
		return nil, err
	}
	t := &d.worker.table
	if err := t.Install(s, [2]uint16{rec.Legs[0].Port, rec.Legs[1].Port}); err != nil {
		return nil, err
	}
	if r == nil {
		return s, nil
	}
	t.fit(s, r)
	now := d.worker.now()
	d.worker.loop.Do(func() { s.resume(r, rec, age, now) })
	return s, nil
}

// restoreRoute makes the route with its contexts and pipes; nil if there was none.
func (s *stream) restoreRoute(rec *streamRecord, age time.Duration) (*route, error) {
	if rec.Route == nil {
		return nil, nil
	}
	r := &route{at: rec.Route.At, raw: rec.Route.Raw, plain: rec.Route.Plain, own: rec.Route.Own, names: rec.Route.Names}
	for i := range s.legs {
		l, lr, f := &s.legs[i], &rec.Legs[i], &r.flows[i]
		*f = rec.Route.Flows[i].flow()
		if fr := &rec.Route.Flows[i]; fr.ICE || fr.DTLS {
			if a := l.ice.agent; fr.ICE && a != nil {
				f.ice = a
			}
			if a := l.ice.agentRTCP; fr.ICERTCP && a != nil {
				f.iceRTCP = a
			}
			if fr.DTLS {
				f.dtls = l.dtls.rtp
			}
			if fr.DTLSRTCP {
				f.dtlsRTCP = l.dtls.rtcp
			}
			if fr.ICE != (f.ice != nil) || fr.ICERTCP != (f.iceRTCP != nil) || fr.DTLS != (f.dtls != nil) ||
				fr.DTLSRTCP != (f.dtlsRTCP != nil) {
				return nil, errors.New("a route with ICE or DTLS-SRTP, and a party without")
			}
		}
		if rec.Route.Flows[i].Secure {
			if err := youngEnough(age); err != nil {
				return nil, err
			}
			var err error
			if f.rx, f.tx, err = l.keys.contexts(); err != nil {
				return nil, err
			}
			if lr.RX != nil {
				f.rx.restoreReceiver(*lr.RX)
			}
			if lr.TX != nil {
				f.tx.restoreSender(*lr.TX)
			}
		}
		if rec.Route.Flows[i].Piped {
			if lr.Pipe == nil {
				return nil, errors.New("a conversion without its settings")
			}
			var err error
			if f.pipe, err = s.pipe(i, *lr.Pipe); err != nil {
				return nil, err
			}
			if lr.Codec != nil && age <= snapshotFresh {
				f.pipe.SetState(*lr.Codec)
			}
		}
	}
	return r, nil
}

// youngEnough refuses keys under which the former node may have used more numbers than the new one skips.
func youngEnough(age time.Duration) error {
	if age > snapshotLife {
		return fmt.Errorf("the record is %v old, with SRTP keys it is good for %v", age.Round(time.Second), snapshotLife)
	}
	return nil
}

// resume sets the worker's state and opens the way for packets; it runs on the worker.
func (s *stream) resume(r *route, rec *streamRecord, age time.Duration, now time.Time) {
	s.adopt(r)
	for i := range s.legs {
		l, lr := &s.legs[i], &rec.Legs[i]
		for k, latch := range []*nat.Latch{&l.latch, &l.latchRTCP} {
			if source := [2]netip.AddrPort{lr.Source, lr.RTCP}[k]; source.IsValid() {
				latch.Packet(source, lr.Locked[k], now)
			}
		}
		if lr.ICE != nil {
			l.ice.resume(lr.ICE, now)
		}
		l.learnt()
		if o := lr.Out; o != nil {
			skip := uint16(min(int64(age)*snapshotRate/int64(time.Second), 1<<15-1-snapshotSlip) + snapshotSlip)
			l.out = outgoing{started: true, seq: o.Seq + skip, ts: o.TS, at: o.At, packets: o.Packets, octets: o.Octets, reported: o.Packets}
		}
	}
	s.route.Store(r)
	if r.established() {
		s.begin()
	}
}
