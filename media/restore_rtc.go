package media

import (
	"bytes"
	"errors"
	"time"

	"rtcedge/nat"
)

// Session records of ICE and DTLS-SRTP, both ways.

// record runs on the worker, while Export holds call.mu. Of an association that takes another's place it is the one with keys.
func (p *dtlsParty) record(a *dtlsAgent) *dtlsRecord {
	if p.rtp == nil {
		return nil
	}
	return &dtlsRecord{Setup: p.setup, TLSID: p.tlsID, Own: a.own.Sum, Pins: p.rtp.link.cfg.pins, RTP: p.rtp.record(), RTCP: p.rtcp.record()}
}

func (d *dtlsPath) record() *dtlsPathRecord {
	if d == nil {
		return nil
	}
	r := &dtlsPathRecord{Active: d.link.cfg.active, ICE: d.link.cfg.ice}
	for ; d != nil && d.link.keys.rx == nil; d = d.former {
	}
	if d == nil {
		return r
	}
	k := &d.link.keys
	rx, tx := k.rx.state(), k.tx.state()
	r.Suite, r.Local, r.Remote, r.RX, r.TX = k.suite, k.local, k.remote, &rx, &tx
	return r
}

// restoreICE makes the agents of a leg, which resume continues.
func (l *leg) restoreICE(rec *iceRecord, far *farRecord) {
	if rec == nil {
		return
	}
	p := &l.ice
	p.ufrag, p.pwd, p.far = rec.Ufrag, rec.Pwd, far.description().creds
	cfg := nat.ICEConfig{Ufrag: p.ufrag, Pwd: p.pwd}
	if rec.RTP != nil {
		p.agent = nat.NewICELite(cfg)
	}
	if rec.RTCP != nil {
		p.agentRTCP = nat.NewICELite(cfg)
	}
}

// resume runs on the worker.
func (p *iceParty) resume(rec *iceRecord, now time.Time) {
	if p.agent != nil && rec.RTP != nil {
		p.agent.Resume(*rec.RTP, now)
	}
	if p.agentRTCP != nil && rec.RTCP != nil {
		p.agentRTCP.Resume(*rec.RTCP, now)
	}
}

// restoreDTLS makes the associations of a leg. Those with keys need no handshake.
func (l *leg) restoreDTLS(rec *dtlsRecord, age time.Duration) error {
	if rec == nil {
		return nil
	}
	pins, err := newDTLSPins(rec.Pins)
	if err != nil {
		return err
	}
	p := &l.dtls
	p.setup, p.tlsID = rec.Setup, rec.TLSID
	p.foreign = !bytes.Equal(rec.Own, l.stream.worker.engine.dtls.own.Sum)
	if p.rtp, err = l.restorePath(l.rtp, rec.RTP, pins, age); err != nil {
		return err
	}
	if p.rtp == nil {
		return errors.New("DTLS-SRTP without an association")
	}
	p.rtcp, err = l.restorePath(l.rtcp, rec.RTCP, pins, age)
	return err
}

func (l *leg) restorePath(at *port, rec *dtlsPathRecord, pins dtlsPins, age time.Duration) (*dtlsPath, error) {
	if rec == nil {
		return nil, nil
	}
	d := newDTLSPath(l, at, nil, pins, rec.Active, rec.ICE)
	if rec.Suite == srtpPlain {
		return d, nil
	}
	if err := youngEnough(age); err != nil {
		return nil, err
	}
	k := dtlsKeys{suite: rec.Suite, local: rec.Local, remote: rec.Remote}
	var err error
	if k.rx, err = (sdesKey{Suite: rec.Suite, KeySalt: rec.Remote}).context(); err != nil {
		return nil, err
	}
	if k.tx, err = (sdesKey{Suite: rec.Suite, KeySalt: rec.Local}).context(); err != nil {
		return nil, err
	}
	if rec.RX != nil {
		k.rx.restoreReceiver(*rec.RX)
	}
	if rec.TX != nil {
		k.tx.restoreSender(*rec.TX)
	}
	d.link.done, d.link.keys = true, k
	d.suite.Store(uint32(k.suite))
	return d, nil
}
