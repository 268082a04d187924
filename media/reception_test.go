package media

import (
	"math"
	"testing"
	"time"
)

// TestReceptionFollowsRFC3550 counts loss over a wrap, a duplicate and a change of source, and jitter of an even stream.
func TestReceptionFollowsRFC3550(t *testing.T) {
	var r reception
	now := time.Unix(1000, 0)
	ts := uint32(math.MaxUint32 - 800)
	for i := range 100 {
		seq := uint16(65500 + i)
		ts += 160
		now = now.Add(20 * time.Millisecond)
		if i == 10 || i == 60 {
			continue
		}
		r.packet(7, seq, ts, 172, now, 8000)
		if i == 20 {
			r.packet(7, seq, ts, 172, now, 8000)
		}
	}
	if lost := r.lost.Load(); lost != 1 { // two lost, one twice: A.3 counts it against them
		t.Errorf("%d lost", lost)
	}
	if j := time.Duration(r.jitter.Load()); j > time.Millisecond {
		t.Errorf("jitter %v", j)
	}
	r.packet(8, 5, 0, 172, now, 8000)
	r.packet(8, 9, 640, 172, now.Add(80*time.Millisecond), 8000)
	if lost := r.lost.Load(); lost != 4 {
		t.Errorf("%d lost after the change", lost)
	}
	if m := mos("PCMU", 1000, 0, 0, 0); m < 4.3 || m > 4.5 {
		t.Errorf("MOS %v of a perfect stream", m)
	}
	if m := mos("PCMU", 900, 100, 50*time.Millisecond, 0); m > 3.4 {
		t.Errorf("MOS %v at 10 %% loss", m)
	}
}

// TestB25Jitter: every second packet comes 10 ms late, so that the transit changes by 10 ms each time: RFC 3550 A.8 makes 10 ms of it.
func TestB25Jitter(t *testing.T) {
	var r reception
	now := time.Unix(1000, 0)
	for i := range 200 {
		at := now.Add(time.Duration(i) * 20 * time.Millisecond)
		if i%2 == 1 {
			at = at.Add(10 * time.Millisecond)
		}
		r.packet(7, uint16(i), uint32(160*i), 172, at, 8000)
	}
	if j := time.Duration(r.jitter.Load()); j < 9900*time.Microsecond || j > 10100*time.Microsecond {
		t.Errorf("jitter %v, want 10 ms", j)
	}
}

// TestB25OpinionPerCodec: the better codec has the better opinion, and loss costs each what G.113 says.
func TestB25OpinionPerCodec(t *testing.T) {
	score := func(name string, lost int64) float64 { return mos(name, 1000-lost, lost, 0, 40*time.Millisecond) }
	order := []string{"opus", "G722", "PCMU", "G729", "G723", "GSM"}
	for i := 1; i < len(order); i++ {
		if a, b := score(order[i-1], 0), score(order[i], 0); order[i-1] != "opus" && order[i-1] != "G722" && a <= b {
			t.Errorf("%s %.2f, %s %.2f", order[i-1], a, order[i], b)
		}
	}
	for _, name := range order {
		clean, poor := score(name, 0), score(name, 50)
		if clean < 3.4 || clean > 4.5 || poor >= clean-0.2 || poor < 1 {
			t.Errorf("%s: %.2f, at 5 %% loss %.2f", name, clean, poor)
		}
	}
	if a, b := score("opus", 50), score("PCMU", 50); a <= b {
		t.Errorf("at 5 %% loss Opus %.2f, PCMU %.2f", a, b)
	}
	if mos("PCMU", 9, 0, 0, 0) != 0 {
		t.Error("an opinion of nine packets")
	}
}
