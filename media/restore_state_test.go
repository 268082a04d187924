package media

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/transcode"
	"rtcedge/transcode/g711"
)

// moved exports a call, stops its engine and restores it at another one.
func (r *rig) moved(t *testing.T, callID string, cfg Config) *rig {
	t.Helper()
	record, err := r.Export(callID)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	next := newRig(t, cfg)
	if err := next.Restore(record); err != nil {
		t.Fatal(err)
	}
	next.barrier()
	return next
}

// TestB23TakeOverKeepsWhatWasLearnt: the party behind a NAT hears the farm at the next node before it has sent a packet there; labels, counters,
// the times, CNAMEs, the version of our SDP and the options of the call are what they were.
func TestB23TakeOverKeepsWhatWasLearnt(t *testing.T) {
	first := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := relayed("c", "a", strings.ReplaceAll(a.body("RTP/AVP", "0"), "127.0.0.1", "10.9.9.9"))
	offer.ReceivedFrom, offer.Label, offer.Replace = loopback, "caller", []string{"sdp-version"}
	offer.DropTraffic = "stop"
	other := offer
	other.SDP = bytes.Replace(offer.SDP, []byte("RTP/AVP 0"), []byte("RTP/AVP 8"), 1)
	first.must(other) // version 1
	first.connect(offer, a, b, b.body("RTP/AVP", "0"))
	for range 3 {
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
	}
	a.seq += 5
	a.send(a.packet(0, make([]byte, 160)))
	b.recv()
	b.send(b.packet(0, make([]byte, 160)))
	a.recv()
	offer.DropTraffic = "start"
	first.must(offer)
	was := first.query("c")
	inner := func(r *rig) (cname [cnameLen]byte, sent [2]uint32) {
		c, err := r.lock("c", false)
		if err != nil {
			t.Fatal(err)
		}
		s := c.dialogs[0].streams[0]
		c.mu.Unlock()
		s.worker.loop.Do(func() { cname, sent = s.cname, [2]uint32{uint32(s.legs[1].out.packets), uint32(s.legs[1].out.octets)} })
		r.barrier()
		return cname, sent
	}
	name, sent := inner(first)

	r := first.moved(t, "c", Config{})
	is := r.query("c")
	for side := range was.Tags {
		x, y := was.Tags[side], is.Tags[side]
		p, q := x.Medias[0].Streams[0], y.Medias[0].Streams[0]
		if x.Tag != y.Tag || x.Label != y.Label || !x.Created.Equal(y.Created) || p.Stats.Packets != q.Stats.Packets || p.Stats.Bytes != q.Stats.Bytes ||
			p.Stats.Lost != q.Stats.Lost || p.Endpoint != q.Endpoint {
			t.Errorf("%+v became %+v", x, y)
		}
	}
	if nextName, nextSent := inner(r); nextName != name || nextSent != sent || sent[0] != 4 {
		t.Errorf("CNAME %s became %s, sent %v became %v", name, nextName, sent, nextSent)
	}
	if !was.Created.Equal(is.Created) || was.Tags[0].Label != "caller" || was.Tags[0].Medias[0].Streams[0].Stats.Lost != 5 {
		t.Errorf("%v became %v", was, is)
	}
	// The order to drop all holds until it is taken back, not until the next offer.
	offer.DropTraffic = ""
	body, err := sdp.Parse(r.must(offer))
	if err != nil {
		t.Fatal(err)
	}
	if v := body.Origin().Version; v != "2" {
		t.Errorf("the same offer has version %s", v)
	}
	b.send(b.packet(0, make([]byte, 160)))
	a.silence()
	offer.DropTraffic = "stop"
	r.must(offer)
	b.send(b.packet(0, make([]byte, 160)))
	a.recv()
	offer.SDP = []byte(strings.Replace(string(offer.SDP), "RTP/AVP 0", "RTP/AVP 0 8", 1))
	if body, err = sdp.Parse(r.must(offer)); err != nil || body.Origin().Version != "3" {
		t.Errorf("%v: a change has version %s", err, body.Origin().Version)
	}
}

// TestB23TakeOverKeepsTheCodecInStep: of a G.722 stream that goes on at another node the first frame sounds as it would have at the first.
func TestB23TakeOverKeepsTheCodecInStep(t *testing.T) {
	first := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	first.connect(toFarm("c", "a", a.body("RTP/AVP", "9")), a, b, b.body("RTP/AVP", "0"))
	wide := transcode.Format{Codec: transcode.G722, Rate: 8000, Channels: 1}
	narrow := transcode.Format{Codec: transcode.PCMU, Rate: 8000, Channels: 1}
	open := func(from, to transcode.Format) *transcode.Pipe {
		p, err := transcode.NewPipe(transcode.PipeConfig{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	coder, reference := open(narrow, wide), open(wide, narrow)
	pass := func(p *transcode.Pipe, i int, payload []byte) (out []byte) {
		p.Push(transcode.Packet{Seq: uint16(i), Timestamp: uint32(160 * i), Payload: payload})
		for pkt, ok := p.Next(); ok; pkt, ok = p.Next() {
			out = append(out, pkt.Payload...)
		}
		return slices.Clone(out)
	}
	const change = 50
	r := first
	for i := range change + 3 {
		if i == change {
			r = first.moved(t, "c", Config{})
		}
		coded := pass(coder, i, tone(i, 440, g711.EncodeULaw))
		want := pass(reference, i, coded)
		a.send(a.packet(9, bytes.Clone(coded)))
		got := b.recv()
		if i < change {
			continue
		}
		var diff, power float64
		x, y := make([]int16, 160), make([]int16, 160)
		g711.DecodeULaw(x, want)
		g711.DecodeULaw(y, got.Payload)
		for k := range x {
			d := float64(x[k]) - float64(y[k])
			diff, power = diff+d*d, power+float64(x[k])*float64(x[k])
		}
		if snr := 10 * math.Log10(power/math.Max(diff, 1e-3)); snr < 25 {
			t.Errorf("frame %d at the next node: %.1f dB beside the first node's", i-change+1, snr)
		}
	}
	r.must(ng.Request{Command: ng.CmdDelete, CallID: "c"})
}
