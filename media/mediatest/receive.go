package mediatest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// The functions occur in the order in which a packet meets them.

// maxGap is how far timestamps may jump before the recording takes it for a new stream instead of a hole.
const maxGap = 10 * time.Second

// receiver is what is known of the incoming stream, guarded by Peer.mu.
type receiver struct {
	sources []netip.AddrPort
	ssrcs   []uint32
	packets int
	bytes   int

	refused     int // SRTP: wrong tag or replay
	undecodable int
	otherPT     int
	duplicates  int
	reordered   int
	lostBefore  int // of SSRCs that were left

	ssrc     uint32
	base     uint64 // extended sequence numbers
	highest  uint64
	seen     map[uint64]bool
	jitter   float64 // in seconds, RFC 3550 A.8
	transit  float64
	maxDelta time.Duration
	first    time.Time
	last     time.Time

	coder       *coder
	recording   []int16
	recordStart time.Time // when sample 0 came in, by the quickest packet
	recordBase  uint32    // timestamp of sample recordAt
	recordAt    int

	digits []Digit
	dtls   DTLS
	rtcp   RTCP
	lastSR time.Time
	srNTP  uint32
	srSSRC uint32
}

// read takes packets from a socket until its deadline.
func (p *Peer) read(conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if conn.SetReadDeadline(time.Time{}) != nil { // closed
				return
			}
			continue // an ICMP error of what was sent
		}
		if p.dtls != nil && conn == p.rtp && n > 0 && buf[0] >= 20 && buf[0] <= 63 { // RFC 7983
			p.takeDTLS(buf[:n])
			continue
		}
		now := time.Now()
		if n < 8 || buf[0]>>6 != 2 {
			continue
		}
		if buf[1] >= 192 && buf[1] <= 223 { // RFC 5761 section 4
			p.takeRTCP(buf[:n], now)
		} else if conn == p.rtp {
			p.takeRTP(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), now)
		}
	}
}

func (p *Peer) takeRTP(b []byte, from netip.AddrPort, now time.Time) {
	s := p.session.Load()
	if s == nil {
		return
	}
	pkt := p.openRTP(s, b, from, now)
	if pkt != nil && p.cfg.Echo {
		p.echo(s, pkt)
	}
}

// openRTP counts a packet and returns it for an echo.
func (p *Peer) openRTP(s *session, b []byte, from netip.AddrPort, now time.Time) *rtp.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.in
	if p.rx == nil && p.dtls != nil {
		r.refused++
		return nil
	}
	if p.rx != nil && s.suite != "" {
		plain, err := p.rx.DecryptRTP(nil, b, nil)
		if err != nil {
			r.refused++
			return nil
		}
		b = plain
	}
	pkt := &rtp.Packet{}
	if err := pkt.Unmarshal(b); err != nil {
		r.undecodable++
		return nil
	}
	r.note(from, len(b), now)
	if !r.number(pkt.SSRC, pkt.SequenceNumber) {
		return pkt
	}
	if clock, ok := s.events[pkt.PayloadType]; ok {
		r.event(pkt.Timestamp, pkt.Payload, clock)
		return pkt
	}
	if pkt.PayloadType != s.pt {
		r.otherPT++
		return pkt
	}
	r.voice(s.coder, pkt, now)
	return pkt
}

// note keeps sources and arrival times.
func (r *receiver) note(from netip.AddrPort, size int, now time.Time) {
	known := false
	for _, a := range r.sources {
		known = known || a == from
	}
	if !known && len(r.sources) < 16 {
		r.sources = append(r.sources, from)
	}
	if r.packets == 0 {
		r.first = now
	} else {
		r.maxDelta = max(r.maxDelta, now.Sub(r.last))
	}
	r.last = now
	r.packets++
	r.bytes += size
}

// number accounts for a sequence number (RFC 3550 A.1 and A.3) and tells if it is new.
func (r *receiver) number(ssrc uint32, seq uint16) bool {
	if r.seen == nil || ssrc != r.ssrc {
		if r.seen != nil {
			r.lostBefore += r.lost()
		}
		if len(r.ssrcs) < 64 {
			r.ssrcs = append(r.ssrcs, ssrc)
		}
		r.ssrc, r.seen, r.transit = ssrc, map[uint64]bool{}, 0
		r.base = 1<<16 | uint64(seq) // a packet from before the first has a number too
		r.highest = r.base
		r.recordAt, r.recordBase, r.coder = len(r.recording), 0, nil
	}
	ext := r.highest + uint64(int64(int16(seq-uint16(r.highest))))
	if r.seen[ext] {
		r.duplicates++
		return false
	}
	r.seen[ext] = true
	if ext < r.highest {
		r.reordered++
	}
	r.highest = max(r.highest, ext)
	r.base = min(r.base, ext)
	return true
}

func (r *receiver) lost() int {
	if r.seen == nil {
		return 0
	}
	return int(r.highest-r.base+1) - len(r.seen)
}

// voice decodes a packet to its place in the recording, which its timestamp tells; what was lost stays silent.
func (r *receiver) voice(name string, pkt *rtp.Packet, now time.Time) {
	if r.coder == nil || r.coder.name != name {
		c, err := newCoder(name)
		if err != nil {
			r.undecodable++
			return
		}
		r.coder, r.recordBase, r.recordAt = c, pkt.Timestamp, len(r.recording)
	}
	c := r.coder
	ticks := int(int32(pkt.Timestamp - r.recordBase))
	at := r.recordAt + ticks*c.rate/c.clock
	if limit := c.samples(maxGap); at < 0 || at > len(r.recording)+limit || at < len(r.recording)-limit {
		r.recordBase, r.recordAt = pkt.Timestamp, len(r.recording)
		at = r.recordAt
	}
	var pcm [48 * 120]int16
	n := c.decode(pcm[:], pkt.Payload)
	if n <= 0 {
		r.undecodable++
		return
	}
	if need := at + n; need > len(r.recording) {
		r.recording = append(r.recording, make([]int16, need-len(r.recording))...)
	}
	copy(r.recording[at:], pcm[:n])

	begin := now.Add(-time.Duration(at) * time.Second / time.Duration(c.rate))
	if r.recordStart.IsZero() || begin.Before(r.recordStart) {
		r.recordStart = begin
	}
	transit := now.Sub(r.first).Seconds() - float64(ticks)/float64(c.clock)
	if r.transit != 0 {
		d := transit - r.transit
		r.jitter += (max(d, -d) - r.jitter) / 16
	}
	r.transit = transit
}

// takeRTCP reads a compound packet.
func (p *Peer) takeRTCP(b []byte, now time.Time) {
	p.sendMu.Lock()
	ssrc := p.out.ssrc
	p.sendMu.Unlock()
	s := p.session.Load()
	if s == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.in
	if p.rx != nil && s.suite != "" {
		plain, err := p.rx.DecryptRTCP(nil, b, nil)
		if err != nil {
			r.refused++
			return
		}
		b = plain
	}
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		r.rtcp.Malformed++
		return
	}
	r.reports(packets, ssrc, now)
}
