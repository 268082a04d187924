package transcode

import (
	"encoding/binary"
	"testing"
	"time"
)

// FuzzPush feeds a pipe of any formats with any packets: F22, F35. Nothing panics, and what leaves is bounded and numbered.
func FuzzPush(f *testing.F) {
	f.Add([]byte{0, 2, 2}, []byte{0, 0, 1, 0, 0, 0, 0, 4, 1, 2, 3, 4})
	f.Add([]byte{3, 0, 1}, append([]byte{0, 0, 1, 0, 0, 0, 0, 40}, oggPackets(f, "chirp-20ms-24k.opus")[20][:40]...))
	f.Add([]byte{2, 5, 5}, []byte{1, 0, 1, 0, 0, 0, 0, 4, 7, 10, 0, 160, 0, 0, 2, 0, 0, 0, 160, 2, 9, 9})
	f.Add([]byte{0, 1, 4}, []byte{2, 0, 1, 0, 0, 0, 0, 2, 40, 100, 3, 0, 0, 0, 0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, setup, data []byte) {
		if len(setup) < 3 {
			return
		}
		from, to := voices[int(setup[0])%len(voices)], voices[int(setup[1])%len(voices)]
		if !CanEncode(to.Codec) {
			to = pcmu
		}
		to.PTime = time.Duration(setup[2]>>4) * 10 * time.Millisecond
		p := mustPipe(t, PipeConfig{
			From: from, To: to,
			FromEvents: []int{0, 8000, 48000}[setup[2]%3], ToEvents: []int{0, 8000}[setup[2]>>2&1], ToNoise: setup[2]&8 != 0,
		})
		var seq uint16
		begun := false
		// A packet is: kind, sequence number, timestamp, length, payload; a kind's upper bits repeat it with its number going on.
		for len(data) >= 8 {
			kind := data[0]
			pkt := Packet{
				Event: kind&3 == 1, Noise: kind&3 == 2, Marker: kind&4 != 0,
				Seq: binary.BigEndian.Uint16(data[1:]), Timestamp: binary.BigEndian.Uint32(data[3:]),
			}
			n := min(int(data[7])*8, len(data)-8)
			pkt.Payload, data = data[8:8+n], data[8+n:]
			if kind&3 == 3 {
				p.Resync()
			}
			for range 1 + kind>>5 {
				p.Push(pkt)
				pkt.Seq++
				total := 0
				for {
					out, ok := p.Next()
					if !ok {
						break
					}
					if begun && out.Seq != seq+1 {
						t.Fatalf("number %d follows %d", out.Seq, seq)
					}
					begun, seq = true, out.Seq
					if total += len(out.Payload); len(out.Payload) == 0 || total > 32*maxPayload {
						t.Fatalf("one push makes %d bytes", total)
					}
				}
			}
		}
		if p.Stats().Overflow != 0 {
			t.Fatalf("the queue is too short: %+v", p.Stats())
		}
	})
}
