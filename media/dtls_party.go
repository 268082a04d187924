package media

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// DTLS on the control side, per party of a stream, and what of it goes over to the worker.

// readDTLS checks an offer's DTLS before ports are opened for what cannot work.
func (om *offeredMedia) readDTLS(req *ng.Request) error {
	om.preferActive = req.DTLSReverse == setupActive
	if dtls(om.from.proto) {
		if _, err := newDTLSPins(om.from.creds.prints); err != nil {
			return err
		}
		if _, err := answerSetup(om.from.creds.setup, om.preferActive); err != nil {
			return err
		}
	}
	if !dtls(om.proto) {
		return nil
	}
	if req.DTLS == "off" {
		return fmt.Errorf("DTLS=off and the transport %s exclude each other: want transport-protocol RTP/SAVPF, RTP/SAVP, RTP/AVPF or RTP/AVP", om.proto)
	}
	if req.DTLSFingerprint == "sha-224" {
		return errors.New("DTLS-fingerprint sha-224: want sha-256, sha-384, sha-512 or sha-1")
	}
	// RFC 5763 section 5: an offer leaves the role open, unless NG's DTLS says it.
	om.setup = setupActpass
	if req.DTLS == setupActive || req.DTLS == setupPassive {
		om.setup = req.DTLS
	}
	return nil
}

// dtlsParty is the DTLS of one stream of one party, on the control side.
type dtlsParty struct {
	setup string    // our role, for our answer
	tlsID string    // the party's
	rtp   *dtlsPath // nil: none
	rtcp  *dtlsPath // nil: none of its own, by rtcp-mux

	// foreign says that the party was shown the certificate of another node. The keys go on, but SDP of ours names another
	// fingerprint, so that the next exchange makes a new association (RFC 8842 section 4).
	foreign bool
}

// offered takes the party's offer, when it is answered. An association that goes on keeps its roles (RFC 8842 section 5.3), whatever
// the offer leaves open.
func (p *dtlsParty) offered(l *leg, c credentials, ice, mux, preferActive bool) error {
	setup, err := answerSetup(c.setup, preferActive)
	if err != nil {
		return err
	}
	if pins, err := newDTLSPins(c.prints); err == nil && c.setup == setupActpass && p.rtp != nil && p.tlsID == c.tlsID {
		switch {
		case p.rtp.link.same(pins, true):
			setup = setupActive
		case p.rtp.link.same(pins, false):
			setup = setupPassive
		}
	}
	p.setup = setup
	return p.settle(l, c, setup == setupActive, ice, mux)
}

// answered takes the party's answer to our offer of a role.
func (p *dtlsParty) answered(l *leg, c credentials, offered string, ice, mux bool) error {
	active, err := answeredSetup(c.setup)
	if err != nil {
		return err
	}
	if offered != setupActpass {
		active = offered == setupActive
		if c.setup == offered {
			return fmt.Errorf("setup %s was offered, and %s answered: one must be active", offered, c.setup)
		}
	}
	return p.settle(l, c, active, ice, mux)
}

// settle keeps the associations or makes new ones. Those before them carry the media until the handshake has ended.
func (p *dtlsParty) settle(l *leg, c credentials, active, ice, mux bool) error {
	pins, err := newDTLSPins(c.prints)
	if err != nil {
		return err
	}
	fresh := p.rtp == nil || p.foreign || p.tlsID != c.tlsID || !p.rtp.link.same(pins, active)
	p.tlsID, p.foreign = c.tlsID, false
	if fresh {
		p.rtp = newDTLSPath(l, l.rtp, p.rtp, pins, active, ice)
	}
	if mux && p.rtcp != nil {
		former := p.rtcp
		l.stream.worker.loop.Do(former.close)
		p.rtcp = nil
	} else if !mux && (fresh || p.rtcp == nil) {
		p.rtcp = newDTLSPath(l, l.rtcp, p.rtcp, pins, active, ice)
	}
	return nil
}

// dtlsPath is the way to the keys of the packets of one port: an association, and the one before it until this one has keys. It
// belongs to the worker once published.
type dtlsPath struct {
	link   *dtlsLink     // constant
	former *dtlsPath     // nil: none, or not needed any more
	suite  atomic.Uint32 // of link's keys, for queries
}

// newDTLSPath makes the path of a port. What comes from the port's peer is let in by port.receiveDTLS.
func newDTLSPath(l *leg, p *port, former *dtlsPath, pins dtlsPins, active, ice bool) *dtlsPath {
	d := &dtlsPath{former: former}
	w := l.stream.worker
	d.link = newDTLSLink(dtlsLinkConfig{
		agent: w.engine.dtls, pins: pins, active: active, ice: ice,
		do:    w.loop.Do,
		send:  func(b []byte, to netip.AddrPort) { l.sendControl(p, b, to) },
		ready: func() { d.ready(); l.stream.touched() },
	})
	return d
}

// ready runs when the handshake has brought keys.
func (d *dtlsPath) ready() {
	d.suite.Store(uint32(d.link.keys.suite))
	if d.former == nil {
		return
	}
	if rx, _ := d.former.contexts(); rx != nil {
		d.link.keys.rx.follow(rx)
	}
	d.former.close()
	d.former = nil
}

// contexts returns what opens and seals the packets; nil before the first handshake has ended.
func (d *dtlsPath) contexts() (rx, tx *srtpContext) {
	rx, tx = d.link.contexts()
	if rx == nil && d.former != nil {
		return d.former.contexts()
	}
	return rx, tx
}

// open begins with the handshake, where that is ours to do.
func (d *dtlsPath) open(to netip.AddrPort) {
	if d != nil && d.link.cfg.active && validTarget(to) {
		d.link.open(to)
	}
}

func (d *dtlsPath) tick() {
	if d != nil {
		d.link.tick()
	}
}

func (d *dtlsPath) close() {
	for ; d != nil; d = d.former {
		d.link.close()
	}
}

// takeAway ends DTLS with the party, by SDP or with the stream.
func (p *dtlsParty) takeAway(w *worker) {
	rtp, rtcp := p.rtp, p.rtcp
	*p = dtlsParty{}
	if rtp == nil && rtcp == nil {
		return
	}
	w.loop.Do(func() {
		rtp.close()
		rtcp.close()
	})
}

// writeDTLS makes an m= line name our certificate and role.
func (l *leg) writeDTLS(m *sdp.Media, setup, hash string) {
	m.SetFingerprint(l.stream.worker.engine.dtls.fingerprint(hash))
	m.SetSetup(setup)
}
