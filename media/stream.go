package media

import (
	"net/netip"
	"sync/atomic"
	"time"

	"rtcedge/media/sdp"
	"rtcedge/media/udp"
	"rtcedge/nat"
	"rtcedge/transcode"
)

// stream is one m= line of a call: two legs and the route between them.
type stream struct {
	// Constant after it was made.
	worker *worker
	callID string
	index  int // of the m= line, from 0
	cname  [cnameLen]byte

	// Published by control, loaded by the worker once per packet; nil before the first answer.
	route atomic.Pointer[route]
	tap   atomic.Pointer[tap] // set while the call is recorded

	// Owned by the worker.
	cur   *route // that the packet state below was made for
	place int    // in worker.streams

	adopted atomic.Int64 // Unix ns of cur's answer; may be read by anybody

	joint *joint // to the stream that takes the place of a party that is away; nil is none

	watched bool // in worker.watched
	closed  bool

	legs [2]leg // legs[i] faces parties[i] of the dialog
}

// leg is the side of a stream that faces one party: our ports, the source that we learnt and the stream that we send there.
type leg struct {
	// Constant before the first route is published.
	stream    *stream
	side      int
	network   *network // interface
	absent    bool     // no ports: the party lends its place only (subscribe.go, publish.go)
	pool      *portPool
	rtp, rtcp *port
	ports     [2]port // that they are, by one piece of memory with the leg
	ssrc      uint32  // of everything that we send to this party
	number    uint16  // of the RTP port; that for RTCP is the next one

	// Guarded by call.mu.
	far        description           // what the party said in the last completed exchange
	pipe       *transcode.Pipe       // of what this leg receives, if it was ever transcoded
	pipeConfig *transcode.PipeConfig // of pipe
	keys       sdesParty             // SRTP keys; ours are kept over re-INVITEs
	muxed      bool                  // the port for RTCP is closed
	ice        iceParty
	dtls       dtlsParty
	tos        int // of our sockets

	// Owned by the worker.
	latch      nat.Latch      // source of RTP, and of RTCP on the same port
	latchRTCP  nat.Latch      // source of RTCP on its own port
	to         netip.AddrPort // latch.Destination
	toRTCP     netip.AddrPort // latchRTCP.Destination
	out        outgoing
	playing    *speaker   // in place of what the other party sends
	inject     *injection // DTMF on its way to the party
	flow       *flow      // of the stream's current route
	refreshed  uint64     // packets at the last tick
	loss       uint8      // percent of what we send, as the party reports it
	injectType uint8
	pace       pace // of what the party sends, where it is converted

	rare atomic.Pointer[rarely] // made by control when it is first asked for; nil: nothing of it

	gate atomic.Uint32 // set by control: what of the party's packets is held back

	// Counters and gauges: written by the worker, read by anybody.
	in      reception
	inRTCP  traffic
	sent    traffic
	drops   drops
	trip    atomic.Int64                   // ns, round trip to the party
	latched atomic.Pointer[netip.AddrPort] // learnt source; nil before
}

// rarely is what few legs have, so that the others need no room for it.
type rarely struct {
	// Set by control.
	mask   atomic.Pointer[mask]      // what stands in for events that are blocked; nil is nothing
	who    atomic.Pointer[who]       // for who is told of keys
	copies atomic.Pointer[[]*stream] // of subscribers; nil is none

	// Owned by the worker.
	masked  masked
	digits  [2]digitWatch // of events, and of tones in the voice
	forward *forwarder    // of what the party says, as PCM; nil is none
}

// rarely makes it; control calls it, with call.mu held.
func (l *leg) rarely() *rarely {
	x := l.rare.Load()
	if x == nil {
		x = new(rarely)
		l.rare.Store(x)
	}
	return x
}

// port is one socket of a leg and the receiver of its packets.
type port struct {
	leg  *leg
	rtcp bool
	conn *udp.Conn // set before the first route is published, then the worker's; nil is closed
}

// route says what becomes of the packets of a stream. It is immutable once published; what its pointers lead to belongs
// to the worker from then on.
type route struct {
	at    time.Time // of the answer
	raw   bool      // no RTP: pass the datagrams as they are (UDPTL)
	own   bool      // our own RTCP in place of the parties', as on transcoded streams
	plain bool      // keep SSRC and numbering, pass RTCP untouched: video, whose feedback names several sources
	flows [2]flow   // flows[i]: what legs[i] receives
	names [2]string // encoding names, for queries
}

// flow is the part of a route that belongs to the packets of one party.
type flow struct {
	source     nat.LatchConfig // what signalling said of the party
	sourceRTCP nat.LatchConfig
	hold       bool // the SDP says 0.0.0.0 or port 0: nothing is sent to the party
	mux        bool // RTCP to the party goes to its RTP address

	feedback bool // the party negotiated AVPF or SAVPF
	wait     bool // nothing goes to the party before it has sent
	fresh    bool // the party is another one than before: nothing that was learnt of it counts

	rx, tx *srtpContext // open what comes from the party, seal what goes to it; nil is plain

	ice, iceRTCP   iceAgent  // where to send is their decision; ice nil is the latch's, iceRTCP is nil under rtcp-mux
	dtls, dtlsRTCP *dtlsPath // in place of rx and tx, by port; dtlsRTCP is nil under rtcp-mux

	passing bool // every type passes under its number

	types  [128]uint8 // payload type as it comes -> as it leaves
	clock  uint32     // Hz of the RTP timestamps as they come
	pipe   *transcode.Pipe
	voice  uint8 // payload types behind the pipe
	events uint8
	noise  uint8
	event  [128]bool // telephone-event types as they come, before the pipe
	cn     [128]bool // comfort noise types as they come
	// eventClocks are the clocks of events as they come and leave, where no pipe stands and they differ: baresip has Opus with
	// telephone-event/8000 only. Zero is no conversion.
	eventClocks [2]uint32
	heard       []sdp.Codec // what the party may send, for a recording

	toClock uint32 // Hz of the timestamps behind the pipe

	listener *transcode.Pipe // for tones in the voice; nil: nobody wants to know
}

// noType marks a payload type that was not negotiated.
const noType = 0xff

// reports tells if RTCP ends here, and reports of our own go out.
func (r *route) reports() bool { return r.own || r.transcodes() }

// transcodes tells if a pipe stands in either direction.
func (r *route) transcodes() bool { return r.flows[0].pipe != nil || r.flows[1].pipe != nil }

// traffic counts packets and bytes.
type traffic struct{ packets, bytes atomic.Uint64 }

func (t *traffic) add(n int) {
	t.packets.Add(1)
	t.bytes.Add(uint64(n))
}

// outgoing is the numbering of the one stream that a party sees.
type outgoing struct {
	started bool
	source  uint32          // SSRC whose packets are renumbered now
	pipe    *transcode.Pipe // or that makes them
	splice  bool            // the next packet continues the stream with a new offset

	seqOff uint16 // added to the source's numbers
	tsOff  uint32

	seq uint16 // highest sent
	ts  uint32 // of that packet
	at  time.Time

	packets, octets uint32 // for our own reports
	reported        uint32 // packets when the last of these left

	srID uint32    // middle 32 bits of the NTP time of the last sender report to the party
	srAt time.Time // when that left
}

// continueAt sets the offsets so that a packet with these numbers follows the last one sent, with a timestamp as far ahead
// as time has gone by: who listens sees one source without a gap (RFC 3550 section 5.1).
func (o *outgoing) continueAt(seq uint16, ts uint32, now time.Time, clock uint32) {
	if !o.started {
		// The numbers of the first source are as good as random ones; below 2^15 the receiver cannot guess the SRTP
		// rollover counter wrong when the first packets are lost or swapped (RFC 3711 section 3.3.1).
		o.started = true
		o.seqOff = seq&0x7fff - seq
		o.tsOff = 0
		o.seq, o.ts, o.at = seq+o.seqOff-1, ts, now
		return
	}
	gap := max(now.Sub(o.at), 20*time.Millisecond)
	step := uint32(uint64(min(gap, time.Hour)) * uint64(clock) / uint64(time.Second))
	o.seqOff = o.seq + 1 - seq
	o.tsOff = o.ts + step - ts
}

// sentOne notes the numbers of a packet that leaves.
func (o *outgoing) sentOne(seq uint16, ts uint32, now time.Time) {
	if int16(seq-o.seq) > 0 {
		o.seq, o.ts, o.at = seq, ts, now
	}
}

// adopt takes a new route over: it resets exactly what changed.
func (s *stream) adopt(r *route) {
	for i := range s.legs {
		l, f := &s.legs[i], &r.flows[i]
		var was *flow
		if s.cur != nil {
			was = &s.cur.flows[i]
		}
		if was != nil && f.rx != was.rx && f.rx != nil && was.rx != nil {
			f.rx.follow(was.rx)
		}
		if was == nil || f.fresh || latchFlags(was.source) != latchFlags(f.source) {
			l.latch, l.latchRTCP = nat.NewLatch(f.source, r.at), nat.NewLatch(f.sourceRTCP, r.at)
		} else {
			l.latch.Update(f.source.Expected, f.source.Signalling, r.at)
			l.latchRTCP.Update(f.sourceRTCP.Expected, f.sourceRTCP.Signalling, r.at)
		}
		l.flow = f
		l.in.heard = false
		l.in.first.Store(0)
		l.learnt()
	}
	s.cur = r
	s.adopted.Store(r.at.UnixNano())
}

// latchFlags is what nat.Latch.Update cannot change.
func latchFlags(c nat.LatchConfig) nat.LatchConfig {
	c.Expected, c.Signalling = netip.AddrPort{}, netip.Addr{}
	return c
}

// learnt takes over what the latches decided.
func (l *leg) learnt() {
	l.to, l.toRTCP = l.latch.Destination(), l.latchRTCP.Destination()
	if src := l.latch.Source(); src.IsValid() {
		l.latched.Store(&src)
	} else if l.flow.wait && l.flow.source.Mode != nat.Off {
		l.to, l.toRTCP = netip.AddrPort{}, netip.AddrPort{}
	}
	l.connect()
}
