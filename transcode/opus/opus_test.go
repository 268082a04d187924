package opus

import (
	"math"
	"os"
	"testing"
)

// packets reads the Opus packets of an Ogg file (RFC 3533, RFC 7845), headers left out.
func packets(t testing.TB, file string) (out [][]byte) {
	t.Helper()
	b, err := os.ReadFile("../testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var part []byte
	for len(b) >= 27 {
		segments := b[27 : 27+int(b[26])]
		body := b[27+len(segments):]
		for _, n := range segments {
			part = append(part, body[:n]...)
			body = body[n:]
			if n < 255 {
				out = append(out, part)
				part = nil
			}
		}
		b = body
	}
	return out[2:]
}

// RFC 6716 section 3.4: each rule of the framing, kept and broken.
func TestSamples(t *testing.T) {
	frames := func(toc byte, rest ...byte) []byte { return append([]byte{toc}, rest...) }
	for _, c := range []struct {
		name   string
		packet []byte
		want   int // at 8 kHz; 0: malformed
	}{
		{"R1 empty", nil, 0},
		{"code 0, TOC only", frames(0x08), 160},
		{"code 0, SILK 60 ms", frames(0x18, 1, 2, 3), 480},
		{"code 0, hybrid 10 ms", frames(0x60, 1), 80},
		{"code 0, CELT 2.5 ms", frames(0x80, 1), 20},
		{"code 0, CELT 20 ms", frames(0x98, 1), 160},
		{"R2 frame of 1275", frames(0x08, make([]byte, 1275)...), 160},
		{"R2 frame of 1276", frames(0x08, make([]byte, 1276)...), 0},
		{"R3 code 1, even", frames(0x09, 1, 2), 320},
		{"R3 code 1, odd", frames(0x09, 1, 2, 3), 0},
		{"R4 code 2", frames(0x0a, 1, 9, 8, 7), 320},
		{"R4 code 2, no size", frames(0x0a), 0},
		{"R4 code 2, half a size", frames(0x0a, 252), 0},
		{"R4 code 2, size beyond the end", frames(0x0a, 4, 9, 8, 7), 0},
		{"R4 code 2, size fills all", frames(0x0a, 3, 9, 8, 7), 320},
		{"R5 code 3, no frames", frames(0x0b, 0), 0},
		{"R5 code 3, no count", frames(0x0b), 0},
		{"R5 code 3, 120 ms", frames(0x0b, 6, 1, 2, 3, 4, 5, 6), 960},
		{"R5 code 3, 140 ms", frames(0x0b, 7, 1, 2, 3, 4, 5, 6, 7), 0},
		{"R6 CBR, not a multiple", frames(0x0b, 2, 1, 2, 3), 0},
		{"R6 CBR, padded", frames(0x0b, 0x42, 1, 1, 2, 0), 320},
		{"R6 CBR, padding beyond the end", frames(0x0b, 0x42, 5, 1, 2, 0), 0},
		{"R6 CBR, 255 pads 254 and more", frames(0x0b, append([]byte{0x42, 255, 0, 1, 2}, make([]byte, 254)...)...), 320},
		{"R7 VBR", frames(0x0b, 0x83, 1, 2, 9, 8, 8, 7), 480},
		{"R7 VBR, sizes beyond the end", frames(0x0b, 0x83, 1, 5, 9, 8, 8), 0},
	} {
		n, ok := Samples(c.packet, 8000)
		if n != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %d %v, want %d", c.name, n, ok, c.want)
		}
	}
}

// Every packet of a real encoder decodes to as many samples as its framing says, at both rates.
func TestB31DecodeFiles(t *testing.T) {
	for _, file := range []string{"chirp-10ms-64k.opus", "chirp-20ms-24k.opus", "chirp-60ms-16k.opus"} {
		for _, rate := range []int{8000, 16000} {
			d, err := NewDecoder(rate)
			if err != nil {
				t.Fatal(err)
			}
			pcm := make([]int16, rate*120/1000)
			energy, total := 0.0, 0
			for i, packet := range packets(t, file) {
				want, ok := Samples(packet, rate)
				if !ok {
					t.Fatalf("%s: packet %d is malformed", file, i)
				}
				if n := d.Decode(pcm, packet); n != want {
					t.Fatalf("%s: packet %d gives %d samples, want %d", file, i, n, want)
				}
				total += want
				for _, v := range pcm[:want] {
					energy += float64(v) * float64(v)
				}
			}
			if level := math.Sqrt(energy / float64(total)); total < 7*rate || level < 500 {
				t.Errorf("%s: %d samples at level %.0f", file, total, level)
			}
		}
	}
}

// Any packet whose framing is right decodes to its length or is refused; nothing is written behind the end.
func FuzzDecode(f *testing.F) {
	for _, file := range []string{"chirp-10ms-64k.opus", "chirp-20ms-24k.opus", "chirp-60ms-16k.opus"} {
		f.Add(packets(f, file)[10])
	}
	f.Add([]byte{0x0b, 0x83, 1, 2, 9, 8, 8, 7})
	f.Fuzz(func(t *testing.T, packet []byte) {
		d, err := NewDecoder(8000)
		if err != nil {
			t.Fatal(err)
		}
		want, ok := Samples(packet, 8000)
		if !ok {
			return
		}
		if want < 1 || want > 960 {
			t.Fatalf("%d samples", want)
		}
		pcm := make([]int16, want+8)
		for i := range pcm {
			pcm[i] = 0x5a5a
		}
		if n := d.Decode(pcm[:want], packet); n != 0 && n != want {
			t.Errorf("%d samples, want %d", n, want)
		}
		for _, v := range pcm[want:] {
			if v != 0x5a5a {
				t.Fatal("wrote behind the end")
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, file := range []string{"chirp-10ms-64k.opus", "chirp-20ms-24k.opus", "chirp-60ms-16k.opus"} {
		b.Run(file, func(b *testing.B) {
			d, err := NewDecoder(8000)
			if err != nil {
				b.Fatal(err)
			}
			all, pcm := packets(b, file), make([]int16, 960)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d.Decode(pcm, all[i%len(all)])
			}
		})
	}
}
