package media

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"rtcedge/transcode"
	"rtcedge/transcode/g711"
)

// TestF9BrowserTakenOver: a call with ICE and DTLS-SRTP goes on at another engine: the browser keeps its contexts, its checks are
// answered under the same credentials, and no handshake is needed, not even for a re-INVITE.
func TestF9BrowserTakenOver(t *testing.T) {
	cert, err := newDTLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Certificate: cert}
	first := newRig(t, cfg)
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	_, before := first.fromBrowser("c", web, farm)
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	for range 5 {
		web.hears(0, make([]byte, 160), farm)
	}
	// The browser's counter rolls over, which only the record can tell the next engine.
	for web.seq = 32000; web.seq > 5000; web.seq += 12000 {
		web.talk(web.pt, web.frame, farm)
	}
	record, err := first.Export("c")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("record of %d bytes", len(record))
	first.clock.advance(time.Second)
	web.talk(web.pt, web.frame, farm)
	last := web.hears(0, make([]byte, 160), farm)
	first.stop()

	second := newRig(t, cfg)
	second.clock.advance(2 * time.Second)
	if err := second.Restore(record); err != nil {
		t.Fatal(err)
	}
	second.barrier()
	next := web.hears(0, make([]byte, 160), farm) // at once, before any check
	if d := next.SequenceNumber - last.SequenceNumber; next.SSRC != last.SSRC || d == 0 || d > 1000 {
		t.Errorf("%v behind %v", next.Header, last.Header)
	}
	web.talk(web.pt, web.frame, farm)
	if got := web.check(true); got != stun.BindingSuccess {
		t.Errorf("check answered with %v", got)
	}
	if info := second.query("c").Tags[0].Medias[0].Streams[0]; info.Crypto != "AEAD_AES_128_GCM" || info.Endpoint != web.addr() {
		t.Errorf("query: %+v", info)
	}
	_, after := second.fromBrowser("c", web, farm)
	ufrag, pwd, _ := before.ICE()
	if u, p, _ := after.ICE(); u != ufrag || p != pwd || after.Port() != before.Port() || after.MID() != "7" ||
		string(after.Fingerprints()[0].Sum) != string(before.Fingerprints()[0].Sum) {
		t.Errorf("the browser sees another node:\n%s", web.far.Bytes())
	}
	if g := web.far.Groups("BUNDLE"); len(g) != 1 || strings.Join(g[0], " ") != "7" {
		t.Errorf("BUNDLE %v", g)
	}
	web.hears(0, make([]byte, 160), farm)
	web.talk(web.pt, web.frame, farm)
	if n := second.dtls.started.Load(); n != 0 {
		t.Errorf("%d handshakes", n)
	}
	// A stranger with the right kind of packet is one still.
	stranger := newPeer(t, 9)
	stranger.to = web.to
	stranger.raw(clientHello(1))
	stranger.silence()
}

// TestF9OtherCertificate: engines with certificates of their own: the keys go on, and the re-INVITE, whose fingerprint is another one,
// begins a new association, under which the old keys serve until it has its own.
func TestF9OtherCertificate(t *testing.T) {
	first := newRig(t, Config{})
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	first.fromBrowser("c", web, farm)
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	web.hears(0, make([]byte, 160), farm)
	record, err := first.Export("c")
	if err != nil {
		t.Fatal(err)
	}
	first.stop()
	second := newRig(t, Config{})
	if err := second.Restore(record); err != nil {
		t.Fatal(err)
	}
	second.barrier()
	web.hears(0, make([]byte, 160), farm)
	web.talk(web.pt, web.frame, farm)
	second.fromBrowser("c", web, farm)
	web.hears(0, make([]byte, 160), farm)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	web.hears(0, make([]byte, 160), farm)
	if n := second.dtls.ended[dtlsOK].Load(); n != 1 {
		t.Errorf("%d handshakes, want 1", n)
	}
}

// TestF9DTLSWithoutICE: the same of a phone without ICE and rtcp-mux, whose RTCP has keys of its own, and of a call whose handshake had
// not ended when the record was made.
func TestF9DTLSWithoutICE(t *testing.T) {
	for _, done := range []bool{true, false} {
		first := newRig(t, Config{})
		phone, control, farm := newRTCPeer(t, 1), newRTCPeer(t, 1), newPeer(t, 2)
		control.cert = phone.cert
		farm.take(first.must(toFarm("c", "a", phone.phoneBody("actpass")+"a=rtcp:"+portText(control.addr())+"\r\n")))
		phone.far = phone.take(first.must(answered("c", "a", "b", farm.body("RTP/AVP", "0"))))
		control.far, control.to = phone.far, phone.far.Media[0].RTCP()
		if done {
			phone.secure(true)
			control.secure(true)
			phone.talk(0, make([]byte, 160), farm)
			phone.hears(0, make([]byte, 160), farm)
		}
		record, err := first.Export("c")
		if err != nil {
			t.Fatal(err)
		}
		cert := first.dtls.cert
		first.stop()
		second := newRig(t, Config{Certificate: &cert})
		if err := second.Restore(record); err != nil {
			t.Fatal(err)
		}
		second.barrier()
		if !done {
			phone.secure(true)
			control.secure(true)
		}
		phone.talk(0, make([]byte, 160), farm)
		phone.hears(0, make([]byte, 160), farm)
		sealed, err := control.seal.EncryptRTCP(nil, []byte{0x80, rtcpRR, 0, 1, 0, 0, 0, 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := second.query("c").Totals.RTCP.Packets
		control.raw(sealed)
		waitFor(t, "the report", func() bool { return second.query("c").Totals.RTCP.Packets == before+1 })
		second.stop()
	}
}

// TestF9CodecInStep measures what the state of G.722 in a record is good for: a coder that goes on with it is in step at once, a fresh
// one after 120 ms.
func TestF9CodecInStep(t *testing.T) {
	wide := transcode.Format{Codec: transcode.G722, Rate: 8000, Channels: 1}
	narrow := transcode.Format{Codec: transcode.PCMU, Rate: 8000, Channels: 1}
	open := func(from, to transcode.Format) *transcode.Pipe {
		p, err := transcode.NewPipe(transcode.PipeConfig{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	pass := func(p *transcode.Pipe, i int, payload []byte) (out []byte) {
		p.Push(transcode.Packet{Seq: uint16(i), Timestamp: uint32(160 * i), Payload: payload})
		for pkt, ok := p.Next(); ok; pkt, ok = p.Next() {
			out = append(out, pkt.Payload...)
		}
		return out
	}
	const change = 50
	coder, kept := open(narrow, wide), open(wide, narrow)
	fresh, told := open(wide, narrow), open(wide, narrow)
	inStep := map[*transcode.Pipe]int{} // frame since when it was
	for i := range change + 12 {
		coded := bytes.Clone(pass(coder, i, tone(i, 440, g711.EncodeULaw)))
		if i == change {
			told.SetState(kept.State())
		}
		want := bytes.Clone(pass(kept, i, coded))
		if i < change {
			continue
		}
		for _, p := range []*transcode.Pipe{fresh, told} {
			var diff, power float64
			a, b := make([]int16, 160), make([]int16, 160)
			g711.DecodeULaw(a, want)
			g711.DecodeULaw(b, pass(p, i, coded))
			for k := range a {
				d := float64(a[k]) - float64(b[k])
				diff, power = diff+d*d, power+float64(a[k])*float64(a[k])
			}
			if snr := 10 * math.Log10(power/math.Max(diff, 1e-3)); snr < 25 {
				inStep[p] = i - change + 1
			}
		}
	}
	t.Logf("frames until in step: %d with the state, %d without", inStep[told], inStep[fresh])
	if inStep[told] > 1 || inStep[fresh] < 3 || inStep[fresh] > 8 {
		t.Error("want at most 1 with the state, 3 to 8 without")
	}
}
