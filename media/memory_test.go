package media

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"rtcedge/media/ng"
)

// TestMemoryPerCall measures what a relayed call costs: Go heap at most 20 kB and four descriptors. The sockets of the kernel
// are not in it.
func TestMemoryPerCall(t *testing.T) {
	const calls = 100
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(entries)
	}
	for _, tt := range []struct {
		name, proto string
		limit       uint64
	}{{"relay", "RTP/AVP", 20 << 10}, {"srtp", "RTP/SAVP", 32 << 10}} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{NumThreads: 1, PortMin: 64000, PortMax: 64599})
			a, b := newPeer(t, 1), newPeer(t, 2)
			lines := []string{"rtpmap:101 telephone-event/8000", "rtpmap:111 opus/48000/2", "fmtp:111 useinbandfec=1"}
			set := func(i int) {
				offer := lines
				if secure(tt.proto) {
					offer = append(offer, a.key(suite80, byte(i)))
				}
				r.connect(toFarm(fmt.Sprintf("call-%d@host", i), "a", a.body(tt.proto, "0 8 9 111 101", offer...)), a, b,
					b.body("RTP/AVP", "0 101", lines[0]))
				a.send(a.packet(0, make([]byte, 160)))
				b.recv()
				b.send(b.packet(0, make([]byte, 160)))
				a.recv()
			}
			set(0)
			r.barrier()
			before, files := heap(), descriptors()
			for i := range calls {
				set(i + 1)
			}
			r.barrier()
			per, fds := (heap()-before)/calls, (descriptors()-files)/calls
			t.Logf("%d bytes of heap and %d descriptors per call", per, fds)
			if per > tt.limit || fds > 4 {
				t.Errorf("%d bytes, %d descriptors; at most %d and 4", per, fds, tt.limit)
			}
			for i := range calls + 1 {
				r.must(ng.Request{Command: "delete", CallID: fmt.Sprintf("call-%d@host", i)})
			}
		})
	}
}

// TestStreamFitsItsClass: a stream is the largest thing that a relayed call keeps; one byte above 4096 the allocator would take 4864.
func TestStreamFitsItsClass(t *testing.T) {
	if size := unsafe.Sizeof(stream{}); size > 4096 {
		t.Errorf("a stream has %d bytes, at most 4096 are allowed: move what few streams need behind a pointer", size)
	}
}
