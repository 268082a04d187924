package ng

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPatienceIsAContext compares with context.WithTimeout in what a Handler can see.
func TestPatienceIsAContext(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
		cancel() // the end of the server is none of the request
		for _, asked := range []bool{false, true} {
			p := newPatience(parent, time.Second)
			if at, ok := p.Deadline(); !ok || !at.Equal(time.Now().Add(time.Second)) || p.Value(key{}) != "v" || p.Err() != nil {
				t.Errorf("deadline %v, value %v, error %v", at, p.Value(key{}), p.Err())
			}
			if asked {
				inner, stop := context.WithCancel(p)
				<-inner.Done()
				stop()
				if !errors.Is(inner.Err(), context.DeadlineExceeded) {
					t.Error("the end of a derived context:", inner.Err())
				}
			} else {
				time.Sleep(time.Second)
			}
			if !errors.Is(p.Err(), context.DeadlineExceeded) {
				t.Error("after its time:", p.Err())
			}
			<-p.Done()
			p.stop()
			if !errors.Is(p.Err(), context.DeadlineExceeded) {
				t.Error("stopped after its time:", p.Err())
			}

			p = newPatience(parent, time.Second)
			if asked {
				go func() { time.Sleep(time.Millisecond); p.stop() }()
			} else {
				p.stop()
			}
			<-p.Done()
			if !errors.Is(p.Err(), context.Canceled) {
				t.Error("after its request:", p.Err())
			}
		}
	})
}
