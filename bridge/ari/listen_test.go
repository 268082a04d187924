package ari

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestB41DeafSocket: a connection over which the application's events do not come is given up, however well it answers pings.
func TestB41DeafSocket(t *testing.T) {
	for name, tc := range map[string]struct {
		probe func(heard chan<- struct{}) error
		want  error // within 5 s; nil: it lives
	}{
		"events come":               {func(heard chan<- struct{}) error { heard <- struct{}{}; return nil }, nil},
		"events do not come":        {func(chan<- struct{}) error { return nil }, errDeaf},
		"the application is gone":   {func(chan<- struct{}) error { return &Error{Status: http.StatusNotFound} }, &Error{}},
		"the node does not answer,": {func(chan<- struct{}) error { return context.DeadlineExceeded }, nil}, // ping finds that
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				heard := make(chan struct{}, 1)
				go listen(ctx, heard, func(context.Context) error { return tc.probe(heard) }, cancel)
				time.Sleep(5 * time.Second)
				got, refused := context.Cause(ctx), (*Error)(nil)
				switch {
				case tc.want == nil && got != nil, tc.want != nil && got == nil, errors.Is(tc.want, errDeaf) && !errors.Is(got, errDeaf):
					t.Errorf("%v, want %v", got, tc.want)
				case tc.want != nil && !errors.Is(tc.want, errDeaf) && !errors.As(got, &refused):
					t.Errorf("%v, want the node's refusal", got)
				}
				cancel(nil)
				synctest.Wait()
			})
		})
	}
}
