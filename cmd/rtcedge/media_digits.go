package main

import (
	"encoding/json"
	"net"
	"net/netip"

	"rtcedge/media"
)

// digitLog is what rtpengine sends to its dtmf-log-dest, and Kamailio's rtpengine module reads (dtmf_events_sock).
type digitLog struct {
	CallID    string   `json:"callid"`
	Source    string   `json:"source_tag"`
	Tags      []string `json:"tags"`
	Type      string   `json:"type"` // "DTMF"
	Timestamp int64    `json:"timestamp"`
	Address   string   `json:"source_ip"`
	Event     uint8    `json:"event"`
	Duration  int64    `json:"duration"` // ms
	Volume    uint8    `json:"volume"`
}

// digitHook sends each key that was pressed as a datagram of JSON. A key is lost where nobody listens: a worker must not wait.
func digitHook(to netip.AddrPort) (func(media.Digit), error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	return func(d media.Digit) {
		b, err := json.Marshal(digitLog{
			CallID: d.CallID, Source: d.Tag, Tags: d.Tags, Type: "DTMF", Timestamp: d.At.Unix(), Address: d.Source.Addr().String(),
			Event: d.Event, Duration: d.Duration.Milliseconds(), Volume: d.Volume,
		})
		if err == nil {
			_, _ = conn.Write(b)
		}
	}, nil
}
