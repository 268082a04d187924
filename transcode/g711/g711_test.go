package g711

import (
	"bytes"
	"encoding/binary"
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

// B31: every one of the 65,536 linear values encodes, and decodes again, as the reference sweep says.
func TestB31SweepEqualsReference(t *testing.T) {
	linear := samples(read(t, "sweep.s16le"))
	if len(linear) != 1<<16 {
		t.Fatalf("sweep has %d values", len(linear))
	}
	for _, law := range []struct {
		name   string
		encode func([]byte, []int16) int
		decode func([]int16, []byte) int
	}{
		{"ulaw", EncodeULaw, DecodeULaw},
		{"alaw", EncodeALaw, DecodeALaw},
	} {
		t.Run(law.name, func(t *testing.T) {
			want := read(t, "sweep."+law.name)
			got := make([]byte, len(linear))
			if n := law.encode(got, linear); n != len(linear) {
				t.Fatalf("encoded %d of %d", n, len(linear))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("encode(%d) = %#x, want %#x", linear[i], got[i], want[i])
				}
			}
			back := make([]int16, len(got))
			law.decode(back, got)
			for i, v := range samples(read(t, "sweep."+law.name+".s16le")) {
				if back[i] != v {
					t.Fatalf("decode(%#x) = %d, want %d", got[i], back[i], v)
				}
			}
		})
	}
}

// B31: a law's own values survive decoding and encoding; only mu-law's second zero folds onto the first.
func TestB31CodesAreFixedPoints(t *testing.T) {
	for b := range 256 {
		want := byte(b)
		if b == 0x7f {
			want = SilenceULaw
		}
		if got := linearULaw[uint16(ulawLinear[b])>>2]; got != want {
			t.Errorf("mu-law %#x becomes %#x", b, got)
		}
		if got := linearALaw[uint16(alawLinear[b])>>2]; got != byte(b) {
			t.Errorf("A-law %#x becomes %#x", b, got)
		}
	}
	if ulawLinear[SilenceULaw] != 0 || alawLinear[SilenceALaw] != 8 {
		t.Error("silence does not decode to the smallest value")
	}
}

// B31: the direct tables equal decoding and encoding for every code, also in place.
func TestB31CrossEqualsTwoSteps(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	pcm, want, got := make([]int16, 256), make([]byte, 256), make([]byte, 256)

	DecodeULaw(pcm, all)
	EncodeALaw(want, pcm)
	if ULawToALaw(got, all); !bytes.Equal(got, want) {
		t.Error("mu-law to A-law differs from the two steps")
	}
	DecodeALaw(pcm, all)
	EncodeULaw(want, pcm)
	if ALawToULaw(all, all); !bytes.Equal(all, want) {
		t.Error("A-law to mu-law in place differs from the two steps")
	}
}

func TestShorterSliceRules(t *testing.T) {
	if n := DecodeULaw(make([]int16, 3), make([]byte, 5)); n != 3 {
		t.Errorf("decoded %d into 3", n)
	}
	if n := EncodeALaw(make([]byte, 5), make([]int16, 2)); n != 2 {
		t.Errorf("encoded %d of 2", n)
	}
	if n := ALawToULaw(nil, make([]byte, 5)); n != 0 {
		t.Errorf("converted %d into nothing", n)
	}
}

func TestNoAllocations(t *testing.T) {
	pcm, law := make([]int16, 160), make([]byte, 160)
	if n := testing.AllocsPerRun(100, func() {
		DecodeULaw(pcm, law)
		EncodeALaw(law, pcm)
		DecodeALaw(pcm, law)
		EncodeULaw(law, pcm)
		ULawToALaw(law, law)
		ALawToULaw(law, law)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecode20ms(b *testing.B) {
	pcm, law := make([]int16, 160), read(b, "sweep.ulaw")[:160]
	for b.Loop() {
		DecodeULaw(pcm, law)
	}
}

func BenchmarkEncode20ms(b *testing.B) {
	law, pcm := make([]byte, 160), make([]int16, 160)
	for i := range pcm {
		pcm[i] = int16(i * 409)
	}
	for b.Loop() {
		EncodeULaw(law, pcm)
	}
}

func BenchmarkCross20ms(b *testing.B) {
	law, src := make([]byte, 160), read(b, "sweep.ulaw")[:160]
	for b.Loop() {
		ULawToALaw(law, src)
	}
}
