package media

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/transcode/g711"
)

// events are the packets of one key as phones send them: reports as it gets longer, the end three times.
func (p *peer) events(key byte, send func(payload []byte)) {
	p.ts += 160
	start, seq := p.ts, p.seq
	for i, duration := range []uint16{160, 320, 480, 640, 800, 800, 800} {
		payload := []byte{key, 10, 0, 0}
		binary.BigEndian.PutUint16(payload[2:], duration)
		if i >= 4 {
			payload[1] |= eventEndBit
		}
		seq++
		pkt := p.packet(101, payload)
		pkt.Timestamp, pkt.SequenceNumber = start, seq
		p.send(pkt)
		send(payload)
	}
	p.seq, p.ts = seq, start+800
}

// TestB22DTMFSecurity: what takes the place of a key that is blocked: nothing, another key, silence or a tone as long as the key.
func TestB22DTMFSecurity(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	lines := []string{"rtpmap:101 telephone-event/8000"}
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0 101", lines...)), a, b, b.body("RTP/AVP", "0 101", lines...))
	voice := func() {
		t.Helper()
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
	}
	voice()
	for _, mode := range []string{"zero", "dtmf", "random"} {
		r.must(ng.Request{Command: ng.CmdBlockDTMF, CallID: "c", FromTag: "a", DTMFSecurity: mode, Code: "#", Volume: 20})
		var keys []byte
		a.events(5, func([]byte) {
			got := b.recv()
			if got.PayloadType != 101 || got.Payload[1]&0x3f != 20 {
				t.Errorf("%s: %v", mode, got)
			}
			keys = append(keys, got.Payload[0])
		})
		want := map[string]byte{"zero": 0, "dtmf": 11, "random": keys[0]}[mode]
		for _, k := range keys {
			if k != want || k == 5 || k > 15 {
				t.Errorf("%s: keys %v", mode, keys)
				break
			}
		}
	}
	for _, tt := range []struct {
		mode string
		hz   float64
	}{{"silence", 0}, {"tone", 600}} {
		r.must(ng.Request{Command: ng.CmdBlockDTMF, CallID: "c", FromTag: "a", DTMFSecurity: tt.mode, Frequencies: []int{600}})
		var pcm []float64
		n := 0
		a.events(5, func([]byte) {
			if n++; n > 5 {
				b.silence() // the end again: it was said
				return
			}
			got := b.recv()
			if got.PayloadType != 0 || len(got.Payload) != 160 {
				t.Fatalf("%s: %v", tt.mode, got)
			}
			s := make([]int16, 160)
			g711.DecodeULaw(s, got.Payload)
			for _, v := range s {
				pcm = append(pcm, float64(v))
			}
		})
		want := math.Pow(10, -0.5) * math.MaxInt16 // -10 dB
		if tt.hz == 0 {
			want = 0
		}
		if got := level(pcm, 600); math.Abs(got-want) > 0.05*want+1 {
			t.Errorf("%s: the level is %.0f, want %.0f", tt.mode, got, want)
		}
	}
	r.must(ng.Request{Command: ng.CmdBlockDTMF, CallID: "c", FromTag: "a"})
	a.events(5, func([]byte) { b.silence() })
	r.must(ng.Request{Command: ng.CmdBlockDTMF, CallID: "c", FromTag: "a", DTMFSecurity: "off"})
	a.events(5, func(p []byte) {
		if got := b.recv(); got.Payload[0] != 5 || got.Payload[1] != p[1] {
			t.Errorf("%v", got)
		}
	})
	voice()

	g, h := newPeer(t, 3), newPeer(t, 4)
	r.connect(relayed("g", "a", g.body("RTP/AVP", "9 101", lines...)), g, h, h.body("RTP/AVP", "9 101", lines...))
	for _, req := range []ng.Request{
		{Command: ng.CmdBlockDTMF, CallID: "g", FromTag: "a", DTMFSecurity: "tone"},
		{Command: ng.CmdBlockDTMF, CallID: "g", FromTag: "a", DTMFSecurity: "dtmf", Code: "123"},
	} {
		if resp := r.do(req); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "block DTMF") {
			t.Errorf("%+v", resp)
		}
	}
}

// TestB27InjectDTMF: a party without telephone-event hears keys as tones, if the offer said that there may be some.
func TestB27InjectDTMF(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(relayed("plain", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	if resp := r.do(ng.Request{Command: ng.CmdPlayDTMF, CallID: "plain", FromTag: "a", Code: "5"}); !strings.Contains(resp.ErrorReason, "inject-DTMF") {
		t.Errorf("%+v", resp)
	}
	offer := relayed("c", "a", a.body("RTP/AVP", "0"))
	offer.Flags = []string{"inject-dtmf"}
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	talk := func(frames int) (pcm []float64) {
		t.Helper()
		for range frames {
			quiet := make([]byte, 160)
			fillBytes(quiet, 0xff)
			a.send(a.packet(0, quiet))
			s := make([]int16, 160)
			g711.DecodeULaw(s, b.recv().Payload)
			for _, v := range s {
				pcm = append(pcm, float64(v))
			}
		}
		return pcm
	}
	talk(3)
	r.must(ng.Request{Command: ng.CmdPlayDTMF, CallID: "c", FromTag: "a", Code: "5", Duration: 200 * time.Millisecond})
	r.barrier()
	heard := talk(20)
	tone := heard[320:1280]
	if low, high := level(tone, 770), level(tone, 1336); low < 1500 || high < 1500 || level(tone, 941) > 300 {
		t.Errorf("key 5 is 770 and 1336 Hz: %.0f, %.0f; 941 Hz %.0f", low, high, level(tone, 941))
	}
	if rest := heard[2400:]; level(rest, 770) > 50 {
		t.Errorf("the tone goes on: %.0f", level(rest, 770))
	}
}

// TestB27DetectDTMF: keys are told of once, with their party, as events and, with the flag, as tones in the voice.
func TestB27DetectDTMF(t *testing.T) {
	digits := make(chan Digit, 16)
	r := newRig(t, Config{Digit: func(d Digit) { digits <- d }})
	a, b := newPeer(t, 1), newPeer(t, 2)
	lines := []string{"rtpmap:101 telephone-event/8000"}
	offer := relayed("c", "a", a.body("RTP/AVP", "0 101", lines...))
	offer.Flags = []string{"detect-dtmf"}
	r.connect(offer, a, b, b.body("RTP/AVP", "0 101", lines...))
	a.events(5, func([]byte) { b.recv() })
	got := <-digits
	if got.Event != 5 || got.Tag != "a" || got.CallID != "c" || got.Duration != 100*time.Millisecond || got.Volume != 10 || got.FromTones || len(got.Tags) != 2 {
		t.Errorf("%+v", got)
	}
	for i := range 10 { // 100 ms of key 9: 852 and 1477 Hz, then silence
		pcm, payload := make([]int16, 160), make([]byte, 160)
		for k := range pcm {
			if at := float64(160*i+k) / 8000; i < 5 {
				pcm[k] = int16(6000*math.Sin(2*math.Pi*852*at) + 6000*math.Sin(2*math.Pi*1477*at))
			}
		}
		g711.EncodeULaw(payload, pcm)
		b.send(b.packet(0, payload))
		a.recv()
	}
	select {
	case got = <-digits:
		if got.Event != 9 || got.Tag != "b" || !got.FromTones || got.Duration < 60*time.Millisecond || got.Duration > 140*time.Millisecond {
			t.Errorf("%+v", got)
		}
	case <-time.After(2 * time.Second):
		t.Error("the tone was not heard")
	}
	select {
	case d := <-digits:
		t.Errorf("told again: %+v", d)
	default:
	}
}
