package media

// srtcpRestoreGap is ours: what a restored sender skips of the SRTCP index. A session record is older than the last packet, and
// an index must never be used twice under one key. 2^16 reports are days, and 2^31 indexes allow 2^15 restores.
const srtcpRestoreGap = 1 << 16

// srtpState is the part of a context that changes with the packets, for a session record. Keys are not in it: they are
// part of the negotiated session.
type srtpState struct {
	Streams []srtpStreamState
}

// srtpStreamState is where one SSRC stands. The replay window is not kept: a restored receiver takes every packet up to the
// highest index as seen, which loses at most what was under way and lets nothing in twice.
type srtpStreamState struct {
	SSRC      uint32
	RTP       bool   // an RTP packet was seen
	ROC       uint32 // rollover counter of the highest RTP index
	Seq       uint16 // sequence number of the highest RTP index
	RTCP      bool   // an RTCP packet was seen
	RTCPIndex uint32 // the highest one
}

// state returns a copy that shares nothing with the context, the longest unused stream first.
func (c *srtpContext) state() srtpState {
	var st srtpState
	for last := uint64(0); ; {
		var next *srtpStream
		for i := range c.streams[:c.used] {
			if s := &c.streams[i]; s.lastUse > last && (next == nil || s.lastUse < next.lastUse) {
				next = s
			}
		}
		if next == nil {
			return st
		}
		last = next.lastUse
		st.Streams = append(st.Streams, srtpStreamState{
			SSRC: next.ssrc,
			RTP:  next.rtp.seen, ROC: uint32(next.rtp.top >> 16), Seq: uint16(next.rtp.top),
			RTCP: next.rtcp.seen, RTCPIndex: uint32(next.rtcp.top),
		})
	}
}

// restoreReceiver sets a new context to a state of one that unprotected.
func (c *srtpContext) restoreReceiver(st srtpState) { c.restore(st, 0) }

// restoreSender sets a new context to a state of one that protected. Who numbers the packets himself must also
// skip sequence numbers, as far as the record may be behind.
func (c *srtpContext) restoreSender(st srtpState) { c.restore(st, srtcpRestoreGap) }

func (c *srtpContext) restore(st srtpState, gap uint64) {
	for _, s := range st.Streams {
		n := srtpStream{ssrc: s.SSRC}
		if s.RTP {
			n.rtp.closeAt(uint64(s.ROC)<<16 | uint64(s.Seq))
		}
		if s.RTCP {
			n.rtcp.closeAt(uint64(s.RTCPIndex) + gap)
		}
		c.keep(&n)
	}
}

// closeAt takes everything up to an index as seen.
func (w *srtpWindow) closeAt(index uint64) {
	w.top, w.seen = index, true
	for i := range w.ring {
		w.ring[i] = ^uint64(0)
	}
	// Bits of the top word that are in the future stay free.
	w.ring[index/64%srtpWindowWords] = 1<<(index%64)<<1 - 1
}

// follow makes a fresh receiver of a re-keyed stream know the context of the key before. Both belong to the same worker, which
// reads former when the first packet under the new key comes.
func (c *srtpContext) follow(former *srtpContext) { c.former = former }
