package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rtcedge/internal/store"
	"rtcedge/media"
	"rtcedge/media/ng"
)

// TestF9RecordsInTheStore: what one engine leaves in the store, the next one with its address goes on with; a call that was deleted is
// not among it.
func TestF9RecordsInTheStore(t *testing.T) {
	s, err := store.New(store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { _ = s.Run(ctx) })

	addr := netip.MustParseAddr("127.0.0.1")
	node := func() (*media.Engine, *mediaRecords, func()) {
		records := newMediaRecords(s, addr, slog.New(slog.DiscardHandler))
		engine, err := media.New(media.Config{PortMin: 43700, PortMax: 43799, NumThreads: 1, DeleteDelay: -1, OnRecord: records.put,
			Interfaces: []media.Interface{{Name: "default", Addr: addr}}})
		if err != nil {
			t.Fatal(err)
		}
		inner, stop := context.WithCancel(ctx)
		var parts sync.WaitGroup
		parts.Go(func() { _ = engine.Run(inner) })
		parts.Go(func() { _ = records.restore(inner, engine) })
		return engine, records, func() { stop(); parts.Wait() }
	}
	body := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
	do := func(e *media.Engine, req ng.Request) string {
		t.Helper()
		resp := e.Handle(ctx, &req)
		if resp.Result != ng.ResultOK {
			t.Fatalf("%s: %s", req.Command, resp.ErrorReason)
		}
		return string(resp.SDP)
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	bucket := func() *store.Bucket {
		b, err := s.Bucket(ctx, "media")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first, _, stop := node()
	var offered string
	for i := range 3 {
		id := fmt.Sprint("a call ", i)
		offered = do(first, ng.Request{Command: "offer", CallID: id, FromTag: "a", SDP: []byte(body)})
		do(first, ng.Request{Command: "answer", CallID: id, FromTag: "a", ToTag: "b", SDP: []byte(body)})
	}
	stored := func(n int) func() bool {
		return func() bool { list, err := bucket().List(ctx, addr.String()+"/"); return err == nil && len(list) == n }
	}
	eventually("no records in the store", stored(3))
	do(first, ng.Request{Command: "delete", CallID: "a call 0"})
	eventually("a deleted call stays in the store", stored(2))
	stop()
	second, _, stop := node()
	defer stop()
	eventually("calls were not taken over", func() bool { return second.Stats().Restored == 2 })
	if again := do(second, ng.Request{Command: "offer", CallID: "a call 2", FromTag: "a", SDP: []byte(body)}); again != offered {
		t.Errorf("the ports moved:\n%s\n%s", offered, again)
	}
}
