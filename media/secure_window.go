package media

// The index of a packet and the replay window (RFC 3711 sections 3.3.1 and 3.3.2, appendix A).

const (
	srtpIndexes    = 1 << 48 // RFC 3711 section 9.2: packets under one key
	srtcpIndexes   = 1 << 31
	srtcpEncrypted = 1 << 31 // the E bit in front of the 31 bit index (RFC 3711 section 3.4)
)

// srtpWindowWords is ours: 4 words remember at least 192 packets, which is 4 s of audio and enough for a burst of video.
// RFC 3711 section 3.3.2 asks for 64.
const srtpWindowWords = 4

// srtpWindowLen is how far behind the highest index a packet may be. The word of the highest index is partly in the
// future, hence one word less (the ring of RFC 6479).
const srtpWindowLen = (srtpWindowWords - 1) * 64

// srtpStream is what a context knows of one SSRC.
type srtpStream struct {
	ssrc      uint32
	lastUse   uint64 // value of the context's clock; 0 is a stream without a place
	rtp, rtcp srtpWindow
}

// srtpWindow is the highest index that was accepted, and which ones below it were.
type srtpWindow struct {
	top  uint64 // for RTP: rollover counter << 16 | sequence number
	seen bool   // top counts
	ring [srtpWindowWords]uint64
}

// estimate extends a sequence number to the index nearest to the highest one.
func (w *srtpWindow) estimate(seq uint16) uint64 {
	// A stream starts with rollover counter 0, and a number "before" its first packet is a jump forward, as in libsrtp
	// (srtp_rdbx_estimate_index): there is nothing before index 0.
	if !w.seen || w.top < 1<<15 {
		return uint64(seq)
	}
	roc := w.top >> 16
	switch d := int(seq) - int(uint16(w.top)); {
	case d < -1<<15:
		roc++
	case d > 1<<15: // the counter is not 0 here, as the highest index is 2^15 or more
		roc--
	}
	return roc<<16 | uint64(seq)
}

// check tells if an index may be accepted.
func (w *srtpWindow) check(index uint64) srtpFault {
	switch {
	case index >= srtpIndexes:
		return faultUsedUp
	case !w.seen || index > w.top:
		return faultNone
	case w.top-index >= srtpWindowLen:
		return faultOld
	case w.ring[index/64%srtpWindowWords]&(1<<(index%64)) != 0:
		return faultReplay
	}
	return faultNone
}

// accept notes an index that check let pass.
func (w *srtpWindow) accept(index uint64) {
	if !w.seen || index > w.top {
		for i := uint64(1); i <= min(index/64-w.top/64, srtpWindowWords); i++ {
			w.ring[(w.top/64+i)%srtpWindowWords] = 0
		}
		w.top, w.seen = index, true
	}
	w.ring[index/64%srtpWindowWords] |= 1 << (index % 64)
}
