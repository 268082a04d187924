package mixer

import (
	"math"
	"math/rand/v2"
	"testing"
)

func tone(freq float64, amplitude float64) *Frame {
	f := new(Frame)
	for i := range f {
		f[i] = int16(amplitude * math.Sin(2*math.Pi*freq*float64(i)/SampleRate))
	}
	return f
}

// TestB42EachHearsTheOthers: three participants, each hears exactly the sum of the other two.
func TestB42EachHearsTheOthers(t *testing.T) {
	frames := []*Frame{tone(400, 8000), tone(1000, 6000), tone(1700, 4000)}
	var m Mix
	for _, f := range frames {
		m.Add(f)
	}
	if m.Len() != 3 {
		t.Fatalf("Len = %d, want 3", m.Len())
	}
	for own, f := range frames {
		var out Frame
		m.Without(f, &out)
		for i := range out {
			var want int32
			for other, g := range frames {
				if other != own {
					want += int32(g[i])
				}
			}
			if int32(out[i]) != want {
				t.Fatalf("participant %d, sample %d: %d, want %d", own, i, out[i], want)
			}
		}
	}
}

// TestB40MutedIsHeardByNobody: the muted one is not added, hears all others, and nobody hears it.
func TestB40MutedIsHeardByNobody(t *testing.T) {
	a, b := tone(400, 8000), tone(1000, 6000)
	var m Mix
	m.Add(a)
	m.Add(b)
	var out Frame
	m.All(&out)
	for i := range out {
		if out[i] != a[i]+b[i] {
			t.Fatalf("the muted one hears %d at %d, want %d", out[i], i, a[i]+b[i])
		}
	}
	m.Without(a, &out)
	if out != *b {
		t.Fatal("a hears something else than b")
	}
}

// TestAloneHearsSilence: a single participant hears nothing, not itself.
func TestAloneHearsSilence(t *testing.T) {
	var m Mix
	f := tone(500, 30000)
	m.Add(f)
	m.Without(f, f)
	if *f != (Frame{}) {
		t.Fatal("a lone participant hears itself")
	}
	m.Reset()
	var out Frame
	m.All(&out)
	if m.Len() != 0 || out != (Frame{}) {
		t.Fatal("Reset left something in the mix")
	}
}

// TestSaturation: loud sums are limited at both ends and never wrap, and the limit comes after own is taken out.
func TestSaturation(t *testing.T) {
	var loud, low Frame
	for i := range loud {
		loud[i], low[i] = math.MaxInt16, math.MinInt16
	}
	var m Mix
	for range 1000 {
		m.Add(&loud)
	}
	var out Frame
	m.Without(&loud, &out)
	if out[0] != math.MaxInt16 {
		t.Fatalf("sum of 999 loud frames: %d", out[0])
	}
	m.Reset()
	m.Add(&low)
	m.Add(&low)
	m.All(&out)
	if out[7] != math.MinInt16 {
		t.Fatalf("sum of two low frames: %d", out[7])
	}
	m.Add(&loud)
	m.Without(&low, &out) // low + loud = -1: no limit on the way may show
	if out[3] != -1 {
		t.Fatalf("low + loud = %d, want -1", out[3])
	}
}

// TestAllocs: mixing allocates nothing.
func TestAllocs(t *testing.T) {
	frames := [4]*Frame{tone(300, 1000), tone(600, 1000), tone(900, 1000), tone(1200, 1000)}
	var m Mix
	var out Frame
	if n := testing.AllocsPerRun(100, func() {
		m.Reset()
		for _, f := range frames {
			m.Add(f)
		}
		for _, f := range frames {
			m.Without(f, &out)
		}
		m.All(&out)
	}); n != 0 {
		t.Fatalf("%v allocations per mix", n)
	}
}

// BenchmarkMix100 is one tick of a conference of 100 that all talk.
func BenchmarkMix100(b *testing.B) {
	frames := make([]Frame, 100)
	for i := range frames {
		for j := range frames[i] {
			frames[i][j] = int16(rand.IntN(4000) - 2000)
		}
	}
	var m Mix
	var out Frame
	b.ReportAllocs()
	for b.Loop() {
		m.Reset()
		for i := range frames {
			m.Add(&frames[i])
		}
		for i := range frames {
			m.Without(&frames[i], &out)
		}
	}
}
