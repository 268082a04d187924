package recovery

import (
	"context"
	"slices"
	"sync"
	"time"

	"rtcedge/bridge"
)

// pairs are the calls whose two are joined directly while their node is away.
type pairs struct {
	mu      sync.Mutex               // guards the rest
	open    map[string]chan struct{} // by call; closed when it is known whether its two are joined
	invited map[string]bool          // Call-IDs whose INVITE may have left
	joined  map[string]bool          // Call-IDs
}

func newPairs() pairs {
	return pairs{open: map[string]chan struct{}{}, invited: map[string]bool{}, joined: map[string]bool{}}
}

// expect is told of the legs that are soothed together.
func (p *pairs) expect(batch []job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range batch {
		if id := batch[i].call.ID; p.open[id] == nil && pairable(&batch[i]) {
			p.open[id] = make(chan struct{})
		}
	}
}

func pairable(j *job) bool {
	return j.call.Conference == "" && j.call.Up() == 2 && !j.leg.Held && !j.leg.Muted && j.leg.Waiting == ""
}

// joinWait is how long an INVITE waits for the join of its two, which takes media some milliseconds. Chosen by us.
const joinWait = 150 * time.Millisecond

// wait returns when the INVITE of a leg may leave. A join that comes behind it would take the new answer for the old one, and keep the new node out.
func (p *pairs) wait(ctx context.Context, j *job) {
	p.mu.Lock()
	settled := p.open[j.call.ID]
	p.mu.Unlock()
	if settled != nil {
		select {
		case <-settled:
		case <-time.After(joinWait):
		case <-ctx.Done():
		}
	}
}

// invite notes that an INVITE leaves, and tells whether the leg is joined.
func (p *pairs) invite(id string) (joined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.invited[id] = true
	return p.joined[id]
}

// settle notes what became of a join. late tells that an INVITE was faster.
func (p *pairs) settle(call string, ok bool, ids ...string) (late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := p.open[call]; ch != nil {
		close(ch)
		delete(p.open, call)
	}
	for _, id := range ids {
		late = late || p.invited[id]
	}
	for _, id := range ids {
		if ok && !late {
			p.joined[id] = true
		}
	}
	return ok && late
}

// soothe joins the two of a call directly and gives all others comfort noise, until their farm sides speak again. It is best effort: it fails
// where the two are at different media nodes.
func (w *rescue) soothe(ctx context.Context, batch []job, dialogs map[string]Rebuilt) {
	media := w.r.cfg.Media
	if media == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	limit := make(chan struct{}, 8)
	do := func(f func()) {
		limit <- struct{}{}
		all.Go(func() { defer func() { <-limit }(); f() })
	}
	comfort := func(j job) {
		w.rep.step(w.rep.place(&j), stepComfort, about("on", media.Comfort(ctx, j.leg.SIPCallID, dialogs[j.leg.SIPCallID].RemoteTag, true))...)
	}
	first := map[string]job{}
	var alone []job
	var both [][2]job
	for _, j := range batch {
		b, ok := dialogs[j.leg.SIPCallID]
		if !ok || b.Err != nil {
			continue
		}
		other, paired := first[j.call.ID]
		switch {
		case !pairable(&j):
			alone = append(alone, j)
		case !paired:
			first[j.call.ID] = j
		default:
			delete(first, j.call.ID)
			both = append(both, [2]job{other, j})
		}
	}
	for _, j := range first { // nobody waits for them
		w.pairs.settle(j.call.ID, false)
		alone = append(alone, j)
	}
	for _, p := range both {
		do(func() {
			a, b := p[0].leg.SIPCallID, p[1].leg.SIPCallID
			err := media.Join(ctx, a, dialogs[a].RemoteTag, b, dialogs[b].RemoteTag)
			said := about("joined", err)
			if w.pairs.settle(p[0].call.ID, err == nil, a, b) {
				_ = media.Unjoin(ctx, a)
				said = []string{"undone", "an INVITE was faster"}
			}
			for i := range p {
				w.rep.step(w.rep.place(&p[i]), stepJoin, said...)
				if err != nil {
					comfort(p[i])
				}
			}
		})
	}
	for _, j := range alone {
		do(func() { comfort(j) })
	}
}

// about is what the report says of a command.
func about(done string, err error) []string {
	if err != nil {
		return []string{"failed", err.Error()}
	}
	return []string{done}
}

// soothed ends the comfort noise: the call goes on, or is over.
func (w *rescue) soothed(ctx context.Context, callID, tag string) {
	w.pairs.mu.Lock()
	joined := w.pairs.joined[callID]
	w.pairs.mu.Unlock()
	if w.r.cfg.Media == nil || joined {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = w.r.cfg.Media.Comfort(ctx, callID, tag, false)
}

// Chosen by us.
const (
	rtpWait  = 2 * time.Second // for the other one of the call, and then for a packet
	rtpFirst = 20 * time.Millisecond
)

// listen notes when the farm is heard again (B55): before says how many packets had come from it when the INVITE left.
func (w *rescue) listen(ctx context.Context, j *job, tag string, before <-chan int64, n int) {
	if before == nil || !w.together(ctx, j) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rtpWait)
	defer cancel()
	last := <-before
	for pause := rtpFirst; last >= 0; pause += pause / 4 {
		if now, err := w.r.cfg.Media.Heard(ctx, j.leg.SIPCallID, tag); err == nil {
			if now > last || now < last && now > 0 { // the re-INVITE may begin a new stream, which counts from 0
				w.rep.halt(n, StepRTP)
				return
			}
			last = now
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// together waits until all legs of a call are on one node: a farm that bridges two has nothing to say to one who is alone. In a conference it has.
func (w *rescue) together(ctx context.Context, j *job) bool {
	late := time.After(rtpWait)
	for {
		call, leg, changed, gone := w.roster.leg(j)
		alone := func(o bridge.Leg) bool {
			return o.State == bridge.LegLost || o.State == bridge.LegUp && o.Node != leg.Node
		}
		if gone || call.Conference != "" || !slices.ContainsFunc(call.Legs, alone) {
			return !gone
		}
		select {
		case <-changed:
		case <-late:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// heard counts the farm's packets so far, in the background; -1 says that nobody knows.
func (w *rescue) heard(ctx context.Context, callID, tag string) <-chan int64 {
	if w.r.cfg.Media == nil {
		return nil
	}
	out := make(chan int64, 1)
	w.all.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		count, err := w.r.cfg.Media.Heard(ctx, callID, tag)
		if err != nil {
			count = -1
		}
		out <- count
	})
	return out
}
