package main

import (
	"fmt"
	"net/netip"
	"time"

	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/recovery/hep"
	"rtcedge/sip/transport"
)

// hepKnobs send a copy of every SIP message to a collector (B12).
type hepKnobs struct {
	hep   []string
	hepID int
	key   string
}

func (k *hepKnobs) declare(s *config.Set) {
	s.List(&k.hep, "hep", nil, "udp|tcp:IP:PORT", "HEP3 collectors (HOMER, recovery), each of which gets every SIP message of every leg in clear; none: off",
		protoAddrAllowed("udp", "tcp"), checkProtoAddr("udp", "tcp"))
	s.String(&k.key, "hep-key", "", "TEXT", "auth key in every HEP packet, in clear; none: not sent")
	s.Int(&k.hepID, "hep-id", 2001, 0, 1<<31-1, "N", "capture id of this node")
}

// tap is the proxy's hook: it hands messages to the senders, which never wait.
type tap struct {
	senders []*hep.Sender
}

// open makes the tap, or nil if there is no collector.
func (k *hepKnobs) open(role string, e *env) (*tap, error) {
	if len(k.hep) == 0 {
		return nil, nil
	}
	t := new(tap)
	for _, text := range k.hep {
		proto, addr, err := splitProtoAddr(text, "udp", "tcp")
		if err != nil {
			return nil, flagError(role, "hep", fmt.Errorf("%q: %w", text, err), protoAddrAllowed("udp", "tcp"))
		}
		cfg := hep.Config{Addr: addr, CaptureID: uint32(k.hepID), NodeName: "rtcedge", AuthKey: k.key, Log: e.log}
		if proto == "tcp" {
			cfg.Proto = hep.OverTCP
		}
		sender, err := hep.New(cfg)
		if err != nil {
			return nil, usage(err)
		}
		t.senders = append(t.senders, sender)
	}
	return t, nil
}

// parts are the senders' goroutines.
func (t *tap) parts() []part {
	var out []part
	for _, s := range t.senders {
		out = append(out, part{"hep", s.Run})
	}
	return out
}

// Message implements sip.Tap.
func (t *tap) Message(out bool, l *transport.Listener, peer netip.AddrPort, b []byte) {
	p := hep.Packet{Source: peer, Destination: l.Addr(), Transport: 17, Protocol: hep.SIP, Time: time.Now(), CorrelationID: hep.CallID(b), Payload: b}
	if out {
		p.Source, p.Destination = p.Destination, p.Source
	}
	if l.Proto().Stream() {
		p.Transport = 6
	}
	for _, s := range t.senders {
		s.Send(p)
	}
}

// source adds up what the senders did.
func (t *tap) source() []obs.Sample {
	var sum hep.Stats
	for _, sender := range t.senders {
		s := sender.Stats()
		sum.Sent, sum.Reconnects, sum.WaitingMessages = sum.Sent+s.Sent, sum.Reconnects+s.Reconnects, sum.WaitingMessages+s.WaitingMessages
		for r, n := range s.Dropped {
			sum.Dropped[r] += n
		}
	}
	out := []obs.Sample{
		counter("hep_sent", "SIP messages sent to the collectors", sum.Sent),
		counter("hep_reconnects", "connections to the collectors", sum.Reconnects),
		gauge("hep_waiting", "messages that wait for the collectors", float64(sum.WaitingMessages)),
	}
	for r, n := range sum.Dropped {
		out = append(out, counter("hep_dropped", "messages that a collector did not get", n, "reason", hep.Drop(r).String()))
	}
	return out
}
