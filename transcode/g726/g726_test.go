package g726

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"testing"
)

var rates = []Rate{Rate16, Rate24, Rate32, Rate40}

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

// B31: the decoder equals spandsp bit for bit at each rate, whatever the size of the pieces.
func TestB31DecoderEqualsReference(t *testing.T) {
	for _, r := range rates {
		src, want := read(t, fmt.Sprintf("mix-%d.g726", 8*r)), samples(read(t, fmt.Sprintf("mix-%d.dec.s16le", 8*r)))
		for _, size := range []int{int(r), 20 * int(r), 60 * int(r)} {
			d := NewDecoder(r)
			var got []int16
			buf := make([]int16, Samples(r, size))
			for at := 0; at < len(src); at += size {
				got = append(got, buf[:d.Decode(buf, src[at:min(at+size, len(src))])]...)
			}
			if len(got) != len(want) {
				t.Fatalf("%d kbit/s, pieces of %d: %d samples, want %d", 8*r, size, len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%d kbit/s, pieces of %d: sample %d is %d, want %d", 8*r, size, i, got[i], want[i])
				}
			}
		}
	}
}

// B31: the encoder equals spandsp bit for bit at each rate.
func TestB31EncoderEqualsReference(t *testing.T) {
	pcm := samples(read(t, "mix8k.s16le"))
	for _, r := range rates {
		want := read(t, fmt.Sprintf("mix-%d.g726", 8*r))
		got := make([]byte, len(want)+8)
		if n := NewEncoder(r).Encode(got, pcm); n != len(want) || !bytes.Equal(got[:n], want) {
			at := 0
			for at < min(n, len(want)) && got[at] == want[at] {
				at++
			}
			t.Errorf("%d kbit/s: %d bytes, want %d; the first other one is %d", 8*r, n, len(want), at)
		}
	}
}

// B31: the signal to noise ratio of a tone, after the coder has learnt it.
func TestB31RoundTripSNR(t *testing.T) {
	pcm := make([]int16, 8000)
	for i := range pcm {
		pcm[i] = int16(10000 * math.Sin(2*math.Pi*1004*float64(i)/8000))
	}
	for r, least := range map[Rate]float64{Rate16: 9, Rate24: 19, Rate32: 28, Rate40: 33} {
		code, back := make([]byte, len(pcm)*int(r)/8), make([]int16, len(pcm))
		NewEncoder(r).Encode(code, pcm)
		NewDecoder(r).Decode(back, code)
		var signal, noise float64
		for i := 800; i < len(pcm); i++ {
			d := float64(pcm[i]) - float64(back[i])
			signal, noise = signal+float64(pcm[i])*float64(pcm[i]), noise+d*d
		}
		snr := 10 * math.Log10(signal/noise)
		t.Logf("%d kbit/s: %.1f dB", 8*r, snr)
		if snr < least {
			t.Errorf("%d kbit/s: %.1f dB, want %.0f", 8*r, snr, least)
		}
	}
}

// TestStateGoesOn: another coder goes on with the state in the middle of the stream, bit for bit; what is no state changes nothing.
func TestStateGoesOn(t *testing.T) {
	pcm := samples(read(t, "mix8k.s16le"))
	for _, r := range rates {
		whole, first, second := NewEncoder(r), NewEncoder(r), NewEncoder(r)
		half := 4000
		want, got := make([]byte, len(pcm)), make([]byte, len(pcm))
		n := whole.Encode(want, pcm)
		at := first.Encode(got, pcm[:half])
		state := first.AppendState(nil)
		if len(state) != StateSize || !second.SetState(state) || second.SetState(state[1:]) {
			t.Fatalf("%d bytes of state", len(state))
		}
		if at += second.Encode(got[at:], pcm[half:]); at != n || !bytes.Equal(got[:at], want[:n]) {
			t.Errorf("%d kbit/s: the code differs", 8*r)
		}
		a, b := NewDecoder(r), NewDecoder(r)
		back, again := make([]int16, len(pcm)), make([]int16, len(pcm))
		k := n / 2 / int(r) * int(r)
		a.Decode(back, want[:k])
		if !b.SetState(a.AppendState(nil)) {
			t.Fatal("no state")
		}
		a.Decode(back, want[k:n])
		b.Decode(again, want[k:n])
		for i := range back[:Samples(r, n-k)] {
			if back[i] != again[i] {
				t.Fatalf("%d kbit/s: sample %d differs", 8*r, i)
			}
		}
	}
}

// TestLoudestDoesNotWrap: a full-scale tone overshoots the range of 14 bits after a jump; what does not fit is clipped, and stays of its sign.
func TestLoudestDoesNotWrap(t *testing.T) {
	for _, r := range rates {
		pcm := make([]int16, 1600)
		for i := range pcm {
			pcm[i] = int16(32767 * math.Sin(2*math.Pi*1004*float64(i)/8000))
		}
		code, back := make([]byte, 1000), make([]int16, len(pcm))
		NewDecoder(r).Decode(back, code[:NewEncoder(r).Encode(code, pcm)])
		for i := 400; i < len(pcm); i++ {
			if d := int(back[i]) - int(pcm[i]); d > 30000 || d < -30000 {
				t.Fatalf("%d kbit/s: sample %d is %d, was %d", 8*r, i, back[i], pcm[i])
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	for _, r := range rates {
		e, d := NewEncoder(r), NewDecoder(r)
		pcm, code := make([]int16, 160), make([]byte, 100)
		if n := testing.AllocsPerRun(100, func() { d.Decode(pcm, code[:e.Encode(code, pcm)]) }); n != 0 {
			t.Errorf("%d kbit/s: %v allocations", 8*r, n)
		}
	}
}

// FuzzDecode: any bytes, behind any state, are as many samples as their number says.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 255, 0}, NewDecoder(Rate40).AppendState(nil))
	f.Add(bytes.Repeat([]byte{255, 0}, 200), bytes.Repeat([]byte{0x7f}, StateSize))
	f.Fuzz(func(t *testing.T, code, state []byte) {
		for _, r := range rates {
			d := NewDecoder(r)
			d.SetState(state)
			pcm := make([]int16, Samples(r, len(code)))
			if n := d.Decode(pcm, code); n != len(pcm) {
				t.Fatalf("%d samples, want %d", n, len(pcm))
			}
			e := NewEncoder(r)
			e.SetState(state)
			e.Encode(make([]byte, len(code)+1), pcm)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	pcm, code := samples(read(b, "mix8k.s16le"))[:160], make([]byte, 100)
	for _, r := range rates {
		b.Run(fmt.Sprint(8*r), func(b *testing.B) {
			e := NewEncoder(r)
			b.ReportAllocs()
			for b.Loop() {
				e.Encode(code, pcm)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, r := range rates {
		b.Run(fmt.Sprint(8*r), func(b *testing.B) {
			d, code, pcm := NewDecoder(r), read(b, fmt.Sprintf("mix-%d.g726", 8*r))[:20*int(r)], make([]int16, 160)
			b.ReportAllocs()
			for b.Loop() {
				d.Decode(pcm, code)
			}
		})
	}
}
