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
		ssrc, packet := uint32(0), 12+len(long)
		allocations <- testing.AllocsPerRun(200, func() {
			ssrc++
			binary.BigEndian.PutUint32(b[8:], ssrc)
			binary.BigEndian.PutUint32(b[4:], ssrc*1e6)
			s.transcode(l, &s.legs[1], s.cur, b[:packet], 12, r.clock.now())
		})
	})
	if n := <-allocations; n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}
