package recovery

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rtcedge/recovery/homer"
)

// question is one call of Dialogs or Fresh. Its functions occur in the order in which a Call-ID meets them.
type question struct {
	c       *Collector
	node    netip.AddrPort
	others  []netip.AddrPort
	begin   time.Time
	records map[string]Asked // by Call-ID
	ids     []string         // in the order of the legs
	kept    map[string]kept  // what the own capture has
}

// kept are the messages of a Call-ID, not older than their revision.
type kept struct {
	messages []Message
	revision uint64
}

func newQuestion(c *Collector, node netip.AddrPort, legs []Asked) *question {
	q := &question{c: c, node: node, others: c.others(node), begin: time.Now(), records: make(map[string]Asked, len(legs)), kept: map[string]kept{}}
	for _, l := range legs {
		if _, twice := q.records[l.CallID]; !twice {
			q.ids = append(q.ids, l.CallID)
		}
		q.records[l.CallID] = l
	}
	return q
}

// near asks the own capture. What it is sure of is handed on at once; where only the ACK is missing it may be on its way. left are the Call-IDs of which
// HOMER may know more.
func (q *question) near(ctx context.Context, yield func(map[string]Rebuilt) bool) (left []string, more bool) {
	if q.c.cfg.Own == nil {
		return q.ids, yield(nil)
	}
	for todo := q.ids; ; {
		sure := map[string]Rebuilt{}
		var soon []string
		err := q.turn(ctx, q.c.ownTurn, func() error {
			if err := q.look(ctx, todo); err != nil {
				return err
			}
			last := ctx.Err() != nil || time.Since(q.begin) > q.c.cfg.Wait
			for _, id := range todo {
				switch b, why := q.rebuild(id, nil, false); {
				case why == ReasonUnconfirmed && !last:
					soon = append(soon, id)
				case q.c.cfg.Homer != nil && lacking(why):
					left = append(left, id)
				default:
					sure[id] = b
				}
			}
			return nil
		})
		if err != nil {
			q.c.cfg.Logger.Warn("own capture does not answer", "err", err)
			for _, id := range todo {
				sure[id] = Rebuilt{Err: refuse(ReasonNoMessages, "own capture: %v", err)}
			}
			if q.c.cfg.Homer != nil {
				left, sure = append(left, todo...), nil
			}
		}
		if !yield(sure) {
			return nil, false
		}
		if todo = soon; len(todo) == 0 {
			return left, true
		}
		sleep(ctx, askEvery)
	}
}

// lacking tells of a refusal that more messages can change. The call's record says that the leg is up: what the own capture takes for a call that was
// never answered has lost the answer.
func lacking(why Reason) bool { return why != "" && why != ReasonEnded && why != ReasonConflict }

// far asks HOMER for the rest, behind its lag: a BYE may not be visible before, and the own capture may have got it meanwhile.
func (q *question) far(ctx context.Context, ids []string, yield func(map[string]Rebuilt) bool) {
	sleep(ctx, max(q.c.cfg.Lag-time.Since(q.begin), 0))
	var found map[string][]Message
	var err error
	for begin := time.Now(); ; {
		err = q.turn(ctx, q.c.homerTurn, func() (err error) {
			ask, cancel := context.WithTimeout(ctx, homerTries)
			defer cancel()
			found, err = gather(ask, q.c.cfg.Homer, ids, q.since(ids))
			return err
		})
		// A wrong token is none later, either.
		if err == nil || errors.Is(err, homer.ErrToken) || time.Since(begin) >= homerTries || !sleep(ctx, homerPause) {
			break
		}
	}
	if err != nil {
		q.c.cfg.Logger.Warn("HOMER does not answer", "dialogs", len(ids), "err", err)
	}
	out := make(map[string]Rebuilt, len(ids))
	_ = q.turn(ctx, q.c.ownTurn, func() error { // without a turn ctx is over, and nobody reads
		if q.c.cfg.Own != nil {
			if err := q.look(ctx, ids); err != nil {
				q.c.cfg.Logger.Warn("own capture does not answer", "err", err)
			}
		}
		for _, id := range ids {
			b, why := q.rebuild(id, found[id], err == nil)
			switch {
			case err == nil:
				q.c.tell(id, found[id])
			case b.Err != nil:
				b.Err = refuse(why, "%s; HOMER: %v", strings.TrimPrefix(b.Err.Error(), string(why)+": "), err)
			}
			out[id] = b
		}
		return nil
	})
	yield(out)
}

// since is how far back HOMER has to look: zero if a call's age is not known.
func (q *question) since(ids []string) time.Time {
	var oldest time.Time
	for n, id := range ids {
		at := q.records[id].Since
		if at.IsZero() {
			return at
		}
		if n == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// turn bounds how many ask at a time, in the order in which they came.
func (q *question) turn(ctx context.Context, turns chan struct{}, f func() error) error {
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-turns }()
	return f()
}

// look reads the own capture.
func (q *question) look(ctx context.Context, ids []string) error {
	before := make([]uint64, len(ids))
	for i, id := range ids {
		before[i] = q.c.revision(id)
	}
	found, err := gather(ctx, q.c.cfg.Own, ids, time.Time{})
	if err != nil {
		return err
	}
	for i, id := range ids {
		q.kept[id] = kept{found[id], before[i]}
	}
	return nil
}

func gather(ctx context.Context, from Capture, ids []string, since time.Time) (map[string][]Message, error) {
	list, err := from.Messages(ctx, ids, since)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]Message, len(ids))
	for _, m := range list {
		out[m.CallID] = append(out[m.CallID], Message{Time: m.Time, Source: m.Source, Destination: m.Destination, Raw: m.Raw})
	}
	return out, nil
}

func (q *question) evidence(id string) Evidence {
	return Evidence{CallID: id, Node: []netip.AddrPort{q.node}, Farm: q.others, Role: q.records[id].Role, URI: q.records[id].URI, Messages: q.kept[id].messages}
}

// rebuild answers for one Call-ID by what was read, and by what HOMER told, and says the reason of a refusal.
func (q *question) rebuild(id string, told []Message, lossy bool) (b Rebuilt, why Reason) {
	ev := q.evidence(id)
	ev.Messages, ev.Lossy = slices.Concat(ev.Messages, told), lossy
	d, err := Rebuild(ev)
	if err != nil {
		if b, why = (Rebuilt{Err: err}), reasonOf(err); d.Local.Tag != "" {
			b.RequestURI, b.RemoteTag, b.CSeq, b.Variables = d.Target, d.Remote.Tag, d.CSeq, d.Variables()
		}
	} else {
		b = Rebuilt{Source: SourceOwn, RequestURI: d.Target, RemoteTag: d.Remote.Tag, CSeq: d.CSeq, Pending: d.Pending, Variables: d.Variables()}
		if lossy {
			b.Source = SourceHomer
		}
	}
	q.remember(id, b, d.Local.Tag)
	return b, why
}

func reasonOf(err error) Reason {
	if r := (*Refusal)(nil); errors.As(err, &r) {
		return r.Reason
	}
	return ReasonDamaged
}

// bye looks for the end of a dialog whose beginning is not at hand.
func (q *question) bye(id string) bool {
	q.c.mu.Lock()
	tag := q.c.known[id].local
	q.c.mu.Unlock()
	return saysBye(q.evidence(id), tag)
}
