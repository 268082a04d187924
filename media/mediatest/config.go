package mediatest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Config describes a peer. The zero value sends 5 s of speech-like audio as PCMU from 127.0.0.1.
type Config struct {
	// Addr is where the peer binds, at a port pair that the system chooses; default 127.0.0.1.
	Addr netip.Addr
	// Codecs are encoding names, best first: PCMU, PCMA, G722, opus; default PCMU.
	Codecs []string
	// NoEvents leaves telephone-event out of the SDP.
	NoEvents bool
	// PTime is the time of a packet; default 20 ms. It is a multiple of 10 ms, for opus 10, 20, 40 or 60.
	PTime time.Duration
	// Suites are SDES crypto suites, best first, by their SDP names; none is plain RTP.
	Suites []string
	// DTLS keys SRTP by a handshake, as the client, instead of by Suites. Nothing is sent before it.
	DTLS bool
	// Mux offers rtcp-mux.
	Mux bool
	// Audio makes what is sent, mono at the rate asked for; default Speech(5 s). An empty result is silence until ctx ends.
	Audio func(rate int) []int16
	// Loop repeats Audio until ctx ends.
	Loop bool
	// Tail is how long the peer listens after the last audio, sending silence in the first half of it; default 500 ms.
	Tail time.Duration
	// Echo sends back what comes in instead of Audio, with an SSRC of its own, until ctx ends.
	Echo bool
	// RTCPInterval is the time between two sender reports; default 1 s, negative for no RTCP.
	RTCPInterval time.Duration
	// SSRC of what is sent; default is a random one.
	SSRC uint32
	// Sequence is the number of the first packet; default is a random one. From it on, 65536 packets make a rollover of SRTP.
	Sequence uint16
}

func (c *Config) validate() error {
	if !c.Addr.IsValid() {
		c.Addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if len(c.Codecs) == 0 {
		c.Codecs = []string{"PCMU"}
	}
	if c.PTime == 0 {
		c.PTime = 20 * time.Millisecond
	}
	if c.PTime < 0 || c.PTime%(10*time.Millisecond) != 0 || c.PTime > 60*time.Millisecond {
		return fmt.Errorf("packet time %v, want 10 to 60 ms in steps of 10", c.PTime)
	}
	if slices.Contains(c.Codecs, "opus") && (c.PTime == 30*time.Millisecond || c.PTime == 50*time.Millisecond) {
		return errors.New("opus has no packets of 30 or 50 ms")
	}
	if c.DTLS && len(c.Suites) > 0 {
		return errors.New("DTLS and SDES suites: one of them keys the stream")
	}
	if c.Audio == nil {
		c.Audio = Speech(5 * time.Second)
	}
	if c.Tail == 0 {
		c.Tail = 500 * time.Millisecond
	}
	if c.RTCPInterval == 0 {
		c.RTCPInterval = time.Second
	}
	return nil
}
