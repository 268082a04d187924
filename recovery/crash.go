package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
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
	Since      time.Time     `json:"since"`             // first bad sign
	Detected   time.Time     `json:"detected"`          // verdict
	Done       time.Time     `json:"done,omitzero"`     // no call is left to do
	Closed     time.Time     `json:"closed,omitzero"`   // and none came late
	Returned   time.Time     `json:"returned,omitzero"` // the same process went on
	Controller string        `json:"controller"`        // who recovers
	Taken      int           `json:"taken,omitzero"`    // how often another controller took over from one that was silent

	Results map[string]int `json:"results,omitempty"` // legs by result; in the record from Done on

	ID    string      `json:"id,omitempty"`    // the key of its record
	Steps []Step      `json:"steps,omitempty"` // what was done for the crash as a whole; these and the legs have a bucket of their own
	Legs  []LegReport `json:"legs,omitempty"`
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

	stepJoin    = "join"    // the two of a call hear each other directly
	stepComfort = "comfort" // noise in place of silence
)

// Results of a leg.
const (
	ResultPending   = "pending"
	ResultRecovered = "recovered"
	ResultRefused   = "refused" // there is no dialog to go on with, or not enough is known of it
	ResultClosed    = "closed"  // the far end has no such dialog any more
	ResultKept      = "kept"    // its node went on before another one had it
	ResultFailed    = "failed"  // the far end got a BYE
)

// crashKey is the key of a death.
func crashKey(node bridge.NodeID, epoch string, number int) string {
	key := string(node) + "." + epoch
	if number > 0 {
		key += "~" + strconv.Itoa(number)
	}
	return key
}

func (d *Death) key() string { return crashKey(d.Node, d.Epoch, d.Number) }

// number says which death of its epoch d is: another one than those after which the process went on.
func number(ctx context.Context, b book, d *Death) error {
	for ; ; d.Number++ {
		c, err := b.read(ctx, d.key())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || c.Returned.IsZero() || !d.Since.After(c.Returned) {
			return nil
		}
	}
}

// returned notes that a process that was dead went on, and tells whether it had been dead at all.
func returned(ctx context.Context, b book, node bridge.NodeID, epoch string) (was bool, err error) {
	for n := 0; ; n++ {
		open := false
		err := b.change(ctx, crashKey(node, epoch, n), func(c *Crash, there bool) bool {
			open = there
			if !there || !c.Returned.IsZero() {
				return false
			}
			c.Returned = time.Now()
			return true
		})
		if err != nil || !open {
			return n > 0, err
		}
	}
}

var errNoCrash = errors.New("its record is gone")

// mark changes a crash: closed or done.
func mark(ctx context.Context, b book, key string, closed bool, results map[string]int) error {
	known := false
	err := b.change(ctx, key, func(c *Crash, there bool) bool {
		c.Results = results
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
			*c = Crash{Node: d.Node, Epoch: d.Epoch, Number: d.Number, SIP: d.SIP, Reason: d.Reason, Since: d.Since, Detected: d.At, Controller: controller}
		} else if taken = c.Closed.IsZero() && c.Controller != controller; taken {
			c.Controller = controller
			c.Taken++
		}
		crash = *c
		return !there || taken
	})
	return crash, before, taken, err
}

// readCrashes reads all crashes with their legs, the oldest first.
func readCrashes(ctx context.Context, b buckets) ([]Crash, error) {
	out, keys, err := b.crashes.all(ctx)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if out[i].Steps, out[i].Legs, err = readReport(ctx, b.legs, key); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b Crash) int { return a.Detected.Compare(b.Detected) })
	return out, nil
}

// legKey is the key of a leg's report. Each controller that takes a crash over has its own: what a former one still writes, if it only stood still, is older.
func legKey(crash string, taken, n int) string { return fmt.Sprintf("%s.%04d.%06d", crash, taken, n) }

// stepsKey is the key of the crash's own steps, in the same manner.
func stepsKey(crash string, taken int) string { return fmt.Sprintf("%s.%04d.crash", crash, taken) }

// readReport reads the steps of a crash, and its legs in the order in which they were found.
func readReport(ctx context.Context, b *store.Bucket, crash string) (steps []Step, legs []LegReport, err error) {
	entries, err := b.List(ctx, crash+".")
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(entries, func(a, b store.Entry) int { return cmp.Compare(a.Key, b.Key) })
	at := map[legName]int{}
	for _, e := range entries {
		if strings.HasSuffix(e.Key, ".crash") {
			steps = nil // who took over has them all
			if err := json.Unmarshal(e.Value, &steps); err != nil {
				return nil, nil, fmt.Errorf("steps of crash %s: %w", e.Key, err)
			}
			continue
		}
		var l LegReport
		if err := json.Unmarshal(e.Value, &l); err != nil {
			return nil, nil, fmt.Errorf("crash leg %s: %w", e.Key, err)
		}
		name := legName{l.Call, l.SIPCallID}
		n, known := at[name]
		if known {
			legs[n] = l
			continue
		}
		at[name] = len(legs)
		legs = append(legs, l)
	}
	return steps, legs, nil
}
