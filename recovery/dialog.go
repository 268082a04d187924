package recovery

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Message is one captured SIP message.
type Message struct {
	Time        time.Time
	Source      netip.AddrPort
	Destination netip.AddrPort
	Raw         string
}

// Evidence is what is known about one dialog. The order of Messages says nothing: neither arrival nor time is the order of events.
type Evidence struct {
	CallID   string
	Node     []netip.AddrPort // the SIP addresses of the farm node that held it last; port 0 is any
	Farm     []netip.AddrPort // of the other farm nodes: one that has spoken with the same tag held the dialog before, or was to hold it next
	Messages []Message
	Role     string // as the call's record has it: bridge.LegIn, bridge.LegOut; "" is not known
	URI      string // that the node called, as the call's record has it; "" is not known
	Lossy    bool   // some may be missing: a hole in the numbers is a refusal, and the next CSeq and SDP version keep a distance
}

// Dialog is one side of a SIP dialog as the dead node held it.
type Dialog struct {
	CallID     string
	Role       string // bridge.LegIn: the node had received the INVITE
	Local      Party  // the node's side
	Remote     Party  // the far end
	CSeq       uint32 // of the next request of the node
	RemoteCSeq uint32 // the highest that the node has answered; 0: none
	Routes     []string
	Target     string // the far end's Contact
	SDPSession uint64 // of the node's own session description; 0: not known
	SDPVersion uint64 // of the next one
	Pending    bool   // an INVITE of the node has no answer: 500 is to be expected until it has one (RFC 3261 section 14.2)
}

// Party is one side's identity.
type Party struct{ Display, URI, Tag string }

// Reason says why there is no dialog to recover.
type Reason string

// The reasons.
const (
	ReasonNoMessages  Reason = "no_messages"  // nothing of this Call-ID passed the node
	ReasonNoInvite    Reason = "no_invite"    // its beginning is not in the capture
	ReasonDamaged     Reason = "damaged"      // a message between node and edge cannot be read
	ReasonUnanswered  Reason = "unanswered"   // no 2xx: still ringing
	ReasonCancelled   Reason = "cancelled"    // by CANCEL or 487
	ReasonRejected    Reason = "rejected"     // by another final answer
	ReasonUnconfirmed Reason = "unconfirmed"  // answered, and no ACK yet
	ReasonEnded       Reason = "ended"        // a BYE is on the wire
	ReasonAmbiguous   Reason = "ambiguous"    // more than one dialog fits
	ReasonConflict    Reason = "conflict"     // two copies of one message differ: one of them is forged or damaged
	ReasonHole        Reason = "hole"         // a request is missing from a capture that may lose messages
	ReasonTarget      Reason = "target"       // the far end has no SIP address
	ReasonCSeq        Reason = "cseq"         // no number is left
	ReasonTooMany     Reason = "too_many"     // more messages than a dialog can have
	ReasonRecord      Reason = "other_record" // the store's record of the leg says otherwise
)

// Refusal is the error of a dialog that is not recovered.
type Refusal struct {
	Reason Reason
	Detail string
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// Chosen by us.
const (
	maxMessages = 20000 // of one dialog; a day with session timers of 90 s has 8000
	lossyCSeq   = 100   // what may be missing at a capture's end. A far end takes any higher number (RFC 3261 section 12.2.2)
	lossySDP    = 100   // the same for the version of the session description
	lossyFirst  = 32768 // where no request of the node is left: pjsip begins at up to 0x7fff (pjsip_dlg_create_uas_and_inc_lock in sip_dialog.c)
	maxCSeq     = 1<<31 - 1000
)

// Rebuild makes the dialog from the messages, or says why not. It is pure, and the order of the messages has no influence.
//
// Which side is local is told by the node's address, and after that by the tags; never by who spoke last.
//
// A dialog that is known and cannot go on (ReasonUnconfirmed, ReasonHole) comes with the refusal: it can be ended.
func Rebuild(ev Evidence) (Dialog, error) {
	if len(ev.Messages) > maxMessages {
		return Dialog{}, refuse(ReasonTooMany, "%d messages, allowed are %d", len(ev.Messages), maxMessages)
	}
	seen, err := read(ev)
	if err != nil {
		return Dialog{}, err
	}
	b := &builder{ev: ev, seen: seen}
	if err := b.begin(); err != nil {
		return Dialog{}, err
	}
	if err := b.answer(); err != nil {
		return Dialog{}, err
	}
	if err := b.confirm(); err != nil {
		_ = b.numbers()
		return b.d, err
	}
	if err := b.numbers(); err != nil {
		return b.d, err
	}
	if err := b.refresh(); err != nil {
		return Dialog{}, err
	}
	b.description()
	return b.d, nil
}

// Variables are what the patched Asterisk reads (asterisk-patch/README.md). FROM is the node's side, whoever had called.
func (d Dialog) Variables() map[string]string {
	v := map[string]string{
		"FROM_DISPLAY": d.Local.Display, "FROM_URI": d.Local.URI, "FROM_TAG": d.Local.Tag,
		"TO_DISPLAY": d.Remote.Display, "TO_URI": d.Remote.URI, "TO_TAG": d.Remote.Tag,
		"CALL-ID": d.CallID, "CSEQ": strconv.FormatUint(uint64(d.CSeq), 10), "REQUEST_URI": d.Target, "ROUTES": strings.Join(d.Routes, ","),
	}
	if d.RemoteCSeq != 0 {
		v["REMOTE_CSEQ"] = strconv.FormatUint(uint64(d.RemoteCSeq), 10)
	}
	const max32 = 1<<32 - 1 // PJSIP keeps both in 32 bits
	if d.SDPSession != 0 && d.SDPSession <= max32 && d.SDPVersion <= max32 {
		v["SDP_SESSION"] = strconv.FormatUint(d.SDPSession, 10)
		v["SDP_VERSION"] = strconv.FormatUint(d.SDPVersion, 10)
	}
	out := make(map[string]string, len(v))
	for name, value := range v {
		if value != "" || name == "ROUTES" { // an empty route set is one, too: the embedded farm would go by its edge
			out["PJSIP_RECOVERY_"+name] = value
		}
	}
	return out
}
