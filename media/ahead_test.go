package media

import (
	"testing"
	"time"

	"rtcedge/media/udp"
)

// TestB20LookAhead: a batch is looked at before its packets are received. Streams with a route and without one, pipes and keys, ports for RTCP
// and receivers of others are all no trouble, nothing is allocated, and no packet is lost or changes its way.
func TestB20LookAhead(t *testing.T) {
	r := newRig(t, Config{NumThreads: 1})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "8")), a, b, b.body("RTP/AVP", "0"))
	for i, suite := range []string{"AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"} {
		x, y := newPeer(t, uint32(3+2*i)), newPeer(t, uint32(4+2*i))
		r.connect(toFarm(suite, "a", x.body("RTP/SAVP", "0", x.key(suite, 3))), x, y, y.body("RTP/AVP", "0"))
	}
	r.must(toFarm("early", "a", a.body("RTP/AVP", "0"))) // a stream without a route
	var batch []udp.Receiver
	r.mu.Lock()
	for _, c := range r.mu.calls {
		for i := range c.dialogs[0].streams[0].legs {
			l := &c.dialogs[0].streams[0].legs[i]
			batch = append(batch, l.rtp, l.rtcp, l.rtp)
		}
	}
	r.mu.Unlock()
	batch = append(batch, nil)
	for len(batch) <= aheadMax {
		batch = append(batch, batch...)
	}
	w, allocated := r.workers[0], make(chan float64, 1)
	w.loop.Do(func() {
		if raceEnabled {
			w.ahead.load(batch)
			allocated <- 0
			return
		}
		allocated <- testing.AllocsPerRun(10, func() { w.ahead.load(batch) })
	})
	select {
	case n := <-allocated:
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the worker does not answer")
	}
	a.send(a.packet(8, make([]byte, 160)))
	if got := b.recv(); got.PayloadType != 0 || len(got.Payload) != 160 {
		t.Errorf("got %v", got)
	}
}
