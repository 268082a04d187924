package main

import (
	"context"
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
	hep   string
	hepID int
	key   string
}

func (k *hepKnobs) declare(s *config.Set) {
	s.String(&k.hep, "hep", "", "udp|tcp:IP:PORT", "HEP3 collector (HOMER) that gets every SIP message of every leg in clear; none: off")
	s.String(&k.key, "hep-key", "", "TEXT", "auth key in every HEP packet, in clear; none: not sent")
	s.Int(&k.hepID, "hep-id", 2001, 0, 1<<31-1, "N", "capture id of this node")
}

// tap is the proxy's hook: it hands messages to the sender, which never waits.
type tap struct {
	sender *hep.Sender
	part   part
}

// open makes the tap, or nil if there is no collector.
func (k *hepKnobs) open(role string, e *env) (*tap, error) {
	if k.hep == "" {
		return nil, nil
	}
	proto, addr, err := splitProtoAddr(k.hep, "udp", "tcp")
	if err != nil {
		return nil, flagError(role, "hep", fmt.Errorf("%q: %w", k.hep, err), protoAddrAllowed("udp", "tcp"))
	}
	cfg := hep.Config{Addr: addr, CaptureID: uint32(k.hepID), NodeName: "rtcedge", AuthKey: k.key, Log: e.log}
	if proto == "tcp" {
		cfg.Proto = hep.OverTCP
	}
	sender, err := hep.New(cfg)
	if err != nil {
		return nil, usage(err)
	}
	return &tap{sender: sender, part: part{"hep", func(ctx context.Context) error { return sender.Run(ctx) }}}, nil
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
	t.sender.Send(p)
}

func (t *tap) source() []obs.Sample {
	s := t.sender.Stats()
	out := []obs.Sample{
		counter("hep_sent", "SIP messages sent to the collector", s.Sent),
		counter("hep_reconnects", "connections to the collector", s.Reconnects),
		gauge("hep_waiting", "messages that wait for the collector", float64(s.WaitingMessages)),
	}
	for r, n := range s.Dropped {
		out = append(out, counter("hep_dropped", "messages that the collector did not get", n, "reason", hep.Drop(r).String()))
	}
	return out
}
