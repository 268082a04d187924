package transcode

// How far sequence numbers may jump and still belong to the same stream (RFC 3550 appendix A.1).
const (
	maxDropout  = 3000
	maxMisorder = 100
)

// maxWait is the largest hole in the numbering, in packets, whose filling is waited for. Neighbours that were swapped
// leave a hole of one or two; a longer one is a loss.
const maxWait = 2

// maxPayload bounds what is accepted and kept: nothing larger crosses an Ethernet.
const maxPayload = 1500

// sequence restores the order of a stream. It keeps at most one packet back, and only while a number is missing: the
// packet behind the hole leaves when the missing one comes, or with the next one at the latest.
type sequence struct {
	started bool
	next    uint16 // the number expected
	suspect uint16 // after a wild jump: the number that would prove a restart
	doubt   bool   // suspect is valid
	held    bool   // waiting is valid
	waiting Packet
	buf     []byte // of waiting.Payload; made by the first that waits
}

// arrival says what to do with a packet.
type arrival uint8

const (
	arrivalPlay    arrival = iota // now, a hole before it being a loss
	arrivalHold                   // after the missing one or with the next
	arrivalRestart                // as the first of a stream
	arrivalLate                   // not at all: its time has passed, or it is a copy
	arrivalWild                   // not at all: its number fits nowhere
)

// judge classifies a packet against the expected number.
func (s *sequence) judge(pkt *Packet) arrival {
	if !s.started {
		return arrivalRestart
	}
	ahead := int(int16(pkt.Seq - s.next))
	switch {
	case ahead > maxDropout || ahead < -maxMisorder:
		// RFC 3550 appendix A.1: two in a row prove that the sender restarted; one alone proves nothing.
		if s.doubt && pkt.Seq == s.suspect {
			return arrivalRestart
		}
		s.doubt, s.suspect = true, pkt.Seq+1
		return arrivalWild
	case ahead < 0:
		return arrivalLate
	case s.held && pkt.Seq == s.waiting.Seq:
		return arrivalLate
	case ahead > 0 && ahead <= maxWait && !s.held && !pkt.Event:
		return arrivalHold
	}
	return arrivalPlay
}

// hold copies a packet, whose payload has at most maxPayload bytes.
func (s *sequence) hold(pkt *Packet) {
	s.held = true
	s.waiting = *pkt
	if s.buf == nil {
		s.buf = make([]byte, maxPayload)
	}
	s.waiting.Payload = s.buf[:copy(s.buf, pkt.Payload)]
}

// played notes that pkt was played.
func (s *sequence) played(seq uint16) {
	s.started, s.doubt = true, false
	s.next = seq + 1
}

// restart forgets the stream and what it held.
func (s *sequence) restart() {
	s.started, s.doubt, s.held = false, false, false
}
