package media

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// virtualWorker runs posted functions on one goroutine of a synctest bubble.
type virtualWorker struct {
	posted chan func()
	ended  chan struct{}
}

func newVirtualWorker(tick func()) *virtualWorker {
	w := &virtualWorker{posted: make(chan func(), 64), ended: make(chan struct{})}
	go func() {
		ticker := time.NewTicker(tickEvery)
		defer ticker.Stop()
		for {
			select {
			case fn := <-w.posted:
				fn()
			case <-ticker.C:
				tick()
			case <-w.ended:
				return
			}
		}
	}()
	return w
}

func (w *virtualWorker) do(fn func()) bool {
	select {
	case w.posted <- fn:
		return true
	case <-w.ended:
		return false
	}
}

// TestB21DTLSTimers: a phone that is not ready hears a ClientHello soon and often; a handshake ends after 10 s and starts again a
// second later. No goroutine is left: the bubble would not end.
func TestB21DTLSTimers(t *testing.T) {
	agent := &dtlsAgent{}
	synctest.Test(t, func(t *testing.T) {
		a, err := newDTLSAgent(dtlsConfig{})
		if err != nil {
			t.Fatal(err)
		}
		agent = a
		start := time.Now()
		var at []time.Duration
		var link *dtlsLink
		w := newVirtualWorker(func() { link.tick() })
		link = newDTLSLink(dtlsLinkConfig{
			agent: a, active: true, ice: true, do: w.do,
			send: func([]byte, netip.AddrPort) { at = append(at, time.Since(start)) },
		})
		w.do(func() { link.open(netip.MustParseAddrPort("192.0.2.1:9")) })
		time.Sleep(25 * time.Second)
		w.do(func() { link.close() })
		synctest.Wait()
		a.close()
		close(w.ended)
		if len(at) < 3 || at[0] > 10*time.Millisecond || at[1] < 100*time.Millisecond || at[1] > 200*time.Millisecond {
			t.Fatalf("sent at %v", at)
		}
		for i := 1; i < len(at) && at[i] < 9*time.Second; i++ {
			if gap := at[i] - at[i-1]; gap > 650*time.Millisecond {
				t.Fatalf("silence of %v in %v", gap, at)
			}
		}
		again := false
		for _, d := range at {
			again = again || d > 10900*time.Millisecond && d < 11200*time.Millisecond
		}
		if !again {
			t.Fatalf("not tried again after 11 s: %v", at)
		}
	})
	if agent.ended[dtlsTimeout].Load() != 2 || agent.ended[dtlsCancelled].Load() != 1 {
		t.Fatalf("%d timeouts, %d cancelled", agent.ended[dtlsTimeout].Load(), agent.ended[dtlsCancelled].Load())
	}
}

// TestDTLSAgentClose: it ends what runs, and nothing starts after it.
func TestDTLSAgentClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newDTLSAgent(dtlsConfig{})
		if err != nil {
			t.Fatal(err)
		}
		w := newVirtualWorker(func() {})
		link := newDTLSLink(dtlsLinkConfig{agent: a, ice: true, do: w.do, send: func([]byte, netip.AddrPort) {}})
		w.do(func() { link.receive(clientHello(1), netip.MustParseAddrPort("192.0.2.1:9")) })
		time.Sleep(300 * time.Millisecond)
		a.close()
		if a.ended[dtlsCancelled].Load() != 1 {
			t.Fatal("the handshake was not cancelled")
		}
		if _, ok := a.start(func(context.Context) dtlsFault { return dtlsOK }); ok {
			t.Fatal("a handshake started after the end")
		}
		close(w.ended)
	})
}
