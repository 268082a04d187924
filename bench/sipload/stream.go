//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxWaiting bounds what one connection may hold back while the proxy does not read.
const maxWaiting = 4 << 20

// stream is one TCP or WebSocket connection of a phone. The socket does not block; what it does not take waits in out.
type stream struct {
	fd    int
	ws    bool
	local netip.AddrPort
	file  *os.File // keeps fd open

	in     []byte // not consumed yet
	room   []byte // of in
	out    []byte
	one    [slotSize]byte
	failed uint64
	broken bool
}

// wsMask masks our frames (RFC 6455 section 5.3). It need not be random against a proxy that is our own.
var wsMask = [4]byte{0x5a, 0xc3, 0x17, 0x88}

func openStream(local netip.Addr, peer netip.AddrPort, ws bool) (*stream, error) {
	d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))}
	nc, err := d.Dial("tcp", peer.String())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if ws {
		if err := upgrade(nc); err != nil {
			return nil, fmt.Errorf("open ws %s: %w", peer, err)
		}
	}
	tc := nc.(*net.TCPConn)
	file, err := tc.File()
	if err != nil {
		return nil, err
	}
	s := &stream{fd: int(file.Fd()), file: file, ws: ws, local: tc.LocalAddr().(*net.TCPAddr).AddrPort(), room: make([]byte, 256<<10)}
	s.in = s.room[:0]
	return s, unix.SetNonblock(s.fd, true)
}

// upgrade is the client's part of RFC 6455 section 4.1. The key is the RFC's own example, as nobody stands between.
func upgrade(nc net.Conn) error {
	if err := nc.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(nc, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://bench.invalid\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n", nc.RemoteAddr())
	if err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("upgrade refused: %s", res.Status)
	}
	return nc.SetDeadline(time.Time{})
}

func (s *stream) slot() []byte { return s.one[:0] }

func (s *stream) queue(b []byte, stamp int) {
	if len(s.out)+len(b) > maxWaiting || s.broken || len(b) > slotSize {
		s.failed++
		return
	}
	if stamp >= 0 {
		putHex(b[stamp:stamp+stampSize], uint64(time.Now().UnixNano()))
	}
	if s.ws {
		s.out = appendFrame(s.out, wsText, b)
		return
	}
	s.out = append(s.out, b...)
}

// The opcodes of RFC 6455 section 5.2, with the bit of a final frame.
const (
	wsText = 0x81
	wsPing = 0x89
	wsPong = 0x8a
)

func appendFrame(out []byte, op byte, b []byte) []byte {
	if len(b) < 126 {
		out = append(out, op, 0x80|byte(len(b)))
	} else {
		out = append(out, op, 0x80|126, byte(len(b)>>8), byte(len(b)))
	}
	out = append(out, wsMask[:]...)
	at := len(out)
	out = append(out, b...)
	mask32 := binary.LittleEndian.Uint32(wsMask[:])
	mask64 := uint64(mask32) | uint64(mask32)<<32
	p := out[at:]
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^mask64)
	}
	for i := range p {
		p[i] ^= wsMask[i&3]
	}
	return out
}

func (s *stream) flush() {
	if len(s.out) == 0 || s.broken {
		return
	}
	n, err := unix.SendmsgN(s.fd, s.out, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		s.broken = true
		return
	}
	s.out = s.out[:copy(s.out, s.out[max(n, 0):])]
}

// receive reads once and hands over whole messages.
func (s *stream) receive(take func(b []byte, arrived int64)) int {
	if s.broken {
		return 0
	}
	n, err := unix.Read(s.fd, s.room[len(s.in):])
	if n <= 0 {
		s.broken = n == 0 && err == nil || err != nil && !errors.Is(err, unix.EAGAIN)
		return 0
	}
	s.in = s.room[:len(s.in)+n]
	now := time.Now().UnixNano()
	rest, count := s.in, 0
	for len(rest) > 0 {
		b, size := s.next(rest)
		if size == 0 {
			break
		}
		if b != nil {
			take(b, now)
			count++
		}
		rest = rest[size:]
	}
	s.in = s.room[:copy(s.room, rest)]
	return count
}

// next cuts one message, or a keep-alive (nil), off; size 0 waits for more.
func (s *stream) next(in []byte) (b []byte, size int) {
	if !s.ws {
		if in[0] == '\r' || in[0] == '\n' {
			return nil, 1
		}
		var f fields
		if !f.scan(in) || f.length < 0 || f.header+f.length > len(in) {
			return nil, 0
		}
		return in[:f.header+f.length], f.header + f.length
	}
	if len(in) < 2 {
		return nil, 0
	}
	head, n := 2, int(in[1]&0x7f)
	if n == 126 {
		if len(in) < 4 {
			return nil, 0
		}
		head, n = 4, int(binary.BigEndian.Uint16(in[2:]))
	}
	if len(in) < head+n {
		return nil, 0
	}
	b = in[head : head+n]
	switch in[0] {
	case wsPing:
		s.out = appendFrame(s.out, wsPong, b)
		return nil, head + n
	case wsPong:
		return nil, head + n
	}
	return b, head + n
}

func (s *stream) close() { s.file.Close() }
