//go:build !linux

package transport

import "testing"

// soloWorker needs the worker of Linux.
func soloWorker(t testing.TB, _ *Transport) (turn, release func()) {
	t.Skip("Linux only")
	return nil, nil
}
