package mediatest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pion/rtp"
)

// The functions occur in the order in which audio meets them.

// sender is the state of the outgoing stream, guarded by Peer.sendMu.
type sender struct {
	ssrc      uint32
	seq       uint16
	timestamp uint32 // of the next packet
	marker    bool   // the next packet starts a talk spurt

	packets, octets uint32
	started         time.Time // when the first packet left
	due             time.Time // when it should have: those behind it keep to that schedule
	slot            time.Time // when the packet that is being made is due
	lastTimestamp   uint32
	lastSent        time.Time
	events          int
	failed          int
}

func newSender(ssrc uint32, seq uint16) sender {
	if ssrc == 0 {
		ssrc = rand.Uint32()
	}
	if seq == 0 {
		seq = uint16(rand.Uint32())
	}
	return sender{ssrc: ssrc, seq: seq, timestamp: rand.Uint32(), marker: true}
}

// send paces the audio by the wall clock: a late packet does not move the ones behind it.
func (p *Peer) send(ctx context.Context) error {
	s := p.session.Load()
	if s == nil {
		<-ctx.Done()
		return errors.New("run peer: no session description was agreed on")
	}
	c, err := newCoder(s.coder)
	if err != nil {
		return err
	}
	audio := p.cfg.Audio(c.rate)
	frame := make([]int16, c.samples(p.cfg.PTime))
	silent := p.cfg.Tail / 2
	var event *eventSender
	timer := time.NewTimer(0)
	defer timer.Stop()
	start := time.Now()
	for n := 0; ; n++ {
		at := n * len(frame)
		over := len(audio) > 0 && !p.cfg.Loop && at >= len(audio)
		if over && time.Duration(at-len(audio))*time.Second/time.Duration(c.rate) >= silent && event == nil && len(p.digits) == 0 {
			return sleep(ctx, p.cfg.Tail-silent)
		}
		due := start.Add(time.Duration(n) * p.cfg.PTime)
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		clear(frame)
		if len(audio) > 0 && !over {
			for i := range frame {
				if j := at + i; j < len(audio) || p.cfg.Loop {
					frame[i] = audio[j%len(audio)]
				}
			}
		}
		// A new answer may have moved the far end or changed the codec.
		if now := p.session.Load(); now != s {
			if now.coder != s.coder {
				return errors.New("run peer: the codec changed while sending, which a peer does not do")
			}
			s = now
		}
		if event == nil && s.hasEvent {
			select {
			case d := <-p.digits:
				event = newEventSender(d, s.events[s.eventPT])
			default:
			}
		}
		p.sendFrame(s, c, frame, due, &event)
	}
}

// sleep waits, but not beyond the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return nil
}

// sendFrame sends one packet time: audio, or a part of a digit.
func (p *Peer) sendFrame(s *session, c *coder, frame []int16, due time.Time, event **eventSender) {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	o := &p.out
	o.slot = due
	defer func() { o.timestamp += c.ticks(p.cfg.PTime) }()
	if p.paused.Load() || !s.sends {
		o.marker = true
		return
	}
	if e := *event; e != nil {
		e.send(p, s, o.timestamp, p.cfg.PTime)
		if e.done {
			*event, o.marker = nil, true
		}
		return
	}
	var payload [1500]byte
	n := c.encode(payload[:], frame)
	p.sendRTP(s, rtp.Header{Marker: o.marker, PayloadType: s.pt, Timestamp: o.timestamp}, payload[:n])
	o.marker = false
}

// sendRTP numbers, protects and sends a packet; sendMu is held.
func (p *Peer) sendRTP(s *session, h rtp.Header, payload []byte) {
	o := &p.out
	if p.dtls != nil && p.tx == nil {
		return // the handshake is not over
	}
	h.Version, h.SSRC, h.SequenceNumber = 2, o.ssrc, o.seq
	o.seq++
	b, err := (&rtp.Packet{Header: h, Payload: payload}).Marshal()
	if err == nil && p.tx != nil && s.suite != "" {
		b, err = p.tx.EncryptRTP(nil, b, nil)
	}
	now := time.Now()
	if err == nil {
		_, err = p.rtp.WriteToUDPAddrPort(b, s.rtp)
	}
	if err != nil {
		o.failed++
		return
	}
	if o.packets == 0 {
		o.started, o.due = now, o.slot
	}
	o.packets++
	o.octets += uint32(len(payload))
	o.lastTimestamp, o.lastSent = h.Timestamp, now
}

// echo sends a received packet back under our own SSRC and numbers.
func (p *Peer) echo(s *session, in *rtp.Packet) {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if p.paused.Load() || !s.sends || !s.rtp.IsValid() || s.rtp == (netip.AddrPort{}) {
		return
	}
	p.sendRTP(s, rtp.Header{Marker: in.Marker, PayloadType: in.PayloadType, Timestamp: in.Timestamp}, in.Payload)
}
