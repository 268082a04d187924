package transcode

import (
	"testing"
	"time"
)

// loop pushes a stream again and again, renumbered so that it never ends.
type loop struct {
	packets []Packet
	at      int
	seq     uint16
	stamp   uint32
	ticks   uint32
}

func newLoop(packets []Packet) *loop {
	return &loop{packets: packets, ticks: packets[1].Timestamp - packets[0].Timestamp}
}

func (l *loop) push(p *Pipe) (bytes int) {
	pkt := l.packets[l.at]
	pkt.Seq, pkt.Timestamp, pkt.Marker = l.seq, l.stamp, false
	l.seq++
	l.stamp += l.ticks
	l.at = (l.at + 1) % len(l.packets)
	p.Push(pkt)
	for {
		out, ok := p.Next()
		if !ok {
			return bytes
		}
		bytes += len(out.Payload)
	}
}

// speechLike is the chirp with pauses, at the rate of f.
func speechLike(t testing.TB, f Format) []int16 {
	wide := chirp(t)
	if naturalRate(f) == 16000 {
		return wide
	}
	narrow := make([]int16, len(wide)/2)
	for i := range narrow {
		narrow[i] = int16((int(wide[2*i]) + int(wide[2*i+1])) / 2)
	}
	return narrow
}

// source is a stream of f; without an encoder for Opus it is a file.
func source(t testing.TB, f Format) *loop {
	if f.Codec == Opus {
		return newLoop(oggStream(t, "chirp-20ms-24k.opus"))
	}
	return newLoop(encodeStream(t, f, speechLike(t, f)))
}

// Rule 30: no packet allocates, whatever the pair: in order, after a loss, swapped, an event, a change of source.
func TestB30NoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, from := range voices {
		for _, to := range voices {
			if !CanEncode(to.Codec) || from.Codec == Opus && !CanEncode(Opus) {
				continue // the pure decoder allocates when the coding mode changes
			}
			src := source(t, from)
			for _, events := range [][2]int{{8000, 8000}, {8000, 0}, {0, 8000}} {
				p := mustPipe(t, PipeConfig{From: from, To: to, FromEvents: events[0], ToEvents: events[1]})
				for range 20 {
					src.push(p)
				}
				round := 0
				digit := [4]byte{5, 10, 0, 160}
				if n := testing.AllocsPerRun(200, func() {
					switch round++; round % 8 {
					case 3:
						src.seq++
						src.stamp += src.ticks
					case 5:
						p.Push(Packet{Event: true, Seq: src.seq, Timestamp: src.stamp, Payload: digit[:]})
						src.seq++
					case 7:
						p.Resync()
					}
					src.push(p)
				}); n != 0 {
					t.Errorf("%s to %s, events %v: %v allocations", name(from), name(to), events, n)
				}
			}
		}
	}
}

// BenchmarkPipe is the time of one 20 ms packet through every pair.
func BenchmarkPipe(b *testing.B) {
	for _, from := range voices {
		for _, to := range voices {
			if !CanEncode(to.Codec) {
				continue
			}
			b.Run(name(from)+"-"+name(to), func(b *testing.B) {
				p := mustPipe(b, PipeConfig{From: from, To: to, FromEvents: 8000, ToEvents: 8000})
				src := source(b, from)
				b.ReportAllocs()
				for b.Loop() {
					src.push(p)
				}
			})
		}
	}
}

// BenchmarkOpusComplexity is the time of one 20 ms packet of PCMU to Opus.
func BenchmarkOpusComplexity(b *testing.B) {
	if !CanEncode(Opus) {
		b.Skip("this build has no Opus encoder")
	}
	for _, complexity := range []int{-1, 1, 3, 5, 8, 10} {
		b.Run(string(rune('0'+max(complexity, 0)/10))+string(rune('0'+max(complexity, 0)%10)), func(b *testing.B) {
			p := mustPipe(b, PipeConfig{From: pcmu, To: opusf, OpusComplexity: complexity})
			src := source(b, pcmu)
			for b.Loop() {
				src.push(p)
			}
		})
	}
}

// BenchmarkConceal is the time of a packet of which every second is lost.
func BenchmarkConceal(b *testing.B) {
	for _, from := range []Format{pcmu, g722f, opusf} {
		b.Run(name(from), func(b *testing.B) {
			p := mustPipe(b, PipeConfig{From: from, To: pcmu})
			src := source(b, from)
			for b.Loop() {
				src.seq++
				src.stamp += src.ticks
				src.push(p)
			}
		})
	}
}

// BenchmarkListen is the time of DTMF detection in 20 ms.
func BenchmarkListen(b *testing.B) {
	d := newDetector(8000)
	pcm := sine(8000, 440, 8000, 20*time.Millisecond)
	for b.Loop() {
		d.listen(pcm)
	}
}

// BenchmarkResample is the time of 20 ms in either direction.
func BenchmarkResample(b *testing.B) {
	narrow, wide := sine(8000, 440, 8000, 20*time.Millisecond), make([]int16, 320)
	b.Run("up", func(b *testing.B) {
		d := &doubler{}
		for b.Loop() {
			d.double(wide, narrow)
		}
	})
	b.Run("down", func(b *testing.B) {
		h := &halver{}
		for b.Loop() {
			h.halve(narrow, wide)
		}
	})
}
