package rawphone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"crypto/rand"
)

// The stream of a call: PCMU in packets of 20 ms.
const (
	frame          = 20 * time.Millisecond // where Config says nothing
	perMillisecond = 8                     // samples, one byte each
)

// Media is the phone's one RTP stream each way.
type Media struct {
	rtp   *net.UDPConn
	frame time.Duration // audio of a packet
	pacer *Pacer        // nil: it keeps its own time
	id    uint32        // of the session in o=

	mu       sync.Mutex
	to       netip.AddrPort
	version  uint64
	ssrc     uint32
	seq      uint16
	packet   []byte
	sending  bool
	stopped  chan struct{} // without a pacer
	done     chan struct{}
	packets  int
	last     time.Time
	longest  time.Duration // between two packets, since Mark
	arrivals []time.Time   // since Mark, bounded
}

func newMedia(host netip.Addr, frame time.Duration, pacer *Pacer) (*Media, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
	if err != nil {
		return nil, err
	}
	var b [10]byte
	_, _ = rand.Read(b[:])
	packet := make([]byte, 12+int(frame.Milliseconds())*perMillisecond)
	packet[0] = 0x80
	for i := range packet[12:] {
		packet[12+i] = byte(0x80 | i%64)
	}
	return &Media{rtp: c, frame: frame, pacer: pacer, packet: packet, id: binary.BigEndian.Uint32(b[:]) >> 1, ssrc: binary.BigEndian.Uint32(b[4:]),
		seq: binary.BigEndian.Uint16(b[8:]) >> 1}, nil
}

// SDP offers or answers PCMU with a direction: sendrecv, sendonly, recvonly or inactive. Each one has a higher version than the last.
func (m *Media) SDP(direction string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.version++
	a := m.rtp.LocalAddr().(*net.UDPAddr).AddrPort()
	return fmt.Sprintf("v=0\r\no=- %d %d IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:%d\r\na=%s\r\n",
		m.id, m.version, a.Addr(), a.Addr(), a.Port(), m.frame.Milliseconds(), direction)
}

// Remote is the address that an SDP body wants its audio at.
func Remote(body string) (netip.AddrPort, error) {
	var host, port string
	for _, l := range strings.Split(body, "\r\n") {
		if f := strings.Fields(l); strings.HasPrefix(l, "c=") && len(f) == 3 {
			host = f[2]
		} else if strings.HasPrefix(l, "m=audio ") && len(f) > 1 {
			port = f[1]
		}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("SDP without a c= line: %q", body)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("SDP without a m=audio line: %q", body)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

// Origin is session id and version of the o= line.
func Origin(body string) (session, version uint64, err error) {
	for _, l := range strings.Split(body, "\r\n") {
		if f := strings.Fields(l); strings.HasPrefix(l, "o=") && len(f) == 6 {
			s, err1 := strconv.ParseUint(f[1], 10, 64)
			v, err2 := strconv.ParseUint(f[2], 10, 64)
			return s, v, errors.Join(err1, err2)
		}
	}
	return 0, 0, fmt.Errorf("SDP without an o= line: %q", body)
}

// Send starts the stream to the address of an SDP body, or turns it there. SSRC, sequence and timestamp go on.
func (m *Media) Send(body string) error {
	to, err := Remote(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.to = to
	begins := !m.sending
	m.sending = true
	if begins && m.pacer == nil {
		m.stopped, m.done = make(chan struct{}), make(chan struct{})
		go m.send(m.stopped, m.done)
	}
	m.mu.Unlock()
	if begins && m.pacer != nil { // outside of the lock, which the pacer takes under its own
		m.pacer.add(m)
	}
	return nil
}

// stop ends the stream.
func (m *Media) stop() {
	m.mu.Lock()
	stopped, done, sending := m.stopped, m.done, m.sending
	m.sending, m.stopped = false, nil
	m.mu.Unlock()
	switch {
	case !sending:
	case m.pacer != nil:
		m.pacer.remove(m)
	default:
		close(stopped)
		<-done
	}
}

// Pause ends the stream until the next Send.
func (m *Media) Pause() { m.stop() }

func (m *Media) send(stopped, done chan struct{}) {
	defer close(done)
	tick := time.NewTicker(m.frame)
	defer tick.Stop()
	for {
		select {
		case <-stopped:
			return
		case <-tick.C:
		}
		m.transmit()
	}
}

func (m *Media) transmit() {
	m.mu.Lock()
	m.seq++
	binary.BigEndian.PutUint16(m.packet[2:], m.seq)
	binary.BigEndian.PutUint32(m.packet[4:], uint32(m.seq)*uint32(len(m.packet)-12))
	binary.BigEndian.PutUint32(m.packet[8:], m.ssrc)
	to := m.to
	m.mu.Unlock()
	_, _ = m.rtp.WriteToUDPAddrPort(m.packet, to) // one goroutine sends
}

func (m *Media) receive() {
	buf := make([]byte, 2048)
	for {
		n, _, err := m.rtp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// A port that is gone shows as an error of the next read.
		if err != nil || n < 12 || buf[0]>>6 != 2 || buf[1]&0x7f != 0 || !audible(buf[12:n]) {
			continue
		}
		now := time.Now()
		m.mu.Lock()
		m.packets++
		if !m.last.IsZero() {
			m.longest = max(m.longest, now.Sub(m.last))
		}
		m.last = now
		if len(m.arrivals) < 1000 {
			m.arrivals = append(m.arrivals, now)
		}
		m.mu.Unlock()
	}
}

// audible tells somebody who speaks from comfort noise, which comes as PCMU as well: noise of -60 dBov stays in the lowest segment of G.711 (amplitudes below
// 124 of 32124), phones, music and tones reach the third (396 and more).
func audible(ulaw []byte) bool {
	return slices.ContainsFunc(ulaw, func(b byte) bool { return ^b>>4&7 >= 2 })
}

// Heard is what came since the last Mark. Comfort noise is silence.
type Heard struct {
	Packets int
	Last    time.Time
	Longest time.Duration // the longest time without a packet that had ended
}

// Mark begins a measurement: counters go to zero, the clock of the silence goes on.
func (m *Media) Mark() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.packets, m.longest, m.arrivals = 0, 0, nil
}

// Heard reads the measurement.
func (m *Media) Heard() Heard {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Heard{m.packets, m.last, m.longest}
}

// FirstAfter is when the first packet after t came; zero when none did. It looks at the first 1,000 packets since Mark.
func (m *Media) FirstAfter(t time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.arrivals {
		if a.After(t) {
			return a
		}
	}
	return time.Time{}
}
