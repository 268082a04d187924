package transcode

import (
	"time"

	"rtcedge/transcode/g711"
)

// Bounds of a packet's work and of the timeline, chosen by us.
const (
	maxPacket  = 120 * time.Millisecond // longer packets are refused: no codec here needs them and each costs CPU (RFC 7587 allows 120 ms)
	maxConceal = 100 * time.Millisecond // of a loss is filled, the rest is silence
	maxOverlap = 200 * time.Millisecond // a timestamp may lie this far back before it counts as a restart of the clock
	maxSilence = 60 * time.Second       // a longer hole in the timestamps is a restart of the clock, too

	// What one Push may send: two packets of maxPacket, each with a concealment before it, and a frame's remainder.
	maxPush = 2*maxPacket + 2*maxConceal + maxPTime
)

// Stats counts what did not go the straight way, in packets where not said otherwise.
type Stats struct {
	Late      uint64 // came after its time or twice, dropped
	Wild      uint64 // a sequence number that fits nowhere, dropped
	Malformed uint64 // could not be decoded, or longer than 120 ms, dropped
	Reordered uint64 // came late but in time to be put right
	Concealed uint64 // gaps filled
	Silences  uint64 // holes in the timestamps passed on
	Restarts  uint64 // new clock or numbering of the source, Resync included
	Overflow  uint64 // outgoing packets dropped because one Push made too many
}

// Pipe converts one direction of one call. It belongs to one goroutine.
type Pipe struct {
	// Constant after NewPipe.
	cfg      PipeConfig
	decRate  int // Hz of decoded samples
	encRate  int // Hz of samples to encode
	frame    int // samples of an outgoing frame at encRate
	ticks    uint32
	frameMax int // bytes of an outgoing payload at most
	loss     int // percent, that the encoder was told
	dec      decoder
	enc      encoder
	cross    func(dst, src []byte) int // G.711 to G.711 by table, nil if not that

	// The source's side.
	order    sequence
	anchored bool   // clock is valid
	clock    uint32 // the source timestamp expected next, in From.Rate
	afterGap bool   // the last packet was an event or noise: a hole behind it is no loss of voice
	lastLen  uint32 // ticks of the last voice packet
	pcm      []int16
	plc      plc
	recent   []byte // G.711 to G.711 only: the last coded samples, for concealment
	noise    noise
	listener *detector
	incoming incomingEvent

	// The receiver's side.
	doubler  doubler
	halver   halver
	rated    []int16 // samples at encRate
	pending  []int16 // the frame that is being gathered
	seq      uint16
	stamp    uint32 // of the frame that is being gathered
	begun    bool   // seq and stamp are valid
	marker   bool   // the next frame begins a talkspurt
	outgoing outgoingEvent
	room     *Room
	queue    []Packet
	read     int
	arena    []byte // payloads of queue

	stats Stats
}

// NewPipe opens the codecs for one direction of a call. All memory that the pipe will use is allocated here, but
// for the states of libopus and room for a packet that is held back: the first one makes them.
func NewPipe(cfg PipeConfig) (*Pipe, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Pipe{cfg: cfg}
	p.decRate, p.encRate = audioRate(cfg.From, cfg.To), audioRate(cfg.To, cfg.From)
	p.frame = span(cfg.To.PTime, p.encRate)
	p.ticks = uint32(span(cfg.To.PTime, cfg.To.Rate))
	var err error
	if p.dec, err = newDecoder(cfg.From, p.decRate); err != nil {
		return nil, err
	}
	if p.enc, p.frameMax, err = newEncoder(&p.cfg, p.encRate, p.frame); err != nil {
		return nil, err
	}
	p.pending = make([]int16, 0, p.frame)
	p.plc = newPLC(p.decRate)
	frames := int(maxPush/cfg.To.PTime) + 2
	cfg.Room.lend(p, span(maxPacket, p.decRate), frames+reportEnds, frames*p.frameMax+(reportEnds+1)*eventSize)
	if cfg.FromEvents == 0 && cfg.ToEvents != 0 {
		p.listener = newDetector(p.decRate)
	}
	p.cross = crossing(cfg.From.Codec, cfg.To.Codec)
	if p.listener != nil {
		p.cross = nil
	}
	if p.cross != nil {
		p.recent = make([]byte, plcHistory)
		silence := byte(g711.SilenceULaw)
		if cfg.From.Codec == PCMA {
			silence = g711.SilenceALaw
		}
		for i := range p.recent {
			p.recent[i] = silence
		}
	}
	return p, nil
}

// crossing returns the direct conversion between two G.711 laws.
func crossing(from, to Codec) func(dst, src []byte) int {
	switch {
	case from == PCMU && to == PCMA:
		return g711.ULawToALaw
	case from == PCMA && to == PCMU:
		return g711.ALawToULaw
	case from == to && (from == PCMU || from == PCMA):
		return func(dst, src []byte) int { return copy(dst, src) }
	}
	return nil
}

// Push takes a packet and does all the work that follows from it. The payload is only read, and only until Push returns.
// Packets of an earlier Push that were not fetched are lost.
func (p *Pipe) Push(pkt Packet) {
	p.enter()
	if len(pkt.Payload) > maxPayload {
		pkt.Payload = nil // play counts it as malformed; its number must not look like a loss
	}
	s := &p.order
	switch s.judge(&pkt) {
	case arrivalLate:
		p.stats.Late++
		return
	case arrivalWild:
		p.stats.Wild++
		return
	case arrivalHold:
		s.hold(&pkt)
		return
	case arrivalRestart:
		if s.started {
			p.Resync()
		}
		s.next = pkt.Seq
	}
	if s.held && int16(pkt.Seq-s.waiting.Seq) > 0 {
		// The hole was not filled in time: it is a loss.
		p.release()
		if s.judge(&pkt) == arrivalHold {
			s.hold(&pkt)
			return
		}
	}
	p.play(&pkt)
	if s.held {
		p.stats.Reordered++
		p.release()
	}
}

// Next returns the next packet that came of the last Push, in order; false if there is none. Its payload is valid until the
// next Push.
func (p *Pipe) Next() (Packet, bool) {
	if p.read == len(p.queue) {
		return Packet{}, false
	}
	pkt := p.queue[p.read]
	p.read++
	return pkt, true
}

// Resync says that the next packet comes from another source, such as a new SSRC. The outgoing stream continues.
func (p *Pipe) Resync() {
	p.order.restart()
	p.anchored = false
	p.afterGap = false
	p.lastLen = 0
	p.dec.reset()
	p.plc.lost = 0
	p.incoming = incomingEvent{}
	p.marker = true
	p.stats.Restarts++
}

// SetLoss tells how many packets in a hundred the receiver has reported lost: a codec with FEC protects itself from as much.
func (p *Pipe) SetLoss(percent int) {
	percent = max(percent, p.cfg.OpusLoss)
	if e, ok := p.enc.(opusEncoder); ok && percent != p.loss {
		p.loss = percent
		e.e.SetLoss(percent)
	}
}

// FrameTime is how long an outgoing packet of voice lasts.
func (p *Pipe) FrameTime() time.Duration { return p.cfg.To.PTime }

// Stats returns the counters.
func (p *Pipe) Stats() Stats { return p.stats }

// release plays the packet that was held back.
func (p *Pipe) release() {
	p.order.held = false
	p.play(&p.order.waiting)
}

// play handles a packet whose turn it is.
func (p *Pipe) play(pkt *Packet) {
	missing := pkt.Seq - p.order.next
	p.order.played(pkt.Seq)
	if !p.begun {
		// Any start will do, RFC 3550 section 5.1 wants it random: the source's is.
		p.begun, p.seq, p.stamp, p.marker = true, pkt.Seq, pkt.Timestamp, true
	}
	if !p.anchored {
		p.anchored, p.clock = true, pkt.Timestamp
	}
	switch {
	case pkt.Event:
		p.event(pkt)
		p.afterGap = true
	case pkt.Noise:
		p.comfort(pkt)
		p.afterGap = true
	default:
		p.voice(pkt, uint32(missing))
	}
}

// voice conceals what is missing before a voice packet, decodes it and sends what makes full frames.
func (p *Pipe) voice(pkt *Packet, missing uint32) {
	n, ok := p.dec.samples(pkt.Payload)
	if !ok || n > len(p.pcm) {
		p.stats.Malformed++
		return
	}
	if p.incoming.covers(pkt.Timestamp, p.slack()) {
		return // a tone sounds in its place
	}
	p.incoming.pass(pkt.Timestamp)
	length := uint32(n * p.cfg.From.Rate / p.decRate)
	p.align(pkt, missing, length)
	p.afterGap = false
	p.lastLen = length
	p.clock += length
	p.marker = p.marker || pkt.Marker
	if p.cross != nil {
		straight := len(p.pending) == 0 && p.plc.lost == 0 && n == p.frame
		if straight {
			p.sendCrossed(pkt.Payload)
		}
		keepRecent(p.recent, pkt.Payload)
		if straight {
			return
		}
	}
	pcm := p.pcm[:p.dec.decode(p.pcm[:n], pkt.Payload)]
	if len(pcm) < n {
		// The framing was right but the content was not: keep the time.
		p.stats.Malformed++
		clear(p.pcm[len(pcm):n])
		pcm = p.pcm[:n]
	}
	p.plc.good(pcm)
	p.emit(pcm)
}

// align brings the clock to the packet's timestamp: over a loss by concealment, over silence by a jump of the outgoing
// timestamps, and over nonsense by ignoring it.
func (p *Pipe) align(pkt *Packet, missing, length uint32) {
	ahead := int32(pkt.Timestamp - p.clock)
	rate := p.cfg.From.Rate
	switch {
	case ahead == 0:
	case ahead < 0 && -int64(ahead) <= int64(span(maxOverlap, rate)):
		// A sender whose clock stumbles: the numbering says that this is new audio, so it is played.
	case ahead < 0 || int64(ahead) > int64(span(maxSilence, rate)):
		p.clock = pkt.Timestamp
		p.marker = true
		p.stats.Restarts++
	default:
		gap := uint32(ahead)
		if missing > 0 && !p.afterGap {
			typical := p.lastLen
			if typical == 0 {
				typical = length
			}
			lost := min(gap, missing*typical, uint32(span(maxConceal, rate)))
			gap -= p.conceal(lost, pkt.Payload)
		}
		p.silence(gap)
	}
}

// conceal fills ticks of lost audio before next and returns how many it filled.
func (p *Pipe) conceal(ticks uint32, next []byte) uint32 {
	// Opus conceals in steps of 2.5 ms.
	unit := p.decRate / 400
	n := int(ticks) * p.decRate / p.cfg.From.Rate / unit * unit
	if n == 0 {
		return 0
	}
	pcm := p.pcm[:n]
	if !p.dec.conceal(pcm, next) {
		if p.cross != nil && p.plc.lost == 0 {
			p.dec.decode(p.plc.history, p.recent)
		}
		p.plc.conceal(pcm)
	}
	p.stats.Concealed++
	p.emit(pcm)
	filled := uint32(n * p.cfg.From.Rate / p.decRate)
	p.clock += filled
	return filled
}

// silence lets ticks of the source's time pass with nothing to send. A frame that is being gathered is filled up and sent;
// the rest is a jump of the outgoing timestamp, as the source's was (RFC 3551 section 4.1).
func (p *Pipe) silence(ticks uint32) {
	p.clock += ticks
	n := int64(ticks) * int64(p.decRate) / int64(p.cfg.From.Rate)
	if n == 0 {
		return
	}
	if len(p.pending) > 0 {
		fill := min(n, int64((p.frame-len(p.pending))*p.decRate/p.encRate))
		clear(p.pcm[:fill])
		p.plc.lost = 0
		p.emit(p.pcm[:fill])
		n -= fill
	}
	if n == 0 {
		return
	}
	p.stats.Silences++
	p.stamp += uint32(n * int64(p.cfg.To.Rate) / int64(p.decRate))
	p.marker = p.marker || n*int64(p.encRate)/int64(p.decRate) >= int64(p.frame)
}

// comfort passes or renders a comfort noise packet. Noise is made for one frame only: how long the silence lasts is known
// when it is over, and then it is too late. A caller with a clock continues it by [Pipe.Noise].
func (p *Pipe) comfort(pkt *Packet) {
	if ahead := int32(pkt.Timestamp - p.clock); ahead > 0 && int64(ahead) <= int64(span(maxSilence, p.cfg.From.Rate)) {
		p.silence(uint32(ahead))
	}
	if !p.noise.update(pkt.Payload) {
		p.stats.Malformed++
		return
	}
	if p.cfg.ToNoise {
		p.send(Packet{Noise: true, Timestamp: p.position(), Payload: p.keep(pkt.Payload[:min(len(pkt.Payload), 1+cngOrder)])})
		return
	}
	p.makeNoise()
}

// Noise makes one frame of comfort noise at the level that the source told last, as Push makes packets of a packet. It is
// for a caller with a clock, while a source is silent; the timeline of the source moves along, so that audio which follows
// in time leaves no hole.
func (p *Pipe) Noise() {
	p.enter()
	if p.begun {
		p.makeNoise()
	}
}

func (p *Pipe) makeNoise() {
	n := p.frame * p.decRate / p.encRate
	p.noise.fill(p.pcm[:n])
	p.clock += uint32(n * p.cfg.From.Rate / p.decRate)
	p.afterGap = true
	p.plc.lost = 0
	p.emit(p.pcm[:n])
}

// slack is how long after an event's last news its end is taken for granted, in ticks of the source.
func (p *Pipe) slack() uint32 { return uint32(span(maxConceal, p.cfg.From.Rate)) }

// span converts a time to samples or ticks.
func span(d time.Duration, rate int) int {
	return int(d / time.Millisecond * time.Duration(rate) / 1000)
}

func keepRecent(recent, payload []byte) {
	if len(payload) >= len(recent) {
		copy(recent, payload[len(payload)-len(recent):])
		return
	}
	copy(recent, recent[len(payload):])
	copy(recent[len(recent)-len(payload):], payload)
}
