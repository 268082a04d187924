package mediatest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/transcode/opus"
)

func newPeer(t *testing.T, cfg Config) *Peer {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// connect lets b answer a.
func connect(t *testing.T, a, b *Peer) {
	t.Helper()
	offer, err := a.Offer()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := b.Answer(offer)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetAnswer(answer); err != nil {
		t.Fatal(err)
	}
}

// call runs both until the first one is done.
func call(t *testing.T, a, b *Peer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	var group sync.WaitGroup
	group.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	group.Wait()
}

// TestEchoOfEveryCodec: an offer, an answer, audio there and back with each codec, plain and protected.
func TestEchoOfEveryCodec(t *testing.T) {
	suites := []string{"", "AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM", "AES_256_CM_HMAC_SHA1_32"}
	for i, tc := range []struct {
		codec string
		snr   float64
	}{{"PCMU", 33}, {"PCMA", 33}, {"G722", 18}, {"opus", 8}} {
		t.Run(tc.codec, func(t *testing.T) {
			t.Parallel()
			if tc.codec == "opus" && !opus.CanEncode {
				t.Skip("this build has no Opus encoder")
			}
			cfg := Config{Codecs: []string{tc.codec}, Audio: Speech(1500 * time.Millisecond), RTCPInterval: 200 * time.Millisecond, Mux: i%2 == 0}
			if suites[i] != "" {
				cfg.Suites = []string{suites[i]}
			}
			a := newPeer(t, cfg)
			cfg.Echo = true
			b := newPeer(t, cfg)
			connect(t, a, b)
			if a.Codec() != tc.codec || a.Suite() != suites[i] || b.Suite() != suites[i] {
				t.Fatalf("agreed on %s %s", a.Codec(), a.Suite())
			}
			if err := a.SendDTMF("5#"); err != nil {
				t.Fatal(err)
			}
			call(t, a, b)
			r := a.Report()
			e := r.Echo(cfg.Audio)
			t.Logf("sent %d received %d lost %d SNR %.1f dB gain %.2f dB delay %v round trip %v RTCP %v jitter %v digits %q",
				r.Sent, r.Received, r.Lost, e.SNR, e.Gain, e.Delay, e.RoundTrip, r.RTCP.RoundTrip, r.Jitter, r.DTMF())
			if r.Received != r.Sent || r.Lost != 0 || r.Refused != 0 || r.Undecodable != 0 || r.OtherPT != 0 {
				t.Errorf("%+v", r)
			}
			if r.DTMF() != "5#" || !r.Digits[1].Ended || r.Digits[0].Duration != digitTime {
				t.Errorf("digits %+v", r.Digits)
			}
			if e.SNR < tc.snr {
				t.Errorf("SNR %.1f dB, want %v", e.SNR, tc.snr)
			}
			if e.RoundTrip < -5*time.Millisecond || e.RoundTrip > 100*time.Millisecond {
				t.Errorf("round trip %v", e.RoundTrip)
			}
			if r.RTCP.SenderReports == 0 || r.RTCP.Blocks == 0 || r.RTCP.Sent == 0 {
				t.Errorf("RTCP %+v", r.RTCP)
			}
			if rtt := r.RTCP.RoundTrip; rtt < 0 || rtt > 200*time.Millisecond {
				t.Errorf("round trip by RTCP %v", rtt)
			}
		})
	}
}

// TestAudioQuality without DTMF in it: what each codec leaves of the signal.
func TestAudioQuality(t *testing.T) {
	for _, tc := range []struct {
		codec string
		snr   float64
	}{{"PCMU", 33}, {"PCMA", 33}, {"G722", 15}, {"opus", 8}} {
		t.Run(tc.codec, func(t *testing.T) {
			t.Parallel()
			if tc.codec == "opus" && !opus.CanEncode {
				t.Skip("this build has no Opus encoder")
			}
			a := newPeer(t, Config{Codecs: []string{tc.codec}, Audio: Speech(2 * time.Second)})
			b := newPeer(t, Config{Codecs: []string{"PCMA", "opus", "PCMU", "G722"}, Audio: Tone(1000, -12, 2*time.Second)})
			connect(t, a, b)
			call(t, a, b)
			e := b.Report().Echo(a.cfg.Audio)
			level := Level(a.Report().Recording, a.Report().Rate, 1000)
			t.Logf("SNR %.1f dB, share %.2f, tone %.1f dBFS", e.SNR, e.Share, level)
			if e.SNR < tc.snr || e.Share < 0.95 {
				t.Errorf("%+v", e)
			}
			if level < -15 || level > -11 {
				t.Errorf("tone at %.1f dBFS", level)
			}
		})
	}
}

// TestReportCountsLossAndOrder sends through a relay that loses, swaps and repeats packets.
func TestReportCountsLossAndOrder(t *testing.T) {
	t.Parallel()
	relay, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	a := newPeer(t, Config{Audio: Speech(time.Second), RTCPInterval: -1})
	b := newPeer(t, Config{Audio: Speech(time.Second), RTCPInterval: -1})
	connect(t, a, b)
	through := *a.session.Load()
	through.rtp = relay.LocalAddr().(*net.UDPAddr).AddrPort()
	a.session.Store(&through)

	var group sync.WaitGroup
	lost, swapped, repeated := 0, 0, 0
	group.Go(func() {
		r := rand.New(rand.NewPCG(4, 4))
		buf := make([]byte, 2048)
		var held []byte
		send := func(p []byte) { relay.WriteToUDPAddrPort(p, b.Addr()) }
		for {
			n, _, err := relay.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			p := append([]byte(nil), buf[:n]...)
			switch x := r.IntN(10); {
			case held != nil:
				send(p)
				send(held)
				held = nil
				swapped++
			case x == 0:
				lost++
			case x == 1:
				held = p
			case x == 2:
				send(p)
				send(p)
				repeated++
			default:
				send(p)
			}
		}
	})
	call(t, a, b)
	relay.Close()
	group.Wait()
	r := b.Report()
	if r.Reordered != swapped || r.Duplicates != repeated || r.Lost > lost || r.Lost < lost-2 {
		t.Errorf("lost %d of %d, reordered %d of %d, duplicates %d of %d", r.Lost, lost, r.Reordered, swapped, r.Duplicates, repeated)
	}
	if len(r.SSRCs) != 1 || len(r.Sources) != 1 || r.Sources[0].Port() != through.rtp.Port() {
		t.Errorf("SSRCs %v, sources %v", r.SSRCs, r.Sources)
	}
}

// TestReOffer: a second offer and answer keep the keys and the stream.
func TestReOffer(t *testing.T) {
	t.Parallel()
	cfg := Config{Suites: []string{"AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"}, Audio: Speech(time.Second)}
	a := newPeer(t, cfg)
	b := newPeer(t, cfg)
	connect(t, a, b)
	var group sync.WaitGroup
	group.Go(func() {
		time.Sleep(500 * time.Millisecond)
		offer, err := b.Offer()
		if err != nil {
			t.Error(err)
			return
		}
		answer, err := a.Answer(offer)
		if err != nil {
			t.Error(err)
			return
		}
		if err := b.SetAnswer(answer); err != nil {
			t.Error(err)
		}
	})
	call(t, a, b)
	group.Wait()
	if r := b.Report(); r.Refused != 0 || r.Lost != 0 || len(r.SSRCs) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestDescriptions(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	plain := newPeer(t, Config{Codecs: []string{"opus", "PCMU"}, Mux: true})
	secure := newPeer(t, Config{Codecs: []string{"PCMU"}, Suites: []string{"AEAD_AES_128_GCM"}})
	offer, err := plain.Offer()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"RTP/AVP 111 0 110 101\r\n", "a=rtpmap:111 opus/48000/2\r\n", "a=rtcp-mux\r\n", "a=ptime:20\r\n"} {
		if !strings.Contains(string(offer), want) {
			t.Errorf("offer lacks %q:\n%s", want, offer)
		}
	}
	if _, err := secure.Answer(offer); err == nil {
		t.Error("a secure peer answers a plain offer")
	}
	offer, err = secure.Offer()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(offer), "RTP/SAVP 0 101\r\n") || !strings.Contains(string(offer), "a=crypto:1 AEAD_AES_128_GCM inline:") {
		t.Errorf("offer:\n%s", offer)
	}
	if _, err := plain.Answer(offer); err == nil {
		t.Error("a plain peer answers a secure offer")
	}
	// Run with a context that has ended only releases the ports.
	addr := secure.Addr()
	if err := secure.Run(done); err == nil {
		t.Error("a peer without a session ran")
	}
	if c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr)); err != nil {
		t.Errorf("port not released: %v", err)
	} else {
		c.Close()
	}
	if err := plain.Run(done); errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, bad := range []Config{{Codecs: []string{"G729"}}, {Suites: []string{"ROT13"}}, {PTime: 25 * time.Millisecond}, {Codecs: []string{"opus"}, PTime: 30 * time.Millisecond}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
