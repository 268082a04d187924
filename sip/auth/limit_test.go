package auth

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func addr(i uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], i)
	return netip.AddrFrom4(b)
}

// TestF29LockOut: fewer than 20 tries, the neighbour is not touched, and the ban ends.
func TestF29LockOut(t *testing.T) {
	l := NewBanList(BanConfig{})
	evil, good := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	tries := 0
	for now := noon; !l.Banned(evil, now) && tries < 100; now = now.Add(time.Second) {
		l.Fail(evil, now)
		tries++
	}
	if tries >= 20 {
		t.Errorf("%d tries before the ban", tries)
	}
	if l.Banned(good, noon) {
		t.Error("a neighbour is banned")
	}
	if l.Banned(evil, noon.Add(16*time.Minute)) {
		t.Error("the ban does not end")
	}
	l.Forgive(evil)
	if l.Banned(evil, noon.Add(time.Minute)) {
		t.Error("not forgiven")
	}
	// One wrong try every ten minutes for a day: a phone with an old password is no attack.
	for i := range 144 {
		if l.Fail(good, noon.Add(time.Duration(i)*10*time.Minute)) {
			t.Fatal("a slow failure was banned")
		}
	}
}

// TestF27BanSurvivesFlood: a million other sources do not push a banned one out of the bounded table.
func TestF27BanSurvivesFlood(t *testing.T) {
	l := NewBanList(BanConfig{Entries: 4096})
	evil := netip.MustParseAddr("2001:db8::1")
	for range 20 {
		l.Fail(evil, noon)
	}
	for i := range uint32(1_000_000) {
		l.Fail(addr(i), noon.Add(time.Duration(i)*time.Microsecond))
	}
	if !l.Banned(netip.MustParseAddr("2001:db8::2:1"), noon.Add(time.Minute)) {
		t.Error("the ban of the /64 was lost")
	}
}

func TestB09RatePerSource(t *testing.T) {
	l := NewRateLimiter(RateConfig{PerSecond: 10, Burst: 20})
	a, b := addr(1), addr(2)
	count := func(from netip.Addr, start time.Time, n int, gap time.Duration) (passed int) {
		for i := range n {
			if l.Allow(from, start.Add(time.Duration(i)*gap)) {
				passed++
			}
		}
		return passed
	}
	if n := count(a, noon, 100, 0); n != 20 {
		t.Errorf("%d of a burst passed, want 20", n)
	}
	if n := count(b, noon, 10, 0); n != 10 {
		t.Errorf("another source: %d passed, want 10", n)
	}
	if n := count(a, noon.Add(time.Minute), 1000, 10*time.Millisecond); n < 115 || n > 121 {
		t.Errorf("%d of 10 s at 100/s passed, want 20 + 100", n)
	}
	if !l.Allow(a, noon.Add(-time.Hour).Add(3*time.Second)) && !l.Allow(a, noon.Add(-time.Hour).Add(6*time.Second)) {
		t.Error("a clock that was set back locks a source out")
	}
}

func TestLimitsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l, r := NewBanList(BanConfig{}), NewRateLimiter(RateConfig{})
	i := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		i++
		l.Fail(addr(i), noon)
		l.Banned(addr(i), noon)
		r.Allow(addr(i), noon)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRateLimiter(b *testing.B) {
	l := NewRateLimiter(RateConfig{})
	i := uint32(0)
	for b.Loop() {
		i++
		l.Allow(addr(i&0xffff), noon)
	}
}
