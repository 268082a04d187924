package media

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"rtcedge/media/ng"
)

// TestB22Gates: block, silence and their opposites, of one party or all, on relay and on both sides of a conversion.
func TestB22Gates(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	lines := []string{"rtpmap:101 telephone-event/8000"}
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "9 101", lines...)), a, b, b.body("RTP/AVP", "0 101", lines...))
	from := func(command, tag string) {
		t.Helper()
		r.must(ng.Request{Command: command, CallID: "c", FromTag: tag})
	}
	voice := func() { t.Helper(); a.send(a.packet(9, make([]byte, 160))); b.recv() }
	voice()

	from("block dtmf", "a")
	a.send(a.packet(101, []byte{1, 10, 0, 160}))
	b.silence()
	voice()
	from("unblock dtmf", "a")
	a.send(a.packet(101, []byte{2, 10, 0, 160}))
	if got := b.recv(); got.PayloadType != 101 {
		t.Errorf("%v", got)
	}
	from("block media", "a")
	a.send(a.packet(9, make([]byte, 160)))
	b.silence()
	b.send(b.packet(0, make([]byte, 160)))
	a.recv()
	from("unblock media", "")
	voice()

	from("silence media", "")
	// Any codes but a short pattern, which drives the adaptive decoder to one end of its range and keeps it there.
	noise, random := make([]byte, 160), rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	a.send(a.packet(9, noise))
	if got := b.recv(); got.Payload[80] != 0xff || slices.Max(got.Payload) != slices.Min(got.Payload) {
		t.Errorf("not silent: %x", got.Payload)
	}
	from("unsilence media", "a")
	for range 3 {
		a.send(a.packet(9, noise))
		if got := b.recv(); slices.Max(got.Payload) == slices.Min(got.Payload) {
			t.Error("still silent")
		}
	}
	if n := r.Stats().Drops["blocked"]; n != 2 {
		t.Errorf("%d blocked, want 2", n)
	}
	for _, req := range []ng.Request{
		{Command: "block media", CallID: "c", FromTag: "nobody"}, {Command: "block media", CallID: "nobody"},
		{Command: "play dtmf", CallID: "c", Code: "1"}, {Command: "play dtmf", CallID: "c", FromTag: "a", Code: "x"},
		{Command: "start forwarding", CallID: "c"}, {Command: "play media", CallID: "c"}, {Command: "play media", CallID: "c", File: "x.wav"}, {Command: "play media", CallID: "c", Blob: []byte("RIFF")},
		{Command: "subscribe request", CallID: "c", FromTag: "nobody"},
	} {
		if resp := r.do(req); resp.Result != ng.ResultError || len(resp.ErrorReason) < 15 {
			t.Errorf("%s: %+v", req.Command, resp)
		}
	}
}

// TestB27PlayDTMF: the events take the place of voice packets, with one numbering, three ends and the right duration.
func TestB27PlayDTMF(t *testing.T) {
	for _, codec := range []string{"0", "8"} { // relayed, converted
		r := newRig(t, Config{})
		a, b := newPeer(t, 1), newPeer(t, 2)
		lines := []string{"rtpmap:101 telephone-event/8000"}
		r.connect(toFarm("c", "a", a.body("RTP/AVP", codec+" 101", lines...)), a, b, b.body("RTP/AVP", "0 101", lines...))
		pt := codec[0] - '0'
		a.send(a.packet(pt, make([]byte, 160)))
		last := b.recv()
		r.must(ng.Request{Command: "play dtmf", CallID: "c", FromTag: "a", Code: "1#", Volume: -12})
		r.barrier()
		var ends, digits []byte
		var stamp uint32
		for i := range 60 {
			a.send(a.packet(pt, make([]byte, 160)))
			got := b.recv()
			if got.SequenceNumber != last.SequenceNumber+1 || got.SSRC != last.SSRC {
				t.Fatalf("%d: %v behind %v", i, got.Header, last.Header)
			}
			last = got
			if got.PayloadType != 101 {
				continue
			}
			if len(got.Payload) != 4 || got.Payload[1]&0x3f != 12 {
				t.Fatalf("event %x", got.Payload)
			}
			if got.Marker {
				digits = append(digits, got.Payload[0])
				stamp = got.Timestamp
			}
			if got.Timestamp != stamp {
				t.Fatal("the timestamp moves")
			}
			if got.Payload[1]&0x80 != 0 {
				ends = append(ends, got.Payload[0])
				if d := binary.BigEndian.Uint16(got.Payload[2:]); d != 2000 {
					t.Errorf("duration %d", d)
				}
			}
		}
		if string(digits) != "\x01\x0b" || string(ends) != "\x01\x01\x01\x0b\x0b\x0b" {
			t.Errorf("codec %s: begun %v, ended %v", codec, digits, ends)
		}
		r.stop()
	}
}

// TestB22StatisticsShape: the names that collectors of rtpengine's statistics look for, over both encodings.
func TestB22StatisticsShape(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "8")), a, b, b.body("RTP/AVP", "0"))
	a.send(a.packet(8, make([]byte, 160)))
	b.recv()
	r.barrier()
	r.must(ng.Request{Command: "delete", CallID: "c"})
	st := r.do(ng.Request{Command: "statistics"}).Statistics
	at := func(section, key string) any { m, _ := st[section].(map[string]any); return m[key] }
	for _, tt := range []struct {
		section, key string
		want         any
	}{
		{"currentstatistics", "sessionsown", int64(0)}, {"currentstatistics", "packetrate", nil}, {"totalstatistics", "managedsessions", int64(1)},
		{"totalstatistics", "relayedpackets", int64(1)}, {"totalstatistics", "regularterminatedsessions", int64(1)},
		{"totalstatistics", "uptime", nil}, {"totalstatistics", "timeoutsessions", int64(0)},
	} {
		if got := at(tt.section, tt.key); got == nil || tt.want != nil && got != tt.want {
			t.Errorf("%s.%s is %v, want %v", tt.section, tt.key, got, tt.want)
		}
	}
	if list, ok := st["interfaces"].([]any); !ok || len(list) != 1 || list[0].(map[string]any)["name"] != "default" {
		t.Errorf("interfaces %v", st["interfaces"])
	}
}
