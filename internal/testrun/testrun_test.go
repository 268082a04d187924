package testrun_test

import (
	"context"
	"errors"
	"testing"

	"rtcedge/internal/testrun"
)

// recorder is a test whose end and whose errors the real one sees.
type recorder struct {
	testing.TB
	cleanup func()
	failed  bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Cleanup(f func())      { r.cleanup = f }
func (r *recorder) Errorf(string, ...any) { r.failed = true }

func TestRun(t *testing.T) {
	for _, end := range []error{nil, errors.New("broken")} {
		r, begun, ended := &recorder{TB: t}, make(chan struct{}), false
		testrun.Run(r, func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			ended = true
			return end
		})
		<-begun
		r.cleanup()
		if !ended || r.failed != (end != nil) {
			t.Errorf("after %v: ended %t, failed %t", end, ended, r.failed)
		}
	}
}
