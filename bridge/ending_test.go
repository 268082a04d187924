package bridge

import (
	"errors"
	"testing"
)

// TestB38CommandToACallThatEnds: who asks for something while the call ends is not told that it is busy.
func TestB38CommandToACallThatEnds(t *testing.T) {
	s := &session{b: &Bridge{}, inbox: make(chan any), gone: make(chan struct{})}
	b := &Bridge{calls: map[string]*session{"c": s}}
	if err := b.Command(t.Context(), "c", Command{Do: CmdHangup}); !errors.Is(err, ErrBusy) {
		t.Errorf("a full queue: %v", err)
	}
	s.over = true
	if err := b.Command(t.Context(), "c", Command{Do: CmdHangup}); err != nil {
		t.Errorf("over: %v", err)
	}
	close(s.gone)
	if err := b.Command(t.Context(), "c", Command{Do: CmdHangup}); err != nil {
		t.Errorf("gone: %v", err)
	}
}
