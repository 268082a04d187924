package g722

import (
	"bytes"
	"math"
	"testing"
)

// TestStateGoesOn: a coder that takes over in mid-stream makes the same bits, but for the filter's history.
func TestStateGoesOn(t *testing.T) {
	pcm := make([]int16, 32000)
	for i := range pcm {
		pcm[i] = int16(9000*math.Sin(float64(i)/7) + 4000*math.Sin(float64(i)/1.3))
	}
	e, d := NewEncoder(), NewDecoder()
	coded := make([]byte, 8000)
	e.Encode(coded, pcm[:16000])
	plain := make([]int16, 16000)
	d.Decode(plain, coded)

	e2, d2 := NewEncoder(), NewDecoder()
	if !e2.SetState(e.AppendState(nil)) || !d2.SetState(d.AppendState(nil)) {
		t.Fatal("state refused")
	}
	if d2.low != d.low || d2.high != d.high || e2.low != e.low || e2.high != e.high {
		t.Fatal("another state came back")
	}
	e2.qmf, d2.qmf = e.qmf, d.qmf
	again, other := make([]byte, 8000), make([]byte, 8000)
	e.Encode(again, pcm[16000:])
	e2.Encode(other, pcm[16000:])
	if !bytes.Equal(again, other) {
		t.Error("the encoders differ")
	}
	if d2.SetState(nil) || d2.SetState(make([]byte, StateSize+1)) {
		t.Error("a wrong state was taken")
	}
}

// FuzzState: no state breaks the arithmetic.
func FuzzState(f *testing.F) {
	f.Add(NewDecoder().AppendState(nil), []byte{1, 2, 3})
	f.Add(bytes.Repeat([]byte{0xff, 0x7f}, StateSize/2), []byte{0xff, 0, 0xaa})
	f.Fuzz(func(t *testing.T, state, coded []byte) {
		d, e := NewDecoder(), NewEncoder()
		if d.SetState(state) != e.SetState(state) {
			t.Fatal("one takes it")
		}
		pcm := make([]int16, 2*len(coded))
		d.Decode(pcm, coded)
		e.Encode(coded, pcm)
	})
}
