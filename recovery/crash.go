package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	Legs       []LegReport   `json:"legs,omitempty"`
}

// LegReport is the timeline of one leg.
type LegReport struct {
	Call      string        `json:"call"`
	Leg       string        `json:"leg"`
	SIPCallID string        `json:"sip_call_id"`
	Target    bridge.NodeID `json:"target,omitempty"`
	Result    string        `json:"result"` // recovered, refused, failed, pending
	Reason    string        `json:"reason,omitempty"`
	Steps     []Step        `json:"steps"`
}

// Step is something that was done for a leg.
type Step struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

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
func mark(ctx context.Context, b book, key string, closed bool) error {
	known := false
	err := b.change(ctx, key, func(c *Crash, there bool) bool {
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
		if out[i].Legs, err = readLegs(ctx, b.legs, key); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b Crash) int { return a.Detected.Compare(b.Detected) })
	return out, nil
}

// legKey is the key of a leg's report. Each controller that takes a crash over has its own: what a former one still writes, if it only stood still, is older.
func legKey(crash string, taken, n int) string { return fmt.Sprintf("%s.%04d.%06d", crash, taken, n) }

// readLegs reads the legs of a crash in the order in which they were found.
func readLegs(ctx context.Context, b *store.Bucket, crash string) ([]LegReport, error) {
	entries, err := b.List(ctx, crash+".")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b store.Entry) int { return cmp.Compare(a.Key, b.Key) })
	var out []LegReport
	at := map[string]int{}
	for _, e := range entries {
		var l LegReport
		if err := json.Unmarshal(e.Value, &l); err != nil {
			return nil, fmt.Errorf("crash leg %s: %w", e.Key, err)
		}
		id := l.Call + " " + l.SIPCallID
		n, known := at[id]
		if known {
			out[n] = l
			continue
		}
		at[id] = len(out)
		out = append(out, l)
	}
	return out, nil
}
