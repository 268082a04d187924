// Package testrun runs what a test builds: a part's Run from here until the test ends, and its error told then. For tests only.
package testrun

import (
	"context"
	"testing"
)

// Run calls run in a goroutine of its own. When the test ends its context does too, and the test waits until run has returned.
func Run(t testing.TB, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}
