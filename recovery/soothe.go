package recovery

import (
	"context"
	"sync"
	"time"
)

// soothe joins the two of a call directly and gives all others comfort noise, until their farm sides speak again. It is best effort: it fails
// where the two are at different media nodes.
func (r *Recoverer) soothe(ctx context.Context, batch []job, dialogs map[string]Rebuilt) {
	if r.cfg.Media == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	first := map[string]job{}
	limit := make(chan struct{}, 8)
	do := func(f func()) {
		limit <- struct{}{}
		all.Go(func() { defer func() { <-limit }(); f() })
	}
	for _, j := range batch {
		b, ok := dialogs[j.leg.SIPCallID]
		if !ok || b.Err != nil {
			continue
		}
		do(func() { _ = r.cfg.Media.Comfort(ctx, j.leg.SIPCallID, b.RemoteTag, true) })
		if j.call.Conference != "" || j.call.Up() != 2 || j.leg.Held || j.leg.Muted || j.leg.Waiting != "" {
			continue
		}
		other, paired := first[j.call.ID]
		if !paired {
			first[j.call.ID] = j
			continue
		}
		o := dialogs[other.leg.SIPCallID]
		do(func() { _ = r.cfg.Media.Join(ctx, j.leg.SIPCallID, b.RemoteTag, other.leg.SIPCallID, o.RemoteTag) })
	}
}

// soothed ends the comfort noise: the call goes on, or is over.
func (r *Recoverer) soothed(ctx context.Context, callID, tag string) {
	if r.cfg.Media == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = r.cfg.Media.Comfort(ctx, callID, tag, false)
}

// Chosen by us.
const (
	rtpWait  = 3 * time.Second // for both legs of a call: the first that is back hears nothing before the other one is
	rtpFirst = 50 * time.Millisecond
)

// listen notes when the farm is heard again (B55): before says how many packets had come from it when the INVITE left.
func (w *rescue) listen(ctx context.Context, callID, tag string, before <-chan int64, n int) {
	if before == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rtpWait)
	defer cancel()
	last := <-before
	for pause := rtpFirst; last >= 0; pause += pause / 2 {
		if now, err := w.r.cfg.Media.Heard(ctx, callID, tag); err == nil {
			if now > last || now < last && now > 0 { // the re-INVITE may begin a new stream, which counts from 0
				w.rep.halt(n, "rtp")
				return
			}
			last = now
		}
		if !sleep(ctx, pause) {
			return
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
