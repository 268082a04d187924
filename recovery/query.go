package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// Chosen by us.
const (
	defaultCrashes = 50
	MaxCrashes     = 1000 // that one Query gets
)

// Query says which crashes the operator wants to read. The zero value is the newest ones.
type Query struct {
	ID    string        // "": any
	Node  bridge.NodeID // "": any
	Call  string        // "": any; else legs with this in their Call-ID, call or name, in lower case, and the crashes that have one
	Limit int           // the newest of them; default 50, at most MaxCrashes
	Brief bool          // without the legs, of which Results tells
}

// Crashes lists what the store knows, the oldest first.
func (r *Recoverer) Crashes(ctx context.Context, q Query) ([]Crash, error) {
	b, err := r.buckets(ctx)
	if err != nil {
		return nil, err
	}
	return readCrashes(ctx, b, q)
}

func readCrashes(ctx context.Context, b buckets, q Query) ([]Crash, error) {
	list, _, err := b.crashes.all(ctx)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(c Crash) bool { return q.ID != "" && c.ID != q.ID || q.Node != "" && c.Node != q.Node })
	slices.SortFunc(list, func(a, b Crash) int { return cmp.Or(a.Detected.Compare(b.Detected), cmp.Compare(a.ID, b.ID)) })
	if limit := min(cmp.Or(q.Limit, defaultCrashes), MaxCrashes); len(list) > limit {
		list = list[len(list)-limit:]
	}
	for i := range list {
		c := &list[i]
		if q.Brief && q.Call == "" && c.Results != nil {
			continue
		}
		if c.Steps, c.Legs, err = readReport(ctx, b.legs, c.ID); err != nil {
			return nil, err
		}
		if c.Results == nil {
			c.Results = countResults(c.Legs)
		}
		c.Legs = slices.DeleteFunc(c.Legs, func(l LegReport) bool { return !l.about(q.Call) })
		if q.Call != "" && len(c.Legs) == 0 {
			c.ID = ""
		}
		if q.Brief {
			c.Steps, c.Legs = nil, nil
		}
	}
	return slices.DeleteFunc(list, func(c Crash) bool { return c.ID == "" }), nil
}

// about tells whether a leg has a text in one of its names.
func (l *LegReport) about(text string) bool {
	return slices.ContainsFunc([]string{l.SIPCallID, l.Call, l.Leg}, func(name string) bool { return strings.Contains(strings.ToLower(name), text) })
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
