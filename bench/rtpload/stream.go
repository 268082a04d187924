//go:build linux

package main

import (
	"encoding/binary"

	"github.com/pion/srtp/v3"
)

// party is one end of a call: a socket that sends one stream and receives the other.
type party struct {
	fd     int
	port   int
	codec  codec
	frames [][]byte
	to     sockaddr // the proxy's port for us
	tx, rx *srtp.Context

	// What we send.
	place     int // of the next frame
	seq       uint16
	timestamp uint32
	ssrc      uint32
	sent      uint64     // packets
	sentAt    [512]int64 // ns, by the packet's number: 10 s of them
	buf       [1500]byte // the packet being sent
	scratch   [1500]byte // opened SRTP

	// What we receive: the other party's packets.
	peer    *party
	aligned bool
	base    uint64 // number of the peer's packet that the first arrival belongs to
	first   uint16 // its sequence number here
	highest uint64 // number of the newest arrival
}

// fill makes the next packet and returns its length.
func (p *party) fill() (int, error) {
	b := p.buf[:]
	b[0], b[1] = 0x80, p.codec.pt
	if p.sent == 0 {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], p.seq)
	binary.BigEndian.PutUint32(b[4:], p.timestamp)
	binary.BigEndian.PutUint32(b[8:], p.ssrc)
	n := 12 + copy(b[12:], p.frames[p.place])
	p.place = (p.place + 1) % len(p.frames)
	p.seq++
	p.timestamp += p.codec.ticks
	if p.tx == nil {
		return n, nil
	}
	sealed, err := p.tx.EncryptRTP(p.scratch[:0], b[:n], nil)
	if err != nil {
		return 0, err
	}
	return copy(b, sealed), nil
}

// number tells which of the peer's packets an arrival is, false for what is none of them. The first one is taken to be the newest
// that was sent by then.
func (p *party) number(b []byte, at int64) (uint64, bool) {
	if len(b) < 13 || b[0]>>6 != 2 || b[1]&0x7f != p.codec.pt {
		return 0, false
	}
	if p.rx != nil {
		if _, err := p.rx.DecryptRTP(p.scratch[:0], b, nil); err != nil {
			return 0, false
		}
	}
	seq := binary.BigEndian.Uint16(b[2:])
	if !p.aligned {
		n := p.peer.sent
		for n > 0 && p.peer.sent-n < uint64(len(p.sentAt)) && p.peer.sentAt[(n-1)%uint64(len(p.sentAt))] > at {
			n--
		}
		if n == 0 {
			return 0, false
		}
		p.aligned, p.base, p.first, p.highest = true, n-1, seq, n-1
		return n - 1, true
	}
	newest := p.first + uint16(p.highest-p.base)
	n := p.highest + uint64(int64(int16(seq-newest)))
	if n >= p.peer.sent || n < p.base {
		return 0, false
	}
	p.highest = max(p.highest, n)
	return n, true
}
