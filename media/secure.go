package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// SRTP and SRTCP (RFC 3711; RFC 6188 for AES-256; RFC 7714 for AES-GCM). The files, in the order in which a packet meets
// them: secure.go (which stream, which index), secure_window.go (index estimate and replay), secure_cm.go and
// secure_gcm.go (the ciphers), secure_suite.go (suites and key derivation), secure_state.go (what a session record carries).
//
// Not here: header extension encryption (RFC 6904), a key derivation rate other than 0, several master keys at once.

// srtpStreams bounds the SSRCs of one context. A call has one or two at a time; the rest is room for transfers, hold music and
// video layers.
const srtpStreams = 8

// srtpRoom is what a caller keeps free behind a packet: the longest trailer (GCM tag, SRTCP index) and an MKI.
const srtpRoom = 64

const (
	srtpHeaderMin  = 12 // RFC 3550 section 5.1
	srtcpHeaderLen = 8  // RFC 3711 section 3.4: header and sender's SSRC stay in clear text
	srtpMaxMKI     = 32 // ours; RFC 4568 section 6.1 allows 128, phones send 1 or 4
)

// srtpFault tells why a packet was refused.
type srtpFault uint8

const (
	faultNone   srtpFault = iota
	faultShort            // not a whole packet of its kind
	faultAuth             // the tag is wrong: another key, another index, or a forgery
	faultReplay           // the index was accepted before
	faultOld              // the index is behind the replay window
	faultUsedUp           // 2^48 packets or 2^31 RTCP packets under one key (RFC 3711 section 9.2)
)

// srtpContext protects or unprotects one direction of one stream, RTP and RTCP, all SSRCs of it. It belongs to one
// goroutine. Use a context for one direction only: the replay window of a sender keeps it from using an index twice,
// which AES-CM and even more GCM do not forgive (RFC 3711 section 9.1, RFC 7714 section 8.4).
type srtpContext struct {
	cipher srtpCipher // made by the first packet; nil before
	master []byte     // key and salt; nil behind the first packet
	suite  srtpSuite

	rtpTag   int // bytes that protection adds to an RTP packet, without the MKI
	rtcpTag  int // bytes behind an RTCP packet, without the MKI: tag and index word
	rtcpWord int // distance of the index word from the packet's end
	mki      []byte
	rtpMAC   int // bytes behind the MKI: the tag of AES-CM; GCM has its tag before it (RFC 7714 section 9)
	rtcpMAC  int

	used    int    // streams in use
	clock   uint64 // authenticated packets: orders the streams by last use
	streams [srtpStreams]srtpStream

	former *srtpContext // of the key before: where SSRCs stood that this one has not seen yet
	retry  []byte       // copy of a packet while the former rollover counter is tried
}

// srtpCipher is one family of transforms. Packets are changed in place; hdr bytes stay in clear text. After a failed open
// the bytes of the packet are undefined.
type srtpCipher interface {
	sealRTP(buf []byte, hdr, n int, ssrc uint32, index uint64) int
	openRTP(buf []byte, hdr, n int, ssrc uint32, index uint64) (int, bool)
	sealRTCP(buf []byte, n int, ssrc, word uint32) int
	openRTCP(buf []byte, n int, ssrc, word uint32) (int, bool)
	ahead() uint64 // reads what the next RTP packet needs (ahead.go)
}

// newSRTPContext makes a context from a master key and salt. The session keys are derived by the first packet: three expansions of AES and a
// quarter of a call's set-up that a call without packets does not need.
func newSRTPContext(suite srtpSuite, key, salt []byte) (*srtpContext, error) {
	p, ok := suite.params()
	if !ok {
		return nil, errors.New("srtp context: no suite")
	}
	if len(key) != p.keyLen || len(salt) != p.saltLen {
		return nil, fmt.Errorf("srtp context: %s takes a key of %d and a salt of %d bytes, not %d and %d",
			p.name, p.keyLen, p.saltLen, len(key), len(salt))
	}
	c := &srtpContext{suite: suite, rtpTag: p.tagLen, master: slices.Concat(key, salt)}
	if p.aead {
		c.rtcpTag, c.rtcpWord = p.tagLen+4, 4
	} else {
		// The tag of SRTCP has 80 bits under the _32 suites too (RFC 4568 section 6.2.2).
		c.rtcpTag, c.rtcpWord = srtcpCMTag+4, srtcpCMTag+4
		c.rtpMAC, c.rtcpMAC = p.tagLen, srtcpCMTag
	}
	return c, nil
}

// keyed is the cipher with its session keys.
func (c *srtpContext) keyed() srtpCipher {
	if c.cipher == nil {
		c.expand()
	}
	return c.cipher
}

// expand derives the session keys (RFC 3711 section 4.3). It cannot fail: newSRTPContext has looked at the lengths, and the suites' tests
// at what they ask of the standard library.
func (c *srtpContext) expand() {
	p, _ := c.suite.params()
	key, salt := c.master[:p.keyLen], c.master[p.keyLen:]
	var err error
	if p.aead {
		c.cipher, err = newSRTPGCM(key, salt)
	} else {
		c.cipher, err = newSRTPCM(key, salt, p.tagLen)
	}
	if err != nil {
		panic("srtp context: " + err.Error())
	}
	c.master = nil
}

// useMKI makes the context write this master key identifier into its packets and expect one of its length (RFC 3711 section
// 3.1). With one master key per direction the value of a received one carries no news and is not compared.
func (c *srtpContext) useMKI(mki []byte) error {
	if len(mki) > srtpMaxMKI {
		return fmt.Errorf("srtp context: MKI of %d bytes, at most %d", len(mki), srtpMaxMKI)
	}
	c.mki = append([]byte(nil), mki...)
	return nil
}

// protectRTP turns the RTP packet buf[:n] into an SRTP packet and returns its length. buf has srtpRoom bytes behind n. False
// means that the packet must not be sent: not an RTP packet, or an index that was used before.
func (c *srtpContext) protectRTP(buf []byte, n int) (int, bool) {
	hdr := srtpHeaderLen(buf[:n])
	if hdr == 0 || len(buf)-n < srtpRoom {
		return 0, false
	}
	ssrc := binary.BigEndian.Uint32(buf[8:])
	s := c.find(ssrc)
	var fresh srtpStream
	if s == nil {
		fresh.ssrc = ssrc
		s = &fresh
	}
	index := s.rtp.estimate(binary.BigEndian.Uint16(buf[2:]))
	if s.rtp.check(index) != faultNone {
		return 0, false
	}
	n = c.keyed().sealRTP(buf, hdr, n, ssrc, index)
	n = c.insertMKI(buf, n, c.rtpMAC)
	c.keep(s).rtp.accept(index)
	return n, true
}

// unprotectRTP turns the SRTP packet buf[:n] into an RTP packet and returns its length. Nothing is learnt from a packet
// before its tag was found right. After a fault the bytes of buf are undefined.
func (c *srtpContext) unprotectRTP(buf []byte, n int) (int, srtpFault) {
	n -= len(c.mki)
	if n < srtpHeaderMin+c.rtpTag {
		return 0, faultShort
	}
	c.removeMKI(buf, n, c.rtpMAC)
	hdr := srtpHeaderLen(buf[:n-c.rtpTag])
	if hdr == 0 {
		return 0, faultShort
	}
	ssrc := binary.BigEndian.Uint32(buf[8:])
	seq := binary.BigEndian.Uint16(buf[2:])
	s := c.find(ssrc)
	if s == nil {
		return c.unprotectFirst(buf, hdr, n, ssrc, seq)
	}
	index := s.rtp.estimate(seq)
	// The window is asked first, which is cheap, and changed last, when the tag is known to be right.
	if fault := s.rtp.check(index); fault != faultNone {
		return 0, fault
	}
	n, ok := c.keyed().openRTP(buf, hdr, n, ssrc, index)
	if !ok {
		return 0, faultAuth
	}
	c.keep(s).rtp.accept(index)
	return n, faultNone
}

// unprotectFirst opens the first RTP packet of an SSRC. After a re-key RFC 3711 section 3.3.1 lets the rollover counter run on,
// yet user agents that make a new context for a re-INVITE start at 0: the former is tried first, then the latter.
func (c *srtpContext) unprotectFirst(buf []byte, hdr, n int, ssrc uint32, seq uint16) (int, srtpFault) {
	fresh := srtpStream{ssrc: ssrc}
	if index := c.formerIndex(ssrc, seq); index != uint64(seq) {
		c.retry = append(c.retry[:0], buf[:n]...)
		if m, ok := c.keyed().openRTP(buf, hdr, n, ssrc, index); ok {
			c.keep(&fresh).rtp.accept(index)
			return m, faultNone
		}
		copy(buf, c.retry)
	}
	n, ok := c.keyed().openRTP(buf, hdr, n, ssrc, uint64(seq))
	if !ok {
		return 0, faultAuth
	}
	c.keep(&fresh).rtp.accept(uint64(seq))
	return n, faultNone
}

// formerIndex is the index that a packet has if the rollover counter was kept over the re-key.
func (c *srtpContext) formerIndex(ssrc uint32, seq uint16) uint64 {
	if c.former == nil {
		return uint64(seq)
	}
	c.former.former = nil // one is enough: no chain grows
	s := c.former.find(ssrc)
	if s == nil {
		return uint64(seq)
	}
	return s.rtp.estimate(seq)
}

// protectRTCP turns the RTCP packet buf[:n] into an SRTCP packet and returns its length. buf has srtpRoom bytes behind n.
func (c *srtpContext) protectRTCP(buf []byte, n int) (int, bool) {
	if n < srtcpHeaderLen || buf[0]>>6 != 2 || len(buf)-n < srtpRoom {
		return 0, false
	}
	ssrc := binary.BigEndian.Uint32(buf[4:])
	s := c.find(ssrc)
	var fresh srtpStream
	if s == nil {
		fresh.ssrc = ssrc
		s = &fresh
	}
	index := s.rtcp.top + 1 // 1 is the first: 0 would do too, but libsrtp counts before it sends
	if s.rtcp.check(index) != faultNone || index >= srtcpIndexes {
		return 0, false
	}
	n = c.keyed().sealRTCP(buf, n, ssrc, srtcpEncrypted|uint32(index))
	n = c.insertMKI(buf, n, c.rtcpMAC)
	c.keep(s).rtcp.accept(index)
	return n, true
}

// unprotectRTCP turns the SRTCP packet buf[:n] into an RTCP packet and returns its length. As unprotectRTP.
func (c *srtpContext) unprotectRTCP(buf []byte, n int) (int, srtpFault) {
	n -= len(c.mki)
	if n < srtcpHeaderLen+c.rtcpTag || buf[0]>>6 != 2 {
		return 0, faultShort
	}
	c.removeMKI(buf, n, c.rtcpMAC)
	ssrc := binary.BigEndian.Uint32(buf[4:])
	word := binary.BigEndian.Uint32(buf[n-c.rtcpWord:])
	s := c.find(ssrc)
	var fresh srtpStream
	if s == nil {
		fresh.ssrc = ssrc
		s = &fresh
	}
	index := uint64(word &^ srtcpEncrypted)
	if fault := s.rtcp.check(index); fault != faultNone {
		return 0, fault
	}
	n, ok := c.keyed().openRTCP(buf, n, ssrc, word)
	if !ok {
		return 0, faultAuth
	}
	c.keep(s).rtcp.accept(index)
	return n, faultNone
}

// insertMKI puts the identifier in front of the last behind bytes of the packet.
func (c *srtpContext) insertMKI(buf []byte, n, behind int) int {
	m := len(c.mki)
	if m == 0 {
		return n
	}
	copy(buf[n-behind+m:n+m], buf[n-behind:n])
	copy(buf[n-behind:], c.mki)
	return n + m
}

// removeMKI takes it out again; n is the length without it.
func (c *srtpContext) removeMKI(buf []byte, n, behind int) {
	if m := len(c.mki); m > 0 {
		copy(buf[n-behind:n], buf[n-behind+m:n+m])
	}
}

// find returns the stream of an SSRC, or nil.
func (c *srtpContext) find(ssrc uint32) *srtpStream {
	for i := range c.streams[:c.used] {
		if c.streams[i].ssrc == ssrc {
			return &c.streams[i]
		}
	}
	return nil
}

// keep notes the use of a stream whose packet was authenticated. A new one gets a place, that of the longest unused one if
// there is none free; so a stranger's packet never pushes a stream out.
func (c *srtpContext) keep(s *srtpStream) *srtpStream {
	c.clock++
	if s.lastUse != 0 {
		s.lastUse = c.clock
		return s
	}
	place := &c.streams[0]
	if c.used < srtpStreams {
		place = &c.streams[c.used]
		c.used++
	} else {
		for i := range c.streams {
			if c.streams[i].lastUse < place.lastUse {
				place = &c.streams[i]
			}
		}
	}
	*place = *s
	place.lastUse = c.clock
	return place
}

// srtpHeaderLen returns the length of an RTP header with its CSRCs and its extension, 0 if the packet does not hold one.
func srtpHeaderLen(p []byte) int {
	if len(p) < srtpHeaderMin || p[0]>>6 != 2 {
		return 0
	}
	n := srtpHeaderMin + 4*int(p[0]&0x0f)
	if p[0]&0x10 != 0 { // RFC 3550 section 5.3.1
		if len(p) < n+4 {
			return 0
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(p[n+2:]))
	}
	if len(p) < n {
		return 0
	}
	return n
}
