package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// BucketCrashes keeps one Crash per death of a node, under its key, with the timelines of its calls.
const BucketCrashes = "crashes"

// Crash is the death of one node and what was done about it. The controller whose Create of it succeeds recovers; all others read.
type Crash struct {
	Node       bridge.NodeID `json:"node"`
	Epoch      string        `json:"epoch"`
	Reason     string        `json:"reason"`
	Since      time.Time     `json:"since"`          // first bad sign
	Detected   time.Time     `json:"detected"`       // verdict
	Done       time.Time     `json:"done,omitzero"`  // no call is left to do
	Controller string        `json:"controller"`     // who recovers
	Taken      int           `json:"taken,omitzero"` // how often another controller took over from one that was silent
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

// crashKey is the key of a death: a node dies once per epoch.
func crashKey(node bridge.NodeID, epoch string) string { return string(node) + "." + epoch }

// claim writes the crash of a death. won tells whether we are the one that recovers; if not, c is what the winner wrote.
func claim(ctx context.Context, b *store.Bucket, d Death, controller string) (c Crash, won bool, err error) {
	c = Crash{Node: d.Node, Epoch: d.Epoch, Reason: d.Reason, Since: d.Since, Detected: d.At, Controller: controller}
	value, err := json.Marshal(c)
	if err != nil {
		return c, false, err
	}
	key := crashKey(d.Node, d.Epoch)
	if _, err = b.Create(ctx, key, value); err == nil {
		return c, true, nil
	}
	if !errors.Is(err, store.ErrExists) {
		return c, false, err
	}
	e, err := b.Get(ctx, key)
	if err != nil {
		return c, false, err
	}
	if err := json.Unmarshal(e.Value, &c); err != nil {
		return c, false, fmt.Errorf("crash %s: %w", key, err)
	}
	return c, false, nil
}
