package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/bench/rawphone"
	"rtcedge/transcode/g711"
)

// Of G.711 at 20 ms.
const (
	rate    = 8000
	samples = 160
	frame   = 20 * time.Millisecond
	loop    = 25 // frames of a tone until it begins again: tones are multiples of 2 Hz
	step    = 2
)

// leg is the media of one phone: it sends a tone of its own and keeps what it hears.
type leg struct {
	hz     float64
	conn   *net.UDPConn
	to     atomic.Pointer[netip.AddrPort]
	frames [loop][samples]byte
	seq    uint16 // of the sender
	at     uint32
	ssrc   uint32

	mu      sync.Mutex // guards the rest
	last    time.Time
	gap     time.Duration // longest since the mark
	packets int
	window  []int16 // of record, by time stamp
	base    uint32
	filled  int
}

// newLeg binds a port and makes the tone; hz is rounded to what loops.
func newLeg(host netip.Addr, hz, dbfs float64) (*leg, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
	if err != nil {
		return nil, err
	}
	l := &leg{hz: math.Round(hz/step) * step, conn: conn, ssrc: uint32(conn.LocalAddr().(*net.UDPAddr).Port)}
	amplitude := 32767 * math.Pow(10, dbfs/20)
	var pcm [samples]int16
	for f := range l.frames {
		for i := range pcm {
			pcm[i] = int16(amplitude * math.Sin(2*math.Pi*l.hz*float64(f*samples+i)/rate))
		}
		g711.EncodeULaw(l.frames[f][:], pcm[:])
	}
	go l.receive()
	return l, nil
}

func (l *leg) sdp() []byte {
	a := l.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return fmt.Appendf(nil, "v=0\r\no=- %d 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n", l.ssrc, a.Addr(), a.Addr(), a.Port())
}

// aim begins to send to where an SDP body wants it.
func (l *leg) aim(body []byte) error {
	to, err := rawphone.Remote(string(body))
	if err == nil {
		l.to.Store(&to)
	}
	return err
}

func (l *leg) close() { _ = l.conn.Close() }

func (l *leg) receive() {
	buf := make([]byte, 2048)
	var pcm [samples]int16
	for {
		n, err := l.conn.Read(buf)
		if err != nil {
			return
		}
		now := time.Now()
		if n != 12+samples || buf[1]&0x7f != 0 { // PCMU of 20 ms; other things are not audio
			continue
		}
		l.mu.Lock()
		if !l.last.IsZero() {
			l.gap = max(l.gap, now.Sub(l.last))
		}
		l.last = now
		l.packets++
		if l.window != nil && l.filled < len(l.window) {
			ts := binary.BigEndian.Uint32(buf[4:])
			if l.filled == 0 {
				l.base = ts
			}
			if at := int(int32(ts - l.base)); at >= 0 && at+samples <= len(l.window) {
				g711.DecodeULaw(pcm[:], buf[12:n])
				l.filled += copy(l.window[at:], pcm[:])
			}
		}
		l.mu.Unlock()
	}
}

// mark begins a measurement of gaps.
func (l *leg) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gap, l.packets, l.last = 0, 0, time.Time{}
}

func (l *leg) heard() (packets int, gap time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.packets, l.gap
}

// record keeps what comes from now on.
func (l *leg) record(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.window, l.filled = make([]int16, int(d.Seconds()*rate)), 0
}

// recorded is the window, and the share of it that came.
func (l *leg) recorded() ([]int16, float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.window
	l.window = nil
	return w, float64(l.filled) / float64(len(w))
}

// band sends for all legs, a packet each 20 ms.
type band struct {
	mu   sync.Mutex // guards legs
	legs map[*leg]bool
	late atomic.Int64 // the longest that a tick came too late since stalled was asked
}

func newBand(ctx context.Context) *band {
	b := &band{legs: map[*leg]bool{}}
	go b.run(ctx)
	return b
}

// stalled tells how late this machine itself was at the worst since it was asked last.
func (b *band) stalled() time.Duration {
	return time.Duration(b.late.Swap(0)).Round(100 * time.Microsecond)
}

func (b *band) join(l *leg) { b.mu.Lock(); b.legs[l] = true; b.mu.Unlock() }

func (b *band) leave(l *leg) { b.mu.Lock(); delete(b.legs, l); b.mu.Unlock(); l.close() }

func (b *band) run(ctx context.Context) {
	var pkt [12 + samples]byte
	pkt[0] = 0x80
	for due := time.Now(); ; due = due.Add(frame) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		b.late.Store(max(b.late.Load(), int64(time.Since(due))))
		b.mu.Lock()
		for l := range b.legs {
			to := l.to.Load()
			if to == nil {
				continue
			}
			binary.BigEndian.PutUint16(pkt[2:], l.seq)
			binary.BigEndian.PutUint32(pkt[4:], l.at)
			binary.BigEndian.PutUint32(pkt[8:], l.ssrc)
			copy(pkt[12:], l.frames[int(l.seq)%loop][:])
			_, _ = l.conn.WriteToUDPAddrPort(pkt[:], *to) // a phone that has gone is no fault of the load
			if l.seq++; int(l.seq) == 65536/loop*loop {
				l.seq = 0 // lest the tone jump where the number turns over
			}
			l.at += samples
		}
		b.mu.Unlock()
	}
}

// level is a tone's amplitude in what was heard, in dBFS of a full sine.
func level(pcm []int16, hz float64) float64 {
	w := 2 * math.Pi * hz / rate
	coeff := 2 * math.Cos(w)
	var s1, s2, sum float64
	for i, v := range pcm {
		win := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(len(pcm))) // Hann: neighbours stay out
		s1, s2 = float64(v)*win+coeff*s1-s2, s1
		sum += win
	}
	power := s1*s1 + s2*s2 - coeff*s1*s2
	return 20 * math.Log10(max(2*math.Sqrt(max(power, 0))/sum/32767, 1e-7))
}
