package media

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestF35TranscoderAbuse: packets of 120 ms and more, another payload type and another SSRC in each, timestamps that jump. What leaves stays
// bounded by what came, no packet costs memory, and afterwards the call is as good as before.
func TestF35TranscoderAbuse(t *testing.T) {
	needOpus(t)
	r := newRig(t, Config{})
	r.clock.freeze()
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "96 9 8 101", "rtpmap:96 opus/48000/2", "rtpmap:101 telephone-event/8000")), a, b,
		b.body("RTP/AVP", "0 101", "rtpmap:101 telephone-event/8000"))
	silence := []byte{0xfc, 0xff, 0xfe} // a frame of 20 ms of Opus, RFC 6716
	long := append([]byte{0xff, 6}, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe, 0xff, 0xfe)
	a.send(a.packet(96, silence))
	b.recv()
	const n = 3000
	before := r.Stats()
	for i := range n {
		pkt := a.packet([]uint8{96, 9, 8, 101, 96, 77}[i%6], long)
		pkt.SSRC, pkt.Timestamp = uint32(i), uint32(i*7919*160)
		if i%6 == 3 {
			pkt.Payload = []byte{byte(i), 0x8a, 0xff, 0xff}
		}
		a.send(pkt)
		for i%50 == 0 { // drained, so that the socket holds what comes
			if _, ok := b.bytes(time.Millisecond); !ok {
				break
			}
		}
	}
	r.barrier()
	for {
		if _, ok := b.bytes(50 * time.Millisecond); !ok {
			break
		}
	}
	after := r.Stats()
	in, out := after.Packets-before.Packets, after.PacketsOut-before.PacketsOut
	t.Logf("%d packets taken of %d, %d left", in, n, out)
	// 240 ms of 20 ms packets for each that came, by transcode's bounds.
	if out > 12*in {
		t.Errorf("%d packets made of %d", out, in)
	}
	// The audio of paceBurst, and of the last packet that began within it.
	if most := uint64((paceBurst + 440) / 20); out > most {
		t.Errorf("%d packets made at once, want %d at most", out, most)
	}
	if late := after.Drops["pace"] - before.Drops["pace"]; late < in/2 {
		t.Errorf("%d of %d packets were too many", late, in)
	}
	r.clock.advance(2 * time.Second)
	for range 3 {
		a.send(a.packet(96, silence))
	}
	got := b.recv()
	if got.PayloadType != 0 || len(got.Payload) != 160 || got.SSRC == 0 {
		t.Errorf("%v", got)
	}

	c, _ := r.lock("c", false)
	s := c.dialogs[0].streams[0]
	c.mu.Unlock()
	if raceEnabled {
		return
	}
	allocations := make(chan float64)
	s.worker.loop.Do(func() {
		l, b := &s.legs[0], make([]byte, 12+len(long), 2048)
		b[0], b[1] = 0x80, 96
		copy(b[12:], long)
		ssrc, packet, now := uint32(0), 12+len(long), r.clock.now()
		allocations <- testing.AllocsPerRun(200, func() {
			ssrc++
			binary.BigEndian.PutUint32(b[8:], ssrc)
			binary.BigEndian.PutUint32(b[4:], ssrc*1e6)
			now = now.Add(300 * time.Millisecond)
			s.transcode(l, &s.legs[1], s.cur, b[:packet], 12, now)
		})
	})
	if n := <-allocations; n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}

// TestF35Pace: a voice is never held up, nor one whose packets a network kept for a second; twice a voice is the bound, whoever asks for more.
func TestF35Pace(t *testing.T) {
	const frame = 20 * time.Millisecond
	now := time.Unix(1000, 0)
	var p pace
	count := func(n int, every time.Duration, cost time.Duration) (passed int) {
		for range n {
			now = now.Add(every)
			if p.allows(now) {
				p.add(cost)
				passed++
			}
		}
		return passed
	}
	for _, ptime := range []time.Duration{10, 20, 60} {
		if n := count(6000, ptime*time.Millisecond, ptime*time.Millisecond); n != 6000 {
			t.Errorf("%d of 6000 packets of %d ms", n, ptime)
		}
	}
	now = now.Add(time.Second)
	if n := count(50, 0, frame); n != 50 {
		t.Errorf("%d of 50 packets that a network kept for a second", n)
	}
	if n := count(3000, frame, frame); n != 3000 {
		t.Errorf("%d of 3000 behind them", n)
	}
	// A minute of 1000 packets a second of 120 ms each: 120 s of audio are made, and the burst.
	made := time.Duration(count(60000, time.Millisecond, 120*time.Millisecond)) * 120 * time.Millisecond
	if made < 100*time.Second || made > 123*time.Second {
		t.Errorf("%v of audio in a minute", made)
	}
}
