package g722

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"testing"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func samples(b []byte) []int16 {
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm
}

// B31: the decoder equals FFmpeg's bit for bit, whatever the size of the pieces.
func TestB31DecoderEqualsReference(t *testing.T) {
	src, want := read(t, "chirp.g722"), samples(read(t, "chirp.g722.dec.s16le"))
	for _, size := range []int{1, 80, 160, 161, 480} {
		d := NewDecoder()
		got := make([]int16, 0, len(want))
		buf := make([]int16, 2*size)
		for at := 0; at < len(src); at += size {
			n := d.Decode(buf, src[at:min(at+size, len(src))])
			got = append(got, buf[:n]...)
		}
		if len(got) != len(want) {
			t.Fatalf("pieces of %d: %d samples, want %d", size, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("pieces of %d: sample %d is %d, want %d", size, i, got[i], want[i])
			}
		}
	}
}

// B31: the encoder equals FFmpeg's bit for bit.
func TestB31EncoderEqualsReference(t *testing.T) {
	pcm, want := samples(read(t, "chirp16k.s16le")), read(t, "chirp.g722")
	got := make([]byte, len(pcm)/2)
	NewEncoder().Encode(got, pcm)
	if !bytes.Equal(got, want) {
		differ := 0
		for i := range want {
			if got[i] != want[i] {
				differ++
			}
		}
		t.Errorf("%d of %d bytes differ", differ, len(want))
	}
}

// B31: the round trip's signal to noise ratio, the QMF pair's delay of 22 samples taken out.
func TestB31RoundTripSNR(t *testing.T) {
	pcm := samples(read(t, "chirp16k.s16le"))
	code := make([]byte, len(pcm)/2)
	NewEncoder().Encode(code, pcm)
	out := make([]int16, len(pcm))
	NewDecoder().Decode(out, code)
	const delay = 22
	var signal, noise float64
	for i := 800; i < len(pcm)-delay; i++ {
		s, d := float64(pcm[i]), float64(pcm[i])-float64(out[i+delay])
		signal += s * s
		noise += d * d
	}
	snr := 10 * math.Log10(signal/noise)
	t.Logf("chirp: SNR %.1f dB", snr)
	if snr < 15 {
		t.Errorf("SNR %.1f dB", snr)
	}
}

// The coder survives the largest swings, and reset makes it new.
func TestExtremesAndReset(t *testing.T) {
	pcm := make([]int16, 3200)
	for i := range pcm {
		pcm[i] = math.MaxInt16
		if i/7%2 == 0 {
			pcm[i] = math.MinInt16
		}
	}
	e, d := NewEncoder(), NewDecoder()
	first, second := make([]byte, 1600), make([]byte, 1600)
	e.Encode(first, pcm)
	e.Reset()
	e.Encode(second, pcm)
	if !bytes.Equal(first, second) {
		t.Error("a reset encoder differs from a new one")
	}
	a, b := make([]int16, 3200), make([]int16, 3200)
	d.Decode(a, first)
	d.Reset()
	d.Decode(b, first)
	for i := range a {
		if a[i] != b[i] {
			t.Fatal("a reset decoder differs from a new one")
		}
	}
}

func TestNoAllocations(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	pcm, code := make([]int16, 320), make([]byte, 160)
	if n := testing.AllocsPerRun(100, func() {
		e.Encode(code, pcm)
		d.Decode(pcm, code)
		e.EncodeNarrow(code, pcm)
		d.DecodeNarrow(pcm, code)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Any byte sequence decodes to two samples a byte.
func FuzzDecode(f *testing.F) {
	f.Add(read(f, "chirp.g722")[:160])
	f.Add([]byte{0, 0xff, 0, 0xff})
	f.Fuzz(func(t *testing.T, src []byte) {
		pcm := make([]int16, 2*len(src))
		if n := NewDecoder().Decode(pcm, src); n != len(pcm) {
			t.Errorf("%d samples of %d bytes", n, len(src))
		}
	})
}

func BenchmarkEncode20ms(b *testing.B) {
	pcm := samples(read(b, "chirp16k.s16le"))
	e, code := NewEncoder(), make([]byte, 160)
	for i := 0; b.Loop(); i++ {
		at := i % 400 * 320
		e.Encode(code, pcm[at:at+320])
	}
}

func BenchmarkDecode20ms(b *testing.B) {
	src := read(b, "chirp.g722")
	d, pcm := NewDecoder(), make([]int16, 320)
	for i := 0; b.Loop(); i++ {
		at := i % 400 * 160
		d.Decode(pcm, src[at:at+160])
	}
}

// TestNarrowIsTheLowerBand: who encodes 8 kHz as the lower band sends what a full decoder plays at the same level, and who decodes only
// that band hears a full encoder's tone at the level it had.
func TestNarrowIsTheLowerBand(t *testing.T) {
	const n, amplitude = 8000, 10000
	tone := func(rate float64, size int) []int16 {
		pcm := make([]int16, size)
		for i := range pcm {
			pcm[i] = int16(amplitude * math.Sin(2*math.Pi*1000*float64(i)/rate))
		}
		return pcm
	}
	code, narrow, wide := make([]byte, n), make([]int16, n), make([]int16, 2*n)
	NewEncoder().EncodeNarrow(code, tone(8000, n))
	NewDecoder().Decode(wide, code)
	NewEncoder().Encode(code, tone(16000, 2*n))
	NewDecoder().DecodeNarrow(narrow, code)
	for name, pcm := range map[string][]int16{"full decoder": wide[n:], "narrow decoder": narrow[n/2:]} {
		sum := 0.0
		for _, v := range pcm {
			sum += float64(v) * float64(v)
		}
		if level := math.Sqrt(2 * sum / float64(len(pcm))); level < 0.97*amplitude || level > 1.03*amplitude {
			t.Errorf("%s: amplitude %.0f, want %d", name, level, amplitude)
		}
	}
}

func BenchmarkEncodeNarrow20ms(b *testing.B) {
	pcm := samples(read(b, "chirp16k.s16le"))
	e, code := NewEncoder(), make([]byte, 160)
	for i := 0; b.Loop(); i++ {
		at := i % 400 * 160
		e.EncodeNarrow(code, pcm[at:at+160])
	}
}

func BenchmarkDecodeNarrow20ms(b *testing.B) {
	src := read(b, "chirp.g722")
	d, pcm := NewDecoder(), make([]int16, 160)
	for i := 0; b.Loop(); i++ {
		at := i % 400 * 160
		d.DecodeNarrow(pcm, src[at:at+160])
	}
}
