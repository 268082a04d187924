package farm

import (
	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// Sizes of a jitter buffer in samples of 8 kHz, chosen by us: 40 ms hide what a local network and an edge do, 60 ms are
// the most that a conversation should lose to them; beyond 250 ms the sender has jumped.
const (
	jitterStart  = 2 * mixer.FrameSamples
	jitterMax    = 3 * mixer.FrameSamples
	jitterRing   = 4096 // samples, a power of two
	jitterAhead  = 2000
	jitterStable = 250 // pops (5 s) without a late packet after which the delay may shrink
	jitterHurry  = 50  // the same, when the buffer holds much more than is needed, as after a stall
	concealMax   = 2   // frames that are repeated before silence
	ulawSilence  = g711.SilenceULaw
)

// jitterBuffer puts the PCMU of one sender in order and hands it out in frames of 20 ms. It is pure: it sees time stamps
// and the pace of pop, no clock. Packets may have any length up to 100 ms. The zero value is ready; not safe for
// concurrent use.
type jitterBuffer struct {
	data [jitterRing]byte
	have [jitterRing]bool
	next uint32 // time stamp of the first sample that the next pop hands out
	high uint32 // time stamp behind the newest sample
	ssrc uint32
	live bool // next and high are set

	delay   uint32 // samples between arrival and play-out that are aimed at
	missing int    // empty pops in a row
	quiet   int    // pops since the last late packet or change of delay
	low     uint32 // lowest fill seen in quiet pops
	last    [mixer.FrameSamples]byte
}

// push takes a packet's payload, which is copied.
func (j *jitterBuffer) push(ssrc, ts uint32, payload []byte) {
	if len(payload) == 0 || len(payload) > 5*mixer.FrameSamples {
		return
	}
	ahead := int32(ts - j.next)
	if !j.live || ssrc != j.ssrc || ahead > jitterAhead || ahead < -jitterAhead {
		j.restart(ssrc, ts)
	} else if ahead < 0 && j.missing > concealMax {
		// The buffer ran dry meanwhile: a sender that paused without letting its time stamps run, or a long stall.
		j.restart(ssrc, ts)
	} else if ahead < 0 {
		j.quiet = 0
		if j.delay < jitterMax {
			// The buffer was too short: play-out steps back by one frame, which the next pop fills in.
			j.delay += mixer.FrameSamples
			j.next -= mixer.FrameSamples
			ahead += mixer.FrameSamples
		}
		if ahead+int32(len(payload)) <= 0 {
			return
		}
	}
	for i, b := range payload {
		at := ts + uint32(i)
		if int32(at-j.next) < 0 {
			continue
		}
		j.data[at%jitterRing], j.have[at%jitterRing] = b, true
	}
	if end := ts + uint32(len(payload)); int32(end-j.high) > 0 {
		j.high = end
	}
}

func (j *jitterBuffer) restart(ssrc, ts uint32) {
	if j.delay == 0 {
		j.delay = jitterStart
	}
	clear(j.have[:])
	j.ssrc, j.live = ssrc, true
	j.next, j.high = ts-j.delay, ts
	j.missing, j.quiet, j.low = 0, 0, jitterRing
	j.last = silentFrame
}

// pop writes the next 20 ms to out and tells if there was anything: voice, or what stands in for a lost packet. Without
// anything out is silence.
func (j *jitterBuffer) pop(out *[mixer.FrameSamples]byte) bool {
	if !j.live {
		*out = silentFrame
		return false
	}
	got := 0
	for i := range out {
		at := (j.next + uint32(i)) % jitterRing
		if j.have[at] {
			out[i] = j.data[at]
			got++
		} else {
			out[i] = ulawSilence
		}
		j.have[at] = false
	}
	j.next += mixer.FrameSamples
	if got == 0 {
		return j.conceal(out)
	}
	j.missing = 0
	j.last = *out
	j.adapt()
	return true
}

// conceal stands in for a frame that is not there. After a second of nothing the sender has paused: the next packet starts
// afresh.
func (j *jitterBuffer) conceal(out *[mixer.FrameSamples]byte) bool {
	j.missing++
	j.quiet, j.low = 0, jitterRing
	if j.missing <= concealMax && j.last != silentFrame {
		*out = j.last
		return true
	}
	*out = silentFrame
	j.last = silentFrame
	if j.missing >= 50 {
		j.live = false
	}
	return false
}

// adapt takes a frame out when for 5 s more was in the buffer than the delay asks for: the sender's clock is faster, or
// the network became better.
func (j *jitterBuffer) adapt() {
	j.low = min(j.low, j.high-j.next)
	j.quiet++
	if hurry := j.quiet >= jitterHurry && j.low >= j.delay+jitterMax; !hurry && j.quiet < jitterStable {
		return
	}
	if j.delay > jitterStart && j.low >= j.delay {
		j.delay -= mixer.FrameSamples
	}
	if j.low >= j.delay+mixer.FrameSamples {
		for i := range uint32(mixer.FrameSamples) {
			j.have[(j.next+i)%jitterRing] = false
		}
		j.next += mixer.FrameSamples
	}
	j.quiet, j.low = 0, jitterRing
}

// silentFrame is 20 ms of PCMU silence.
var silentFrame = func() (f [mixer.FrameSamples]byte) {
	for i := range f {
		f[i] = ulawSilence
	}
	return f
}()
