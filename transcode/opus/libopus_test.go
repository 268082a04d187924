//go:build cgo

package opus

import (
	"math"
	"testing"

	pion "github.com/pion/opus"
)

func speech(n int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		x := float64(i) / 8000
		envelope := 0.5 + 0.5*math.Sin(2*math.Pi*3*x)
		pcm[i] = int16(9000 * envelope * (math.Sin(2*math.Pi*150*x) + 0.5*math.Sin(2*math.Pi*1350*x)) / 1.5)
	}
	return pcm
}

// A packet has the framing that its frame size asks for, and a mono TOC.
func TestEncodeFrames(t *testing.T) {
	for _, ms := range []int{10, 20, 40, 60} {
		e, err := NewEncoder(EncoderConfig{})
		if err != nil {
			t.Fatal(err)
		}
		frame := 8 * ms
		pcm, packet := speech(8000), make([]byte, 1275)
		for at := 0; at+frame <= len(pcm); at += frame {
			n := e.Encode(packet, pcm[at:at+frame])
			if got, ok := Samples(packet[:n], 8000); !ok || got != frame {
				t.Fatalf("%d ms: %d samples, %v", ms, got, ok)
			}
			if packet[0]&4 != 0 {
				t.Fatalf("%d ms: stereo", ms)
			}
		}
	}
}

// With DTX, long silence makes packets of two bytes at most; without it, none.
func TestEncodeDTX(t *testing.T) {
	for _, dtx := range []bool{false, true} {
		e, err := NewEncoder(EncoderConfig{DTX: dtx, Complexity: 10})
		if err != nil {
			t.Fatal(err)
		}
		packet, silence, small := make([]byte, 1275), make([]int16, 160), 0
		for range 100 {
			if e.Encode(packet, silence) <= 2 {
				small++
			}
		}
		if dtx != (small > 50) {
			t.Errorf("DTX %v: %d of 100 packets are empty", dtx, small)
		}
	}
}

// Values out of range are moved to the nearest bound instead of being refused.
func TestEncoderConfigBounds(t *testing.T) {
	for _, cfg := range []EncoderConfig{
		{Complexity: -1, Bitrate: 1, Loss: -1},
		{Complexity: 99, Bitrate: 1 << 30, Loss: 1000, NoFEC: true, Rate: 16000},
	} {
		e, err := NewEncoder(cfg)
		if err != nil {
			t.Errorf("%+v: %v", cfg, err)
			continue
		}
		if n := e.Encode(make([]byte, 1275), make([]int16, e.cfg.Rate/50)); n == 0 {
			t.Errorf("%+v: no packet comes out", cfg)
		}
	}
	if _, err := NewEncoder(EncoderConfig{Rate: 44100}); err == nil {
		t.Error("44100 Hz is accepted")
	}
	if _, err := NewDecoder(44100); err == nil {
		t.Error("44100 Hz is accepted")
	}
}

// B31: the pure Go decoder of a build without cgo hears what libopus hears.
func TestB31PureDecoderAgrees(t *testing.T) {
	for _, file := range []string{"chirp-10ms-64k.opus", "chirp-20ms-24k.opus", "chirp-60ms-16k.opus"} {
		ours, err := NewDecoder(8000)
		if err != nil {
			t.Fatal(err)
		}
		pure, err := pion.NewDecoderWithOutput(8000, 1)
		if err != nil {
			t.Fatal(err)
		}
		var signal, noise float64
		a, b := make([]int16, 960), make([]int16, 960)
		for i, packet := range packets(t, file) {
			n := ours.Decode(a, packet)
			m, err := pure.DecodeToInt16(packet, b)
			if err != nil || n != m {
				t.Fatalf("%s: packet %d: %d and %d samples, %v", file, i, n, m, err)
			}
			for k := range a[:n] {
				s, d := float64(a[k]), float64(a[k])-float64(b[k])
				signal, noise = signal+s*s, noise+d*d
			}
		}
		snr := 10 * math.Log10(signal/max(noise, 1e-9))
		t.Logf("%s: %.1f dB", file, snr)
		if snr < 20 {
			t.Errorf("%s: %.1f dB", file, snr)
		}
	}
}

// libopus agrees with Samples about which packets it takes: the error path, which allocates, is never reached.
func FuzzFraming(f *testing.F) {
	f.Add([]byte{0x0b, 0x83, 1, 2, 9, 8, 8, 7})
	f.Add([]byte{0x0a, 3, 9, 8, 7})
	f.Add([]byte{0x0b, 0xc6, 255, 3})
	f.Fuzz(func(t *testing.T, packet []byte) {
		d, err := NewDecoder(8000)
		if err != nil {
			t.Fatal(err)
		}
		want, ok := Samples(packet, 8000)
		n := d.Decode(make([]int16, 960), packet)
		if ok && n != want || !ok && n != 0 {
			t.Errorf("libopus makes %d samples of %x, Samples says %d %v", n, packet, want, ok)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	e, err := NewEncoder(EncoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder(8000)
	if err != nil {
		t.Fatal(err)
	}
	pcm, packet := speech(160), make([]byte, 400)
	if n := testing.AllocsPerRun(100, func() {
		n := e.Encode(packet, pcm)
		d.Conceal(pcm, packet[:n])
		d.Conceal(pcm, nil)
		d.Decode(pcm, packet[:n])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name       string
		complexity int
	}{{"0", -1}, {"5", 5}, {"10", 10}} {
		b.Run(c.name, func(b *testing.B) {
			e, err := NewEncoder(EncoderConfig{Complexity: c.complexity})
			if err != nil {
				b.Fatal(err)
			}
			pcm, packet := speech(16000), make([]byte, 400)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				at := i % 100 * 160
				e.Encode(packet, pcm[at:at+160])
			}
		})
	}
}
