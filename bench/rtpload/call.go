//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/pion/srtp/v3"
	"golang.org/x/sys/unix"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// call is two parties.
type call struct {
	id     string
	caller party
	called party
}

// describe makes the SDP of a party.
func describe(host netip.Addr, port int, c codec, key *sdp.Crypto) []byte {
	profile := "RTP/AVP"
	if key != nil {
		profile = "RTP/SAVP"
	}
	b := fmt.Appendf(nil, "v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d %[3]s %[4]d\r\na=rtpmap:%[4]d %[5]s\r\n",
		host, port, profile, c.pt, c.rtpmap)
	if c.fmtp != "" {
		b = fmt.Appendf(b, "a=fmtp:%d %s\r\n", c.pt, c.fmtp)
	}
	if key != nil {
		b = fmt.Appendf(b, "a=crypto:%s\r\n", key)
	}
	return append(b, "a=sendrecv\r\na=ptime:20\r\n"...)
}

// setUp opens the sockets of a call and lets the proxy connect them.
func (l *load) setUp(ctx context.Context, client *ng.Client, n int) (*call, error) {
	c := &call{id: "rtpload-" + strconv.Itoa(n) + "-" + rand.Text()[:8]}
	c.caller.codec, c.called.codec = l.scenario.codec, pcmu
	c.caller.frames, c.called.frames = l.callerFrames, l.calledFrames
	c.caller.peer, c.called.peer = &c.called, &c.caller
	for i, p := range []*party{&c.caller, &c.called} {
		var err error
		if p.fd, p.port, err = openSocket(l.host); err != nil {
			return nil, err
		}
		l.fds = append(l.fds, p.fd)
		// Streams say different things at a time.
		p.place = (n*37 + i*101) % len(p.frames)
		p.ssrc, p.seq, p.timestamp = uint32(n*2+i+1)*2654435761, uint16(n*131), uint32(n)*7919
	}
	var own *sdp.Crypto
	if l.scenario.suite != "" {
		key := make([]byte, 30)
		rand.Read(key)
		own = &sdp.Crypto{Tag: 1, Suite: l.scenario.suite, Keys: []sdp.CryptoKey{{KeySalt: key}}}
	}
	offered, err := l.exchange(client.Offer(ctx, l.scenario.offer(c.id, describe(l.host, c.caller.port, c.caller.codec, own))))
	if err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	answered, err := l.exchange(client.Answer(ctx, l.scenario.answer(c.id, describe(l.host, c.called.port, pcmu, nil))))
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if got := offered.Codecs(); len(got) == 0 || got[0].Name != pcmu.name {
		return nil, fmt.Errorf("offer: the called party is offered %v, want PCMU first", got)
	}
	if got := answered.Codecs(); len(got) == 0 || got[0].PT != c.caller.codec.pt {
		return nil, fmt.Errorf("answer: the caller is answered %v, want %s", got, c.caller.codec.name)
	}
	c.called.to = rawAddr(netip.AddrPortFrom(offered.Connection(), uint16(offered.Port())))
	c.caller.to = rawAddr(netip.AddrPortFrom(answered.Connection(), uint16(answered.Port())))
	if own == nil {
		return c, nil
	}
	theirs := answered.Crypto()
	if len(theirs) != 1 || theirs[0].Suite != own.Suite {
		return nil, fmt.Errorf("answer: crypto %v, want %s", theirs, own.Suite)
	}
	if c.caller.tx, err = newContext(own); err != nil {
		return nil, err
	}
	c.caller.rx, err = newContext(&theirs[0])
	return c, err
}

func newContext(c *sdp.Crypto) (*srtp.Context, error) {
	if len(c.Keys) != 1 || len(c.Keys[0].KeySalt) != 30 {
		return nil, errors.New("crypto: want one key of 30 bytes")
	}
	k := c.Keys[0].KeySalt
	return srtp.CreateContext(k[:16], k[16:], srtp.ProtectionProfileAes128CmHmacSha1_80)
}

// exchange takes the audio line out of an NG response.
func (l *load) exchange(resp *ng.Response, err error) (*sdp.Media, error) {
	if err != nil {
		return nil, err
	}
	if resp.Result != ng.ResultOK {
		return nil, fmt.Errorf("%s: %s", resp.Result, resp.ErrorReason)
	}
	body, err := sdp.Parse(resp.SDP)
	if err != nil {
		return nil, err
	}
	if len(body.Media) != 1 || body.Media[0].Rejected() || !body.Media[0].Connection().Is4() {
		return nil, fmt.Errorf("no usable m= line in %q", resp.SDP)
	}
	return body.Media[0], nil
}

// watch puts all sockets into the epoll set; the event's number finds the party.
func (l *load) watch() error {
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	l.fds = append(l.fds, l.epoll)
	for i, p := range l.parties {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, p.fd, &ev); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	return nil
}
