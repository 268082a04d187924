package media

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// exportWait bounds how long Export waits for the worker, chosen by us: a worker that has not run yet never answers.
const exportWait = 2 * time.Second

// Export makes the session record of a call, for Restore on another node. It changes nothing. A record is worth making anew after
// each change (Config.Changed) and, while packets flow, before half of the five minutes are over for which one with SRTP is
// good; Config.OnRecord does both.
func (e *Engine) Export(callID string) ([]byte, error) {
	record, err := e.export(callID, false)
	if err != nil {
		err = fmt.Errorf("export %q: %w", callID, err)
	}
	return record, err
}

// export leaves out, if asked, a call that only waits for its end.
func (e *Engine) export(callID string, living bool) ([]byte, error) {
	c, err := e.lock(callID, false)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, errNoRecord
	}
	defer c.mu.Unlock()
	if living && !c.deleteAt.IsZero() {
		return nil, errNoRecord
	}
	rec := callRecord{V: snapshotVersion, CallID: c.id, Created: c.created, Options: c.options}
	for _, d := range c.dialogs {
		rec.Dialogs = append(rec.Dialogs, d.record())
	}
	for _, sub := range c.subscriptions {
		rec.Subscriptions = append(rec.Subscriptions, sub.record(c))
	}
	done := make(chan struct{})
	if !c.worker.loop.Do(func() {
		rec.At = e.cfg.Now()
		for i, d := range c.dialogs {
			for k, s := range d.streams {
				if s != nil {
					s.recordState(rec.Dialogs[i].Streams[k])
				}
			}
		}
		for i, sub := range c.subscriptions {
			for k, s := range sub.dialog.streams {
				if s != nil {
					s.recordState(rec.Subscriptions[i].Dialog.Streams[k])
				}
			}
		}
		close(done)
	}) {
		return nil, errors.New("the engine has ended")
	}
	timer := time.NewTimer(exportWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		return nil, errors.New("the worker does not answer, does the engine run?")
	}
	return json.Marshal(&rec)
}

// record is the control side of a dialog; call.mu is held.
func (d *dialog) record() dialogRecord {
	r := dialogRecord{Offer: d.offer.record(), Branch: d.branch}
	for i := range d.parties {
		p := &d.parties[i]
		r.Parties[i] = partyRecord{Tags: p.tags, Label: p.label, Interface: p.network.Name, Local: p.network.Addr, Created: p.created,
			Absent: p.absent}
		if p.signed.Origin.ID != "" {
			signed := p.signed
			r.Parties[i].Signed = &signed
		}
	}
	for _, s := range d.streams {
		if s == nil {
			r.Streams = append(r.Streams, nil)
			continue
		}
		sr := &streamRecord{CName: string(s.cname[:])}
		for i := range s.legs {
			sr.Legs[i] = s.legs[i].record()
		}
		r.Streams = append(r.Streams, sr)
	}
	return r
}

func (l *leg) record() legRecord {
	r := legRecord{Port: l.number, SSRC: l.ssrc, Far: l.far.record(), Own: l.keys.own, Gate: l.gate.Load()}
	if l.keys.Local.Suite != srtpPlain {
		local, remote := l.keys.Local, l.keys.Remote
		r.Local, r.Remote = &local, &remote
	}
	if l.pipe != nil {
		cfg := *l.pipeConfig
		r.Pipe = &cfg
	}
	if p := &l.ice; p.ufrag != "" {
		r.ICE = &iceRecord{Ufrag: p.ufrag, Pwd: p.pwd}
	}
	r.In = [3]int64{int64(l.in.packets.Load()), int64(l.in.bytes.Load()), l.in.lost.Load()}
	return r
}

// recordState adds what the worker owns; it runs there, while Export holds call.mu.
func (s *stream) recordState(rec *streamRecord) {
	r := s.route.Load()
	if r == nil {
		return
	}
	if r != s.cur {
		s.adopt(r)
	}
	rr := &routeRecord{At: r.at, Raw: r.raw, Plain: r.plain, Own: r.own, Names: r.names}
	for i := range s.legs {
		l, lr, f := &s.legs[i], &rec.Legs[i], &r.flows[i]
		rr.Flows[i] = f.record()
		if f.rx != nil {
			rx, tx := f.rx.state(), f.tx.state()
			lr.RX, lr.TX = &rx, &tx
		}
		if f.ice != nil && lr.ICE != nil {
			lr.ICE.RTP = f.ice.State()
			if f.iceRTCP != nil {
				lr.ICE.RTCP = f.iceRTCP.State()
			}
		}
		if f.pipe != nil {
			if st := f.pipe.State(); st.Decoder != nil || st.Encoder != nil {
				lr.Codec = &st
			}
		}
		if f.dtls != nil {
			lr.DTLS = l.dtls.record(s.worker.engine.dtls)
		}
		if o := &l.out; o.started {
			lr.Out = &outRecord{Seq: o.seq, TS: o.ts, At: o.at, Packets: o.packets, Octets: o.octets}
		}
		lr.Source, lr.RTCP = l.latch.Source(), l.latchRTCP.Source()
		lr.Locked = [2]bool{l.latch.Locked(), l.latchRTCP.Locked()}
	}
	rec.Route = rr
}
