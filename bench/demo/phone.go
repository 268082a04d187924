package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
	"rtcedge/transcode/opus"
)

// codec is one that the phones speak.
type codec struct {
	name   string  // as in SDP
	minSNR float64 // dB of the echo of the speech-like signal, through PCMU at the farm
}

// The bounds lie some dB below what the calls measure; a lost packet or a wrong step in a codec costs more.
var (
	pcmu = codec{name: "PCMU", minSNR: 30}
	pcma = codec{name: "PCMA", minSNR: 27}
	g722 = codec{name: "G722", minSNR: 20}
	// Opus is coded twice on the way and keeps the sound of a hiss, not its waveform, which counts as noise here.
	opusCodec = codec{name: "opus", minSNR: 4}
)

// suite is the one that every SRTP device has. RFC 4568 section 6.2.1.
const suite = "AES_CM_128_HMAC_SHA1_80"

// phone is a registered user agent and its media.
type phone struct {
	*siptest.UA
	peer  *mediatest.Peer
	audio func(rate int) []int16
	stop  func() error
}

// line is what a phone is to be.
type line struct {
	who       account
	transport string
	codec     codec
	srtp      bool
	audio     func(rate int) []int16
	onCall    func(context.Context, *siptest.Incoming)
}

// newPhone binds sockets, registers, and returns a phone that must be put away.
func (p plan) newPhone(ctx context.Context, l line) (*phone, error) {
	cfg := mediatest.Config{Addr: p.local, Codecs: []string{l.codec.name}, Audio: l.audio}
	if l.srtp {
		cfg.Suites = []string{suite}
	}
	peer, err := mediatest.New(cfg)
	if err != nil {
		return nil, err
	}
	ua, err := siptest.New(siptest.Config{
		User: l.who.User, Password: l.who.Password, Proxy: p.edge.sip, Transport: l.transport,
		Local: netip.AddrPortFrom(p.local, 0), OnCall: l.onCall,
	})
	if err != nil {
		release(peer)
		return nil, err
	}
	uctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- ua.Run(uctx) }()
	ph := &phone{UA: ua, peer: peer, audio: l.audio, stop: func() error {
		cancel()
		release(peer)
		return <-ran
	}}
	rctx, rcancel := context.WithTimeout(ctx, setupLimit)
	defer rcancel()
	if _, err := ua.Register(rctx, 2*time.Minute); err != nil {
		return nil, errors.Join(err, ph.stop())
	}
	return ph, nil
}

// release closes the ports of a peer, whether it ran or not. What Run says about a peer that never agreed on anything
// is no news.
func release(peer *mediatest.Peer) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = peer.Run(ctx)
}

// away unregisters and releases a phone.
func (ph *phone) away(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	return errors.Join(ph.Unregister(ctx), ph.stop())
}

// reversed plays a signal from its end: as much like speech, and nothing like the original.
func reversed(audio func(int) []int16) func(int) []int16 {
	return func(rate int) []int16 {
		pcm := audio(rate)
		slices.Reverse(pcm)
		return pcm
	}
}

// without says why a codec cannot be shown.
func (p plan) without(c codec) string {
	switch {
	case c.name != opusCodec.name:
		return ""
	case !opus.CanEncode:
		return "this demo was built without libopus"
	case !p.edge.opus:
		return "the edge was built without libopus"
	}
	return ""
}
