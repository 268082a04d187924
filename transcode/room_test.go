package transcode

import (
	"bytes"
	"testing"
	"time"
)

// TestRoomIsShared: pipes that take turns in one room send what pipes with rooms of their own send, also where one is pushed while another
// is being emptied.
func TestRoomIsShared(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		in := encodeStream(t, from, sine(naturalRate(from), 700, 9000, time.Second))
		from.PTime, to.PTime = 20*time.Millisecond, 10*time.Millisecond // two packets of each, so that a turn can be broken into
		cfg := PipeConfig{From: from, To: to}
		alone, shared := mustPipe(t, cfg), cfg
		shared.Room = NewRoom()
		first, second := mustPipe(t, shared), mustPipe(t, shared)
		for i, pkt := range in {
			alone.Push(pkt)
			first.Push(pkt)
			nested := i%3 == 2
			if !nested {
				emptied(first, func(Packet) {})
				second.Push(pkt)
				second.Next() // and the rest is left
				continue
			}
			count := 0
			emptied(first, func(got Packet) {
				want, ok := alone.Next()
				if !ok || !bytes.Equal(got.Payload, want.Payload) || got.Seq != want.Seq {
					t.Fatalf("packet %d of push %d is another one", count, i)
				}
				count++
				if count == 1 {
					second.Push(pkt)
				}
			})
		}
		if from.Codec != Opus && first.room == second.room {
			t.Error("a pipe that broke into another one's turn stayed in its room")
		}
	})
}

// emptied fetches all that a push has made.
func emptied(p *Pipe, each func(Packet)) {
	for {
		pkt, ok := p.Next()
		if !ok {
			return
		}
		each(pkt)
	}
}

// TestRoomHoldsTheHungriest: no pipe of a call needs one of its own.
func TestRoomHoldsTheHungriest(t *testing.T) {
	pairs(t, func(t *testing.T, from, to Format) {
		for _, ptime := range []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
			to.PTime = ptime
			room := NewRoom()
			if p := mustPipe(t, PipeConfig{From: from, To: to, OpusBitrate: 128000, Room: room}); p.room != room {
				t.Errorf("%v packets do not fit", ptime)
			}
		}
	})
}
