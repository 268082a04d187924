package recovery

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"rtcedge/bridge"
)

// History tells what was captured of dialogs.
type History interface {
	// Dialogs rebuilds the dialogs that the farm node with the SIP address sip (udp:IP:PORT) had. There is one answer per Call-ID, in groups: what is at
	// hand comes at once, be it nothing, and what is on its way, or asked for elsewhere, when it is known. Many may ask at a time.
	Dialogs(ctx context.Context, sip string, legs []Asked) iter.Seq[map[string]Rebuilt]
	// Fresh rebuilds one again from what is at hand; ok is false if that says nothing.
	Fresh(ctx context.Context, sip string, leg Asked) (b Rebuilt, ok bool)
	// Final is the status of the final response to the farm's INVITE of a CSeq, if it was captured; of its repetition with a higher one, if there was any.
	Final(ctx context.Context, callID string, cseq uint32) (status int, ok bool)
}

// Asked is what the call's record says about a dialog.
type Asked struct {
	CallID string
	Role   string    // bridge.LegIn: the farm was called
	URI    string    // that the farm called; "" if it is not known
	Since  time.Time // when the call began; zero if it is not known
}

// Rebuilt is a dialog as another node can go on with it.
type Rebuilt struct {
	RequestURI string            // the far end's Contact
	RemoteTag  string            // the far end's tag, by which media knows its party
	CSeq       uint32            // of the INVITE to send
	Pending    bool              // an INVITE of the farm has no answer yet
	Variables  map[string]string // PJSIP_RECOVERY_*; with Err: the dialog is known well enough to be ended
	Source     string            // where the messages were captured: SourceOwn, SourceHomer
	Err        error             // why it cannot be rebuilt
}

// answerOf is the answer for one Call-ID.
func answerOf(groups iter.Seq[map[string]Rebuilt], callID string) (b Rebuilt, ok bool) {
	for group := range groups {
		if b, ok = group[callID]; ok {
			break
		}
	}
	return b, ok
}

// Sources of a dialog, for the report.
const (
	SourceOwn   = "own capture"
	SourceHomer = "HOMER"
)

// about is what the report says of it.
func (b Rebuilt) about() []string {
	if b.Err != nil {
		return []string{ResultRefused, b.Err.Error()}
	}
	return []string{b.Source}
}

// Farm is how recovery speaks to the nodes.
type Farm interface {
	// Healthy are the nodes of a role that take calls now.
	Healthy(role string) []bridge.NodeID
	// Unfit are the others of that role, each with its reason, for the report.
	Unfit(role string) map[bridge.NodeID]string
	// Alive tells whether a node, or whoever has its SIP address, is not dead as far as is known; sip may be empty.
	Alive(node bridge.NodeID, sip string) bool
	// Runs tells whether that very process of the node is not dead: another one has none of its calls.
	Runs(node bridge.NodeID, epoch string) bool
	// Watched tells whether it would be known if the node lived.
	Watched(node bridge.NodeID) bool
	// Originate lets a node send the INVITE; the channel rings when it returns, at best.
	Originate(ctx context.Context, node bridge.NodeID, c Channel) error
	// Exists tells whether the node still has the channel.
	Exists(ctx context.Context, node bridge.NodeID, channel string) (bool, error)
	// Hangup ends a channel. The patched node says BYE in the old dialog.
	Hangup(ctx context.Context, node bridge.NodeID, channel string) error
	// Clear ends the channels of a node that was dead and is not, all but those that are kept, and returns how many it found. They are gone soon: the next
	// call tells.
	Clear(ctx context.Context, node bridge.NodeID, kept func(channel string) bool) (ended int, err error)
}

// Channel is what a node is asked to place.
type Channel struct {
	ID        string
	Endpoint  string
	AppArgs   string
	Variables map[string]string
}

// Media bridges the gap for the ears; nil: nobody does.
type Media interface {
	// Join lets the public sides of two calls hear each other until their farm sides speak again. Once a call has had another answer than its end says
	// it is refused.
	Join(ctx context.Context, one, other MediaEnd) error
	// Unjoin ends that at once, on both sides. A call that is not joined, or not there, is no error.
	Unjoin(ctx context.Context, callID string) error
	// Comfort fills the silence of a call's public side while its farm side says nothing.
	Comfort(ctx context.Context, callID, tag string, on bool) error
	// Heard tells of a call's farm side: of the party that is not the tag's.
	Heard(ctx context.Context, callID, tag string) (Heard, error)
}

// MediaEnd is the public side of a call.
type MediaEnd struct {
	CallID, Tag string
	Answered    int64 // Heard.Answered
}

// Heard is what media knows of a call's farm side.
type Heard struct {
	Answered int64         // names the last answer
	Age      time.Duration // of that
	Since    time.Duration // since the first packet after it; negative: there was none
}

// Edge keeps a dead node's messages out; there may be several. Both may be said again, and change nothing then.
type Edge interface {
	Fence(ctx context.Context, sip string) error
	Unfence(ctx context.Context, sip string) error
	// Speak takes a message as if the node had sent it, to the edge's listener at where the message names none. It is an error where it names another edge.
	Speak(ctx context.Context, sip string, at netip.AddrPort, message string) error
	String() string // its name in log and report
}

// channelFor makes what the node is asked for: the contract with the bridge role is the id's rN and the arguments.
func channelFor(call *bridge.Call, leg *bridge.Leg, r Rebuilt, generation int) Channel {
	return Channel{
		ID:       bridge.BaseID(leg.ID) + "r" + strconv.Itoa(generation),
		Endpoint: "PJSIP/edge/" + withoutParameters(r.RequestURI),
		AppArgs:  "resume," + call.ID + "," + leg.ID, Variables: r.Variables,
	}
}

// withoutParameters is a URI that Asterisk can make a channel for. The one that the phone is asked with is in the variables, whole; here
// Asterisk would look for a transport of its own by the parameter, and with transport=ws it has none: no channel, no recovery.
func withoutParameters(uri string) string {
	user, host := bridge.SplitUser(uri)
	host, _, _ = strings.Cut(host, ";")
	host, _, _ = strings.Cut(host, "?")
	return user + host
}

// roleOf is the farm that a call lives on.
func roleOf(c *bridge.Call) string {
	if c.Conference != "" {
		return bridge.RoleConference
	}
	return bridge.RoleCall
}

// placeKey is what all legs of a call and all participants of a conference have in common.
func placeKey(c *bridge.Call) string {
	if c.Conference != "" {
		return "conference " + c.Conference
	}
	return c.ID
}

// choose picks the node by rendezvous hashing, so that all that have one key meet, while the calls of a dead node spread evenly. Nodes in avoid have
// failed for this call already; they are taken when no other is left.
func choose(key string, healthy, avoid []bridge.NodeID) (bridge.NodeID, bool) {
	left := slices.DeleteFunc(slices.Clone(healthy), func(n bridge.NodeID) bool { return slices.Contains(avoid, n) })
	if n, ok := bridge.Choose(key, left); ok {
		return n, true
	}
	return bridge.Choose(key, healthy)
}
