package media

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Session records for who stores them (Config.OnRecord): one after each change of a call, whether a command, the media path or the end
// made it, and one now and then while packets flow, for the numbering moves on.

// Chosen by us.
const (
	recordsEvery   = 250 * time.Millisecond // changes that come together make one record: offer, answer, handshake, source
	recordsRefresh = time.Minute            // well within snapshotLife, and the jump of a taken over SRTP stream stays below 2^15
	recordsAtEnd   = 2 * time.Second        // for the last records of a node that shuts down
)

// errNoRecord says that a call has ended or was never here.
var errNoRecord = errors.New("unknown call-id")

// records collects which calls changed.
type records struct {
	mu    sync.Mutex
	dirty map[string]bool
}

// touched may be called by anybody, with locks held.
func (r *records) touched(callID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirty == nil {
		r.dirty = make(map[string]bool)
	}
	r.dirty[callID] = true
}

func (r *records) take() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	dirty := r.dirty
	r.dirty = nil
	return dirty
}

// touched notes a change in the media path; it runs on the worker, seldom.
func (s *stream) touched() {
	if e := s.worker.engine; e.cfg.OnRecord != nil {
		e.records.touched(s.callID)
	}
}

// keepRecords runs until ctx ends.
func (e *Engine) keepRecords(ctx context.Context) {
	ticker := time.NewTicker(recordsEvery)
	defer ticker.Stop()
	at := make(map[string]time.Time) // of the last record of each call that has one
	looked := time.Time{}
	for {
		select {
		case <-ctx.Done():
			e.lastRecords(at)
			return
		case now := <-ticker.C:
			for id := range e.records.take() {
				e.keepRecord(id, now, at)
			}
			if now.Sub(looked) < time.Second {
				continue
			}
			looked = now
			for id, made := range at {
				if now.Sub(made) >= recordsRefresh {
					e.keepRecord(id, now, at)
				}
			}
		}
	}
}

// keepRecord makes one and gives it away; nil if the call has ended.
func (e *Engine) keepRecord(id string, now time.Time, at map[string]time.Time) {
	record, err := e.export(id, true)
	switch {
	case err == nil:
		at[id] = now
		e.cfg.OnRecord(id, record)
	case errors.Is(err, errNoRecord):
		if _, known := at[id]; known {
			delete(at, id)
			e.cfg.OnRecord(id, nil)
		}
	default:
		e.cfg.Logger.Warn("session record", "call_id", id, "error", err)
	}
}

// lastRecords are those of a node that shuts down: its calls are for another one.
func (e *Engine) lastRecords(at map[string]time.Time) {
	start := time.Now()
	for id := range e.records.take() {
		at[id] = time.Time{}
	}
	for id := range at {
		if now := time.Now(); now.Sub(start) < recordsAtEnd {
			e.keepRecord(id, now, at)
		}
	}
}
