package farm

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/bridge/mixer"
	"rtcedge/media/sdp"
	"rtcedge/media/udp"
)

// Chosen by us.
const (
	datagramMax  = 2048            // an RTP packet of telephony fits an Ethernet frame
	relearnAfter = 2 * time.Second // a learnt source that was silent so long may be replaced
)

// stream is the media of one leg: a socket pair, what comes in, and one outgoing RTP stream whose SSRC stays for the life
// of the leg, whatever is sent on it.
type stream struct {
	// Constant after newStream.
	rtp, rtcp *udp.Conn
	ssrc      uint32

	// Published by the call's goroutine, read by the reader and the senders.
	remote atomic.Pointer[remoteMedia]
	sink   atomic.Pointer[sink]

	received, sent, dropped atomic.Uint64

	// mu guards the rest: the outgoing stream, which the peer's reader and the clock may both write while they take turns.
	mu      sync.Mutex
	buf     [datagramMax]byte
	seq     uint16    // highest sent
	ts      uint32    // highest sent
	last    time.Time // of the last packet
	source  sourceID  // whose sequence and time the offsets translate
	seqOff  uint16
	tsOff   uint32
	keyTS   uint32 // of the key that is being sent
	started bool
	learnt  netip.AddrPort // where packets come from and go to; invalid until the first one
	left    netip.AddrPort // what was learnt before the SDP named another address

	heard time.Time // of the last accepted packet; owned by the reader
}

// sourceID names a stream that is relayed; zero is what the farm generates itself.
type sourceID struct {
	from *stream
	ssrc uint32
}

// remoteMedia is what the far end's SDP says, as far as sending and receiving depend on it.
type remoteMedia struct {
	addr    netip.AddrPort // where it wants its packets; invalid or port 0: nowhere
	eventPT uint8          // of telephone-event in both directions
	events  bool           // telephone-event was negotiated
	dir     sdp.Direction  // as the far end sees it
}

// sink takes what a stream receives. It runs on the stream's reader.
type sink struct {
	receive func(p rtpPacket, event bool)
}

// newStream opens a port pair. The RTCP socket is only held, so that reports do not meet "port unreachable": the farm keeps
// no statistics of them, the edge's media role does.
func newStream(addr netip.Addr, portMin, portMax uint16) (*stream, error) {
	rtp, rtcp, err := udp.ListenPair(addr, portMin, portMax, udp.Options{})
	if err != nil {
		return nil, err
	}
	return &stream{rtp: rtp, rtcp: rtcp, ssrc: rand.Uint32(), seq: uint16(rand.Uint32N(1 << 15)), ts: rand.Uint32()}, nil
}

func (s *stream) port() int { return int(s.rtp.LocalAddr().Port()) }

// close ends the reader and lets the ports go.
func (s *stream) close() {
	_ = s.rtp.Close() // UDP: nothing is left unsent
	_ = s.rtcp.Close()
}

// setRemote follows the far end's SDP. A changed address is followed at once and its source learnt anew.
func (s *stream) setRemote(m remoteMedia) {
	old := s.remote.Swap(&m)
	if old == nil || old.addr != m.addr {
		s.mu.Lock()
		s.left, s.learnt = s.learnt, netip.AddrPort{}
		s.mu.Unlock()
	}
}

// setSink changes who gets what is received; nil is nobody.
func (s *stream) setSink(receive func(p rtpPacket, event bool)) {
	if receive == nil {
		s.sink.Store(nil)
		return
	}
	s.sink.Store(&sink{receive})
}

// read receives until the socket is closed. It owns the receive buffer.
func (s *stream) read() {
	var buf [datagramMax]byte
	for {
		n, from, err := s.rtp.ReadFrom(buf[:])
		if err != nil {
			return
		}
		if !s.receive(buf[:n], from, time.Now()) {
			s.dropped.Add(1)
		}
	}
}

// receive hands one datagram to the sink, and tells if it was good. b is borrowed until it returns.
func (s *stream) receive(b []byte, from netip.AddrPort, now time.Time) bool {
	p, ok := parseRTP(b)
	remote := s.remote.Load()
	if !ok || remote == nil {
		return false
	}
	event := remote.events && p.pt == remote.eventPT
	if !event && p.pt != ptPCMU || !s.accept(from, remote, now) {
		return false
	}
	s.received.Add(1)
	if k := s.sink.Load(); k != nil && remote.dir.Sends() {
		k.receive(p, event)
	}
	return true
}

// accept learns the source from the first good packet and keeps to it, unless it falls silent and the same host goes on
// from another port. The address of the SDP wins at once: a port that was just another call's gets that call's last packets first.
func (s *stream) accept(from netip.AddrPort, remote *remoteMedia, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from == s.left && from != remote.addr {
		return true // still on its way from where the far end has been: heard, but not followed
	}
	if from != s.learnt {
		known := s.learnt.IsValid()
		if known && from != remote.addr && (now.Sub(s.heard) < relearnAfter || from.Addr() != s.learnt.Addr() && from.Addr() != remote.addr.Addr()) {
			return false
		}
		s.learnt = from
	}
	s.heard = now
	return true
}

// relay sends a packet of another stream, or of this one (echo), keeping the distances of its sequence numbers and time
// stamps, its marker and its payload. A new source continues where the last one stopped.
func (s *stream) relay(from *stream, p rtpPacket, event bool) {
	remote := s.remote.Load()
	if remote == nil || !remote.dir.Receives() || event && !remote.events {
		return
	}
	pt := uint8(ptPCMU)
	if event {
		pt = remote.eventPT
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	marker := p.marker
	if id := (sourceID{from, p.ssrc}); id != s.source {
		s.source = id
		s.seqOff = s.seq + 1 - p.seq
		s.tsOff = s.ts + s.pauseLocked(now) - p.ts
		marker = marker || !event
	}
	s.sendLocked(remote, now, pt, marker, p.seq+s.seqOff, p.ts+s.tsOff, p.payload)
}

// play sends 20 ms that the farm made itself.
func (s *stream) play(frame *[mixer.FrameSamples]byte) {
	remote := s.remote.Load()
	if remote == nil || !remote.dir.Receives() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	step, marker := uint32(mixer.FrameSamples), false
	if s.source != (sourceID{}) || !s.started {
		s.source = sourceID{}
		step, marker = s.pauseLocked(now), true
	}
	s.sendLocked(remote, now, ptPCMU, marker, s.seq+1, s.ts+step, frame[:])
}

// pauseLocked is the time since the last packet in samples, at least one frame: what the time stamp advances by when the
// source changes.
func (s *stream) pauseLocked(now time.Time) uint32 {
	if s.last.IsZero() {
		return mixer.FrameSamples
	}
	return max(mixer.FrameSamples, uint32(now.Sub(s.last).Milliseconds()*mixer.SampleRate/1000))
}

func (s *stream) sendLocked(remote *remoteMedia, now time.Time, pt uint8, marker bool, seq uint16, ts uint32, payload []byte) {
	to := s.learnt
	if !to.IsValid() {
		to = remote.addr
	}
	if !to.IsValid() || to.Port() == 0 || rtpHeader+len(payload) > len(s.buf) {
		return
	}
	b := append(appendRTP(s.buf[:0], pt, marker, seq, ts, s.ssrc), payload...)
	if s.rtp.WriteTo(b, to) != nil {
		return // a full or a closed socket: a lost packet, as on every UDP path
	}
	s.sent.Add(1)
	s.started, s.last = true, now
	if int16(seq-s.seq) > 0 {
		s.seq = seq
	}
	if int32(ts-s.ts) > 0 {
		s.ts = ts
	}
}
