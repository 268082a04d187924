//go:build linux

package main

import (
	"fmt"
	"strings"

	"rtcedge/media/ng"
)

// scenario is what the calls of a run are. The caller has codec and transport of its own; the called party always has PCMU over RTP.
type scenario struct {
	name      string
	calls     int // of the comparison
	codec     codec
	suite     string // of SDES; "" is plain RTP
	transcode bool
	goal      float64 // rtpengine's processor time by ours, at least
}

// suite80 is the one that every SRTP device has (RFC 4568 section 6.2.1).
const suite80 = "AES_CM_128_HMAC_SHA1_80"

func scenarios() []scenario {
	return []scenario{
		{name: "relay", calls: 200, codec: pcmu, goal: 1.5},
		{name: "srtp", calls: 150, codec: pcmu, suite: suite80, goal: 1.5},
		{name: "pcma", calls: 120, codec: pcma, transcode: true, goal: 2.5},
		{name: "g722", calls: 60, codec: g722Codec, transcode: true, goal: 2.5},
		{name: "opus", calls: 40, codec: opusCodec, transcode: true, goal: 2},
	}
}

func findScenario(name string) (scenario, error) {
	var names []string
	for _, s := range scenarios() {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return scenario{}, fmt.Errorf("--scenario %q: allowed are %s", name, strings.Join(names, ", "))
}

// offer is the request that the proxy gets for a call.
func (s *scenario) offer(callID string, sdp []byte) *ng.Request {
	r := &ng.Request{CallID: callID, FromTag: "a", SDP: sdp, ICE: "remove", Replace: []string{"origin", "session-connection"}}
	if s.suite != "" {
		r.Transport = "RTP/AVP"
	}
	if s.transcode {
		r.Codec = ng.Codec{Mask: []string{"all"}, Transcode: []string{"PCMU"}}
	}
	return r
}

func (s *scenario) answer(callID string, sdp []byte) *ng.Request {
	return &ng.Request{CallID: callID, FromTag: "a", ToTag: "b", SDP: sdp, ICE: "remove", Replace: []string{"origin", "session-connection"}}
}

func (s *scenario) remove(callID string) *ng.Request {
	return &ng.Request{CallID: callID, FromTag: "a"}
}
