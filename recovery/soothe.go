package recovery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// Chosen by us.
const (
	// joinWait is how long an INVITE waits for the join of its two, which takes media some milliseconds.
	joinWait = 150 * time.Millisecond

	joinTime   = 2 * time.Second // for all of a batch
	mediaTime  = time.Second     // for one command
	mediaTries = 5 * time.Second // to end what was begun
	mediaPause = 200 * time.Millisecond
)

// pairs are the calls whose two are joined directly while their node is away, and who has comfort noise in place of that.
type pairs struct {
	mu      sync.Mutex               // guards the rest
	open    map[string]chan struct{} // by call; closed when it is known whether its two are joined
	noise   map[string]chan struct{} // by Call-ID, who has comfort noise; closed when media has answered
	invited map[string]bool          // Call-IDs whose INVITE may have left
	joined  map[string]bool          // Call-IDs that are joined, or may be
	over    map[string]bool          // Call-IDs that need nothing any more
}

func newPairs() pairs {
	return pairs{open: map[string]chan struct{}{}, noise: map[string]chan struct{}{}, invited: map[string]bool{}, joined: map[string]bool{}, over: map[string]bool{}}
}

// expect is told of the legs that are soothed together.
func (p *pairs) expect(batch []job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range batch {
		delete(p.over, batch[i].leg.SIPCallID) // it is here again
		if id := batch[i].call.ID; p.open[id] == nil && pairable(&batch[i]) {
			p.open[id] = make(chan struct{})
		}
	}
}

func pairable(j *job) bool {
	return j.call.Conference == "" && j.call.Up() == 2 && !j.leg.Held && !j.leg.Muted && j.leg.Waiting == ""
}

// settled is closed when it is known whether the two of a call are joined; nil if nobody is at it.
func (p *pairs) settled(call string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[call]
}

// wait returns when the INVITE of a leg may leave: behind the join of its two, if that takes no longer than it should.
func (p *pairs) wait(ctx context.Context, j *job) {
	if settled := p.settled(j.call.ID); settled != nil {
		select {
		case <-settled:
		case <-time.After(joinWait):
		case <-ctx.Done():
		}
	}
}

// invite notes that an INVITE leaves.
func (p *pairs) invite(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.invited[id] = true
}

// join tells whether two may be joined by the answers that media had when it was asked: nobody was invited before that, and nobody is back.
func (p *pairs) join(a, b string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range []string{a, b} {
		if p.invited[id] || p.over[id] {
			return false
		}
	}
	p.joined[a], p.joined[b] = true, true
	return true
}

func (p *pairs) settle(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := p.open[call]; ch != nil {
		close(ch)
		delete(p.open, call)
	}
}

// soothe joins the two of a call directly and gives all others comfort noise, until their farm sides speak again. It is best effort: it fails
// where the two are at different media nodes.
func (w *rescue) soothe(ctx context.Context, batch []job, dialogs map[string]Rebuilt) {
	if w.r.cfg.Media == nil {
		return
	}
	soon, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	var all sync.WaitGroup
	defer func() {
		all.Wait()
		for _, j := range batch { // nobody waits for those without a partner
			if _, ok := dialogs[j.leg.SIPCallID]; ok {
				w.pairs.settle(j.call.ID)
			}
		}
	}()
	limit := make(chan struct{}, 8)
	do := func(f func()) {
		limit <- struct{}{}
		all.Go(func() { defer func() { <-limit }(); f() })
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
	for _, j := range first {
		w.pairs.settle(j.call.ID)
		alone = append(alone, j)
	}
	for _, p := range both {
		do(func() {
			err := w.join(soon, &p, dialogs)
			w.pairs.settle(p[0].call.ID)
			for i := range p {
				w.rep.step(w.rep.place(&p[i]), stepJoin, about("joined", err)...)
				if err != nil {
					w.comfort(ctx, &p[i], dialogs)
				}
			}
		})
	}
	for _, j := range alone {
		do(func() { w.comfort(ctx, &j, dialogs) })
	}
}

var errNotBefore = errors.New("an INVITE may have left, or the call goes on")

// join is harmless whenever it comes: it names the answers that media had before any INVITE of ours left, and media refuses it behind another one.
func (w *rescue) join(ctx context.Context, p *[2]job, dialogs map[string]Rebuilt) error {
	var ends [2]MediaEnd
	for i := range p {
		id := p[i].leg.SIPCallID
		ends[i] = MediaEnd{CallID: id, Tag: dialogs[id].RemoteTag}
		heard, err := w.r.cfg.Media.Heard(ctx, ends[i].CallID, ends[i].Tag)
		if err != nil {
			return err
		}
		ends[i].Answered = heard.Answered
	}
	for i := range p {
		if err := w.nobodyInvited(ctx, &p[i]); err != nil {
			return err
		}
	}
	if !w.pairs.join(ends[0].CallID, ends[1].CallID) {
		return errNotBefore
	}
	return w.r.cfg.Media.Join(ctx, ends[0], ends[1])
}

// nobodyInvited is an error if somebody else may have sent an INVITE before us: who does writes a claim first, which stays until the record has the leg's new
// place. Only a controller before us, or the recovery of a crash before this one, can have done so.
func (w *rescue) nobodyInvited(ctx context.Context, j *job) error {
	if !w.former[j.call.ID] && j.leg.Generation == 0 {
		return nil
	}
	if _, err := w.claims.Get(ctx, j.leg.SIPCallID); !errors.Is(err, store.ErrNotFound) {
		return errors.Join(errNotBefore, err)
	}
	e, err := w.calls.Get(ctx, j.call.ID)
	if err != nil {
		return err
	}
	if now, ok := legIn(e.Value, j); !ok || now.ID != j.leg.ID {
		return errNotBefore
	}
	return nil
}

// comfort lets one who hears nothing hear noise.
func (w *rescue) comfort(ctx context.Context, j *job, dialogs map[string]Rebuilt) {
	id := j.leg.SIPCallID
	w.pairs.mu.Lock()
	over, done := w.pairs.over[id], make(chan struct{})
	if !over {
		w.pairs.noise[id] = done
	}
	w.pairs.mu.Unlock()
	if over {
		return
	}
	ask, cancel := context.WithTimeout(ctx, mediaTime)
	err := w.r.cfg.Media.Comfort(ask, id, dialogs[id].RemoteTag, true)
	cancel()
	close(done)
	w.rep.step(w.rep.place(j), stepComfort, about("on", err)...)
}

// about is what the report says of a command.
func about(done string, err error) []string {
	if err != nil {
		return []string{"failed", err.Error()}
	}
	return []string{done}
}

// soothed ends what was done for a leg's ears, in the background: the call goes on, or is over. A join ends by itself with the first packet of another node;
// where none will come (parted) it is ended here: who was only asleep would be kept out for good.
func (w *rescue) soothed(ctx context.Context, j *job, tag string, parted bool) {
	media := w.r.cfg.Media
	if media == nil {
		return
	}
	id := j.leg.SIPCallID
	w.pairs.mu.Lock()
	w.pairs.over[id] = true
	noise, settled := w.pairs.noise[id], w.pairs.open[j.call.ID]
	delete(w.pairs.noise, id)
	w.pairs.mu.Unlock()
	if noise != nil {
		w.all.Go(func() {
			<-noise
			w.insist(ctx, func(ctx context.Context) error { return media.Comfort(ctx, id, tag, false) })
		})
	}
	if !parted {
		return
	}
	w.all.Go(func() {
		if settled != nil {
			<-settled
		}
		w.pairs.mu.Lock()
		joined := w.pairs.joined[id]
		delete(w.pairs.joined, id)
		w.pairs.mu.Unlock()
		if joined || w.former[j.call.ID] { // a controller before us may have joined them
			w.insist(ctx, func(ctx context.Context) error { return media.Unjoin(ctx, id) })
		}
	})
}

// insist repeats a command until media has carried it out. Also where the rescue ends meanwhile: nobody else would.
func (w *rescue) insist(ctx context.Context, command func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mediaTries)
	defer cancel()
	for {
		ask, done := context.WithTimeout(ctx, mediaTime)
		err := command(ask)
		done()
		if err == nil || !sleep(ctx, mediaPause) {
			return
		}
	}
}

// Chosen by us.
const (
	rtpWait  = 2 * time.Second // for the other one of the call, and then for a packet
	rtpFirst = 40 * time.Millisecond
	rtpMost  = 300 * time.Millisecond
)

// listen notes when the farm is heard again (B55), by media's own clock: the first packet behind the answer that came after sent. The leg is not busy any more.
func (e *effort) listen(ctx context.Context) {
	if e.r.cfg.Media == nil || !e.together(ctx, &e.job) {
		return
	}
	within, cancel := context.WithTimeout(ctx, rtpWait)
	defer cancel()
	why := "nothing came behind the answer"
	for pause := rtpFirst; ; pause = min(pause+pause/2, rtpMost) {
		heard, err := e.r.cfg.Media.Heard(within, e.job.leg.SIPCallID, e.built.RemoteTag)
		switch now := time.Now(); {
		case err != nil:
			why = err.Error()
		case heard.Age > now.Sub(e.sent):
			why = "media has no new answer"
		case heard.Since >= 0:
			e.rep.heard(e.n, now.Add(-heard.Since))
			e.r.count(func(s *Stats) { s.Heard++ })
			return
		}
		if !sleep(within, pause) {
			break
		}
	}
	if ctx.Err() != nil {
		return // the crash is closed, or somebody else's
	}
	if e.job.leg.Held {
		why = "on hold"
	}
	e.rep.halt(e.n, StepNoRTP, "", why)
	e.r.count(func(s *Stats) { s.Silent++ })
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
