package media

import (
	"math"
	"strings"
	"sync/atomic"
	"time"
)

// Fixed by RFC 3550 appendix A.1.
const (
	maxDropout  = 3000
	maxMisorder = 100
	seqMod      = 1 << 16
)

// reception is the statistics of what a party sends: RFC 3550 appendix A.1 (sequence), A.3 (loss) and A.8 (jitter). One
// writer, the worker; the atomics may be read by anybody.
type reception struct {
	traffic
	ssrc   atomic.Uint32 // of the last packet
	last   atomic.Int64  // Unix ns of the last packet; 0 before the first
	lost   atomic.Int64  // since the beginning, over all sources
	jitter atomic.Int64  // ns
	first  atomic.Int64  // Unix ns of the first packet since the last answer; 0 before

	// Owned by the worker.
	started  bool
	heard    bool // first is set
	maxSeq   uint16
	cycles   uint32
	baseSeq  uint32
	badSeq   uint32
	received uint32
	former   int64 // lost of earlier sources

	expectedPrior, receivedPrior uint32 // at the last report of ours

	clock      uint32 // Hz, of the last packet that jitter was measured with
	transit    int64  // ns
	meanJitter float64

	srID uint32 // middle 32 bits of the NTP time of the party's last sender report
	srAt time.Time
}

// packet notes an RTP packet. A clock of 0 leaves jitter alone: the timestamps of an event stand still (RFC 4733 section 2.2).
func (r *reception) packet(ssrc uint32, seq uint16, ts uint32, size int, now time.Time, clock uint32) {
	r.add(size)
	r.last.Store(now.UnixNano())
	if !r.heard {
		r.heard = true
		r.first.Store(now.UnixNano())
	}
	if !r.started || ssrc != r.ssrc.Load() {
		if r.started {
			r.former = r.lost.Load()
		}
		r.ssrc.Store(ssrc)
		r.restart(seq)
		r.srID = 0
		r.transit = math.MinInt64
	}
	r.sequence(seq)
	expected := r.extended() - r.baseSeq + 1
	r.lost.Store(r.former + int64(int32(expected-r.received)))

	// A.8, in time instead of timestamp units; a transit of the former source says nothing.
	if clock == 0 {
		return
	}
	r.clock = clock
	transit := now.UnixNano() - int64(uint64(ts)*uint64(time.Second)/uint64(clock))
	if r.transit != math.MinInt64 {
		d := math.Abs(float64(transit - r.transit))
		// A jump is a new timestamp base or its wrap-around, no jitter.
		if d < float64(10*time.Second) {
			r.meanJitter += (d - r.meanJitter) / 16
			r.jitter.Store(int64(r.meanJitter))
		}
	}
	r.transit = transit
}

// datagram notes one that is no RTP.
func (r *reception) datagram(size int, now time.Time) {
	r.add(size)
	r.last.Store(now.UnixNano())
}

func (r *reception) restart(seq uint16) {
	r.started = true
	r.maxSeq, r.baseSeq, r.badSeq = seq, uint32(seq), seqMod+1
	r.cycles, r.received = 0, 0
	r.expectedPrior, r.receivedPrior = 0, 0
}

// sequence is update_seq of appendix A.1 without the probation, which the latch takes care of.
func (r *reception) sequence(seq uint16) {
	delta := seq - r.maxSeq
	switch {
	case delta < maxDropout:
		if seq < r.maxSeq {
			r.cycles += seqMod
		}
		r.maxSeq = seq
	case delta <= seqMod-maxMisorder:
		if uint32(seq) != r.badSeq {
			r.badSeq = (uint32(seq) + 1) & (seqMod - 1)
			return // neither received nor expected, until a second one agrees
		}
		// Two in a row: the other side restarted without telling.
		r.former = r.lost.Load()
		r.restart(seq)
	}
	r.received++
}

// extended is the highest sequence number with its cycles.
func (r *reception) extended() uint32 { return r.cycles + uint32(r.maxSeq) }

// fraction is the loss since the last call, in 1/256 (A.3).
func (r *reception) fraction() uint8 {
	expected := r.extended() - r.baseSeq + 1
	de, dr := expected-r.expectedPrior, r.received-r.receivedPrior
	r.expectedPrior, r.receivedPrior = expected, r.received
	lost := int32(de - dr)
	if de == 0 || lost <= 0 {
		return 0
	}
	return uint8(min(uint64(lost)<<8/uint64(de), 255))
}

// impairment is what a codec takes from the rating of the E-model, and how well it stands loss.
type impairment struct {
	ie, bpl float64
	wide    bool // on the scale of ITU-T G.107.1, whose best is 129
}

// impairmentOf finds the values of a codec by its encoding name: ITU-T G.113 appendix I, for the wideband Ie of G.722 appendix IV.
// Unknown codecs count as G.711 with concealment. Opus has no entry: chosen by us are the Ie of G.722.2 at 23.85 kbit/s and a
// robustness above that of G.711, as in-band FEC repairs single losses; for G.722 one that concealment by repetition gives; for G.726 that of G.729,
// as both adapt.
func impairmentOf(name string) impairment {
	switch strings.ToUpper(name) {
	case "OPUS":
		return impairment{ie: 8, bpl: 32, wide: true}
	case "G722":
		return impairment{ie: 13, bpl: 13, wide: true}
	case "G729":
		return impairment{ie: 11, bpl: 19}
	case "G726-40":
		return impairment{ie: 2, bpl: 19}
	case "G726-32":
		return impairment{ie: 7, bpl: 19}
	case "G726-24":
		return impairment{ie: 25, bpl: 19}
	case "G726-16":
		return impairment{ie: 50, bpl: 19}
	case "GSM":
		return impairment{ie: 20, bpl: 10}
	case "G723":
		return impairment{ie: 15, bpl: 16.1}
	case "AMR":
		return impairment{ie: 5, bpl: 10}
	}
	return impairment{ie: 0, bpl: 25.1}
}

// mos estimates the opinion of a listener by the E-model (ITU-T G.107): loss in percent of what was expected, one-way delay
// taken as half the round trip plus twice the jitter plus 20 ms of framing. 0 is unknown.
func mos(codec string, packets, lost int64, jitter, trip time.Duration) float64 {
	if packets < 10 {
		return 0
	}
	loss := 100 * float64(max(lost, 0)) / float64(packets+max(lost, 0))
	delay := float64(trip)/2e6 + 2*float64(jitter)/1e6 + 20
	id := 0.024 * delay
	if delay > 177.3 {
		id += 0.11 * (delay - 177.3)
	}
	c := impairmentOf(codec)
	best, worst := 93.2, 95.0
	if c.wide {
		best, worst = 129, 129
	}
	rating := best - id - c.ie - (worst-c.ie)*loss/(loss+c.bpl)
	if c.wide {
		rating /= 1.29 // G.107.1 clause 7.7: to the scale that the next formula has
	}
	switch {
	case rating <= 0:
		return 1
	case rating >= 100:
		return 4.5
	}
	return 1 + 0.035*rating + rating*(rating-60)*(100-rating)*7e-6
}
