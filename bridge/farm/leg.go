package farm

import (
	"strconv"
	"sync/atomic"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// legState is how far a leg has come.
type legState uint8

const (
	legCalling  legState = iota // INVITE in or out, no final response
	legRinging                  // 180 went in or out
	legUp                       // 2xx
	legEnding                   // our BYE or CANCEL is on its way
	legEnded                    // nothing is left but the answers of sipgo's transactions to retransmissions
	legUnopened                 // made, but not yet in a dialog
)

// leg is the SIP side of a call: a dialog and its media. It is owned by the call's goroutine but for ack and what is constant.
type leg struct {
	// Constant after it was made.
	id, name   string
	protocolID string // Call-ID when the channel was made
	call       *call
	created    time.Time
	incoming   bool // the far end sent the INVITE
	stream     *stream

	d     dialog
	neg   negotiation
	state legState
	held  bool // the far end does not want to hear us

	invite  *sipmsg.Request  // the INVITE that made the leg, as received or as a copy of what was sent
	tx      *sipmsg.ServerTx // of an incoming one, until it has a final response
	unacked unacked          // a 2xx of ours
	bye     bool             // BYE is to be sent when the ACK is there
	cause   int              // Q.850, of the BYE

	// Of an outgoing INVITE.
	early  bool          // a provisional response came: CANCEL is allowed (RFC 3261, section 9.1)
	cancel bool          // is to be cancelled
	giveUp time.Time     // when a cancelled INVITE is forgotten
	forget chan struct{} // closed to end the INVITE's transaction
	ack    atomic.Pointer[sipmsg.Request]
}

// unacked is a 2xx of ours whose ACK is awaited; sending it again is the user agent's duty (RFC 3261, section 13.3.1.4).
type unacked struct {
	tx    *sipmsg.ServerTx
	res   *sipmsg.Response
	seq   uint32
	again time.Time
	until time.Time
	step  time.Duration
	offer bool // it carries our offer, the ACK brings the answer
}

func (u *unacked) pending() bool { return u.tx != nil }

// newLeg makes a leg with its port pair; the reader runs from now on, and drops everything until an SDP is known.
func (c *call) newLeg(incoming bool, number string) (*leg, error) {
	f := c.farm
	s, err := newStream(f.rtpAddr, f.cfg.PortMin, f.cfg.PortMax)
	if err != nil {
		return nil, err
	}
	serial := f.serial.Add(1)
	l := &leg{
		id: f.prefix + strconv.FormatUint(serial, 10), name: channelName(number, serial),
		call: c, created: time.Now(), incoming: incoming, stream: s,
		state: legUnopened, forget: make(chan struct{}), cause: causeNormal,
	}
	l.neg = negotiation{addr: f.rtpAddr, port: s.port(), id: uint64(l.created.UnixMicro())}
	f.wg.Go(s.read)
	c.leg = l
	return l, nil
}

// open enters the dialog into the farm's table: from now on its requests find the leg.
func (l *leg) open() {
	l.state = legCalling
	f := l.call.farm
	f.mu.Lock()
	f.dialogs[l.d.id()] = l
	f.mu.Unlock()
}

// silence takes the leg out of everything that receives media.
func (l *leg) silence() { l.stream.setSink(nil) }

// end lets everything of the leg go.
func (l *leg) end() {
	if l.state == legEnded {
		return
	}
	l.silence()
	l.stream.close()
	l.unacked = unacked{}
	opened := l.state != legUnopened
	l.state = legEnded
	if opened {
		f := l.call.farm
		f.mu.Lock()
		delete(f.dialogs, l.d.id())
		f.mu.Unlock()
	}
}
