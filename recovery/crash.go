package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"rtcedge/bridge"
)

// Buckets of the store that recovery writes.
const (
	BucketCrashes   = "crashes"    // Crash without its legs, by crashKey
	BucketCrashLegs = "crash_legs" // LegReport, by crashKey and a number: a value of the store has a limit, a node's calls have none
	BucketClaims    = "recoveries" // claim, by the dialog's SIP Call-ID, while the dialog is being recovered
)

// Crash is the death of one node and what was done about it. It is created by compare-and-set; the controller that holds its lease recovers,
// all others read.
type Crash struct {
	Node       bridge.NodeID `json:"node"`
	Epoch      string        `json:"epoch"`
	Number     int           `json:"number,omitzero"` // of the deaths of this epoch, from 0: a process that stood still and went on may die again
	SIP        string        `json:"sip,omitempty"`
	Reason     string        `json:"reason"`
	Ended      bool          `json:"ended,omitempty"`   // nobody is behind its ports any more, for whatever reason
	Stopped    bool          `json:"stopped,omitempty"` // and it left no call: it was stopped in order, or had none (B45)
	Since      time.Time     `json:"since"`             // first bad sign
	Detected   time.Time     `json:"detected"`          // verdict
	Done       time.Time     `json:"done,omitzero"`     // no call is left to do
	Closed     time.Time     `json:"closed,omitzero"`   // and none came late
	Returned   time.Time     `json:"returned,omitzero"` // the same process went on
	Fenced     time.Time     `json:"fenced,omitzero"`   // the edges were told to keep the node out
	Freed      time.Time     `json:"freed,omitzero"`    // the node was let in again
	Settled    time.Time     `json:"settled,omitzero"`  // and every edge knows: until then its fence is looked after
	Controller string        `json:"controller"`        // who recovers
	Taken      int           `json:"taken,omitzero"`    // how often another controller took over from one that was silent

	Results map[string]int `json:"results,omitempty"` // legs by result; in the record from Done on

	ID    string      `json:"id,omitempty"`    // the key of its record
	Steps []Step      `json:"steps,omitempty"` // what was done for the crash as a whole; these and the legs have a bucket of their own
	Legs  []LegReport `json:"legs,omitempty"`
}

// State says in a word how far it is.
func (c *Crash) State() string {
	switch {
	case c.Stopped:
		return "stopped"
	case !c.Closed.IsZero():
		return "closed"
	case !c.Done.IsZero():
		return "done"
	}
	return "recovering"
}

// Fence says in a word whether the node is kept out for it.
func (c *Crash) Fence() string {
	switch {
	case c.Fenced.IsZero():
		return "none"
	case c.Freed.IsZero():
		return "up"
	}
	return "down"
}

// Timeline is what was done for the crash as a whole, with what its record says, in order.
func (c *Crash) Timeline() []Step {
	out := slices.Concat([]Step{{Name: "first sign", At: c.Since, Reason: c.Reason}, {Name: "verdict", At: c.Detected}}, c.Steps)
	for _, s := range []Step{{Name: "done", At: c.Done}, {Name: "closed", At: c.Closed}, {Name: "returned", At: c.Returned},
		{Name: "let in again", At: c.Freed}, {Name: "settled", At: c.Settled}} {
		if !s.At.IsZero() {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Step) int { return a.At.Compare(b.At) })
	return out
}

// LegReport is the timeline of one leg. Its Result is one of the six below.
type LegReport struct {
	Call      string        `json:"call"`
	Leg       string        `json:"leg"`
	SIPCallID string        `json:"sip_call_id"`
	Target    bridge.NodeID `json:"target,omitempty"`
	Result    string        `json:"result"`
	Reason    string        `json:"reason,omitempty"`
	Steps     []Step        `json:"steps"`
}

// Step is something that was done for a leg, or for the crash as a whole. What it came to is said where that can be one thing or another: Result is a word, a
// node or a SIP status, Reason says why.
type Step struct {
	Name   string    `json:"name"`
	At     time.Time `json:"at"`
	Result string    `json:"result,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// Steps that others look for by their name.
const (
	StepRTP   = "rtp"    // the farm is heard again
	StepNoRTP = "no rtp" // it was listened for in vain

	stepInvite  = "invite"  // the new node was asked
	stepJoin    = "join"    // the two of a call hear each other directly
	stepComfort = "comfort" // noise in place of silence
)

// Results of a leg.
const (
	ResultPending   = "pending"
	ResultRecovered = "recovered"
	ResultRefused   = "refused" // there is no dialog to go on with, or not enough is known of it; the far end gets a BYE where it is known
	ResultClosed    = "closed"  // the far end has no such dialog any more
	ResultKept      = "kept"    // its node went on before another one had it
	ResultFailed    = "failed"  // the far end got a BYE
)

// Reported tells whether nothing is left to do, and it is written down of each leg that is back whether it was heard.
func (c *Crash) Reported() bool {
	waits := func(l LegReport) bool {
		return l.Result == ResultRecovered && !slices.ContainsFunc(l.Steps, func(s Step) bool { return s.Name == StepRTP || s.Name == StepNoRTP })
	}
	return !c.Closed.IsZero() || !c.Done.IsZero() && !slices.ContainsFunc(c.Legs, waits)
}

// crashKey is the key of a death.
func crashKey(node bridge.NodeID, epoch string, number int) string {
	key := string(node) + "." + epoch
	if number > 0 {
		key += "~" + strconv.Itoa(number)
	}
	return key
}

func (d *Death) key() string { return crashKey(d.Node, d.Epoch, d.Number) }

func (c *Crash) key() string { return crashKey(c.Node, c.Epoch, c.Number) }

var errNoCrash = errors.New("its record is gone")

// mark changes a crash: closed or done.
func mark(ctx context.Context, b book, key string, closed, stopped bool, results map[string]int) error {
	known := false
	err := b.change(ctx, key, func(c *Crash, there bool) bool {
		c.Results, c.Stopped = results, stopped
		if known = there; closed {
			c.Closed = time.Now()
		} else {
			c.Done = time.Now()
		}
		return there
	})
	if err == nil && !known {
		return fmt.Errorf("crash %s: %w", key, errNoCrash)
	}
	return err
}

// begin writes the crash of a death, or goes on with it: then it was begun before, by a controller that fell silent (taken) or by ourselves, before we lost
// its lease. The caller has the lease.
func begin(ctx context.Context, b book, d Death, controller string) (crash Crash, before, taken bool, err error) {
	err = b.change(ctx, d.key(), func(c *Crash, there bool) bool {
		taken, before = false, there
		if !there {
			*c = Crash{Node: d.Node, Epoch: d.Epoch, Number: d.Number, SIP: d.SIP, Reason: d.Reason, Ended: d.Ended, Since: d.Since, Detected: d.At, Controller: controller}
		} else if taken = c.Closed.IsZero() && c.Controller != controller; taken {
			c.Controller = controller
			c.Taken++
		}
		crash = *c
		return !there || taken
	})
	return crash, before, taken, err
}
