package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

func (d *diary) part(name string, err error) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		d.add("end " + name)
		return err
	}}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// TestB10DrainOrder: not ready at once, new dialogs refused after the notice, parts end in reverse order once the calls are over.
func TestB10DrainOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		calls := 1
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		dr := drainer{notice: 2 * time.Second, limit: time.Minute,
			ready:  func(r bool) { d.add(map[bool]string{true: "ready", false: "not ready"}[r]) },
			refuse: func() { d.add("refuse after " + time.Since(start).String()) },
			calls:  func() int { return calls }}
		time.AfterFunc(10*time.Second, func() { calls = 0 })
		time.AfterFunc(time.Second, cancel)
		if err := serve(ctx, quiet, dr, d.part("media", nil), d.part("sip", nil), d.part("farm", nil)); err != nil {
			t.Fatal(err)
		}
		want := []string{"ready", "not ready", "refuse after 3s", "not ready", "end farm", "end sip", "end media"}
		if !slices.Equal(d.lines, want) {
			t.Errorf("%q, want %q", d.lines, want)
		}
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("ended after %s, want right after the last call at 10s", took)
		}
	})
}

func TestDrainLimitEndsWithCallsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := serve(ctx, quiet, drainer{limit: 5 * time.Second, calls: func() int { return 3 }}, d.part("sip", nil)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("ended after %s, want the limit of 5s", took)
		}
	})
}

func TestFailedPartEndsAllWithItsError(t *testing.T) {
	var d diary
	broken := part{"sip", func(context.Context) error { return errors.New("socket gone") }}
	err := serve(t.Context(), quiet, drainer{limit: time.Hour, calls: func() int { return 1 }}, d.part("media", nil), broken)
	if err == nil || !strings.Contains(err.Error(), "sip: socket gone") {
		t.Errorf("error %v, want that of the part", err)
	}
	if !slices.Equal(d.lines, []string{"end media"}) {
		t.Errorf("%q", d.lines)
	}
}
