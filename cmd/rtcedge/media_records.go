package main

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"rtcedge/internal/store"
	"rtcedge/media"
)

// mediaRecords keeps the session records of a media node in the store, under the node's address: who starts with that address next, the
// same node or another one, goes on with its calls (F9).
type mediaRecords struct {
	// Constant.
	store  *store.Store
	prefix string
	log    *slog.Logger

	mu      sync.Mutex // guards what follows
	bucket  *store.Bucket
	waiting map[string][]byte // until the bucket is there; nil is an end
}

func newMediaRecords(s *store.Store, addr netip.Addr, log *slog.Logger) *mediaRecords {
	return &mediaRecords{store: s, prefix: addr.String() + "/", log: log, waiting: make(map[string][]byte)}
}

// put is the engine's OnRecord.
func (m *mediaRecords) put(callID string, record []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bucket == nil {
		m.waiting[callID] = record
		return
	}
	m.write(callID, record)
}

func (m *mediaRecords) write(callID string, record []byte) {
	err := m.bucket.PutLater(m.prefix+callID, record)
	if record == nil {
		err = m.bucket.DeleteLater(m.prefix + callID)
	}
	if err != nil {
		m.log.Warn("keep a session record", "call_id", callID, "error", err)
	}
}

// Chosen by us: between two looks for the store.
const recordsRetry = 500 * time.Millisecond

// restore goes on with the calls that the store has for the address, as soon as the store is there, and returns when ctx ends.
func (m *mediaRecords) restore(ctx context.Context, engine *media.Engine) error {
	for {
		bucket, entries, err := m.read(ctx)
		if err == nil {
			m.takeOver(bucket, entries, engine)
			<-ctx.Done()
			return nil
		}
		m.log.Warn("session records wait for the store", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(recordsRetry):
		}
	}
}

func (m *mediaRecords) read(ctx context.Context) (*store.Bucket, []store.Entry, error) {
	bucket, err := m.store.Bucket(ctx, "media")
	if err != nil {
		return nil, nil, err
	}
	entries, err := bucket.List(ctx, m.prefix)
	return bucket, entries, err
}

func (m *mediaRecords) takeOver(bucket *store.Bucket, entries []store.Entry, engine *media.Engine) {
	start, restored := time.Now(), 0
	for _, e := range entries {
		callID := strings.TrimPrefix(e.Key, m.prefix)
		if err := engine.Restore(e.Value); err != nil {
			m.log.Warn("a call cannot be taken over", "call_id", callID, "error", err)
			if err := bucket.DeleteLater(e.Key); err != nil {
				m.log.Warn("delete a session record", "call_id", callID, "error", err)
			}
			continue
		}
		restored++
	}
	if len(entries) > 0 {
		m.log.Info("calls taken over", "calls", restored, "of", len(entries), "took", time.Since(start))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bucket = bucket
	for callID, record := range m.waiting {
		m.write(callID, record)
	}
	m.waiting = nil
}
