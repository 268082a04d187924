package media

import (
	"runtime"
	"testing"
	"time"
)

// TestB20LayersZeroAllocs: packets that go all the way, kernel to kernel, through a running worker leave no garbage, on no layer, relayed or
// converted. Some allocations belong to the runtime and the test's own deadline; a tenth of one per packet would be seen.
func TestB20LayersZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const packets = 2000
	for _, l := range layers[1:] {
		for _, codec := range []string{"0", "8", "9"} {
			t.Run(l.name+"/"+codec, func(t *testing.T) {
				r := l.rig(t, Config{NumThreads: 1})
				a, b := newPeer(t, 1), newPeer(t, 2)
				pt := codec[0] - '0'
				r.connect(toFarm("c", "a", a.body("RTP/AVP", codec)), a, b, b.body("RTP/AVP", "0"))
				raw, err := a.packet(pt, make([]byte, 160)).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 2000)
				b.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
				seq, ts := a.seq, a.ts
				one := func() {
					r.clock.advance(20 * time.Millisecond) // a voice's pace, however fast the machine
					a.raw(raw)
					if _, err := b.conn.Read(buf); err != nil {
						t.Fatal(err)
					}
					seq, ts = seq+1, ts+160
					raw[2], raw[3] = byte(seq>>8), byte(seq)
					raw[4], raw[5], raw[6], raw[7] = byte(ts>>24), byte(ts>>16), byte(ts>>8), byte(ts)
				}
				for range 100 {
					one()
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range packets {
					one()
				}
				runtime.ReadMemStats(&after)
				if n := after.Mallocs - before.Mallocs; n > packets/10 {
					t.Errorf("%d allocations for %d packets", n, packets)
				}
			})
		}
	}
}
