package farm

import (
	"testing"

	"rtcedge/bridge/mixer"
)

func frameOf(b byte) (p [160]byte) {
	for i := range p {
		p[i] = b
	}
	return p
}

// TestB30JitterBuffer: order, loss, late packets, jumps, long and short packets, clocks that differ; no time, no sockets.
func TestB30JitterBuffer(t *testing.T) {
	var out [mixer.FrameSamples]byte
	push := func(j *jitterBuffer, n int) {
		f := frameOf(byte(n))
		j.push(1, uint32(n*160), f[:])
	}
	t.Run("reordered", func(t *testing.T) {
		var j jitterBuffer
		for _, n := range []int{1, 3, 2, 4} {
			push(&j, n)
		}
		j.pop(&out)
		j.pop(&out) // the delay of 40 ms
		for n := 1; n <= 4; n++ {
			if !j.pop(&out) || out != frameOf(byte(n)) {
				t.Fatalf("frame %d is %v", n, out[:4])
			}
		}
	})
	t.Run("lost", func(t *testing.T) {
		var j jitterBuffer
		for _, n := range []int{1, 2, 4} {
			push(&j, n)
		}
		var got []byte
		for range 8 {
			j.pop(&out)
			got = append(got, out[0])
		}
		// Two of delay, 1, 2, 2 in place of 3, 4, 4 twice, then silence.
		if want := []byte{255, 255, 1, 2, 2, 4, 4, 4}; string(got) != string(want) {
			t.Fatalf("%v, want %v", got, want)
		}
		if j.pop(&out) || out != silentFrame {
			t.Error("no silence after the end")
		}
	})
	t.Run("late", func(t *testing.T) {
		var j jitterBuffer
		push(&j, 1)
		for range 4 {
			j.pop(&out)
		}
		push(&j, 2) // its turn was just now
		if !j.pop(&out) || out != frameOf(2) || j.delay != jitterMax {
			t.Errorf("a late packet: %v, delay %d", out[:2], j.delay)
		}
	})
	t.Run("bounded", func(t *testing.T) {
		var j jitterBuffer
		for n := 1; n < 2000; n++ {
			push(&j, n)
			if n%3 != 0 { // the far end's clock is much faster than ours
				j.pop(&out)
			}
			if fill := j.high - j.next; fill > jitterAhead+200 {
				t.Fatalf("%d samples in the buffer", fill)
			}
		}
	})
	t.Run("drift", func(t *testing.T) {
		var j jitterBuffer
		n, worst := 0, uint32(0)
		for tick := range 30000 {
			n++
			push(&j, n)
			if tick%400 == 0 { // 2500 ppm too fast
				n++
				push(&j, n)
			}
			j.pop(&out)
			worst = max(worst, j.high-j.next)
		}
		if worst > 6*160 {
			t.Errorf("the delay grew to %d ms", worst/8)
		}
	})
	t.Run("other packet sizes", func(t *testing.T) {
		var j jitterBuffer
		for n := range 20 { // 10 ms each
			j.push(1, uint32(n*80), make([]byte, 80))
		}
		j.push(1, 1600, make([]byte, 480))
		j.push(1, 1600, make([]byte, 5000)) // no telephony
		full := 0
		for range 20 {
			if j.pop(&out) && out == [160]byte{} {
				full++
			}
		}
		if full < 13 {
			t.Errorf("%d full frames of 13", full)
		}
	})
	t.Run("new stream", func(t *testing.T) {
		var j jitterBuffer
		push(&j, 1)
		f := frameOf(9)
		j.push(2, 77, f[:])
		j.pop(&out)
		j.pop(&out)
		if !j.pop(&out) || out != f {
			t.Errorf("after a change of SSRC: %v", out[:2])
		}
	})
}

// FuzzJitterBuffer: no order, size or time stamp breaks it, and the fill stays bounded.
func FuzzJitterBuffer(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{255, 255, 255, 255, 255, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var j jitterBuffer
		var out [mixer.FrameSamples]byte
		for len(b) >= 5 {
			j.push(uint32(b[0]&1), uint32(b[1])<<24|uint32(b[2])<<8|uint32(b[3]), make([]byte, int(b[4])*4))
			if b[0]&2 != 0 {
				j.pop(&out)
			}
			if j.live && j.high-j.next > jitterAhead+2*jitterMax+800 {
				t.Fatalf("%d samples in the buffer", j.high-j.next)
			}
			b = b[5:]
		}
	})
}
