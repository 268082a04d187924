package media

import (
	"fmt"
	"testing"
	"time"

	"rtcedge/media/ng"
)

// TestB19PortsReturn churns calls through a small range.
func TestB19PortsReturn(t *testing.T) {
	r := newRig(t, Config{PortMin: 64400, PortMax: 64479})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer, answer := a.body("RTP/AVP", "0"), b.body("RTP/AVP", "0")
	calls := 10000
	if testing.Short() {
		calls = 1000
	}
	for i := range calls {
		id := fmt.Sprint("call-", i)
		r.must(relayed(id, "a", offer))
		if i%3 != 0 {
			r.must(answered(id, "a", "b", answer))
		}
		if i%16 >= 8 {
			r.must(ng.Request{Command: "delete", CallID: id, FromTag: "a"})
			r.must(ng.Request{Command: "delete", CallID: fmt.Sprint("call-", i-8)})
			r.barrier()
		}
	}
	for _, id := range r.do(ng.Request{Command: "list"}).Calls {
		r.must(ng.Request{Command: "delete", CallID: id})
	}
	r.barrier()
	st := r.Stats()
	if st.Ports[0].Used != 0 || st.Ports[0].Free != 40 || st.Calls != 0 || int(st.CallsTotal) != calls {
		t.Errorf("%+v", st)
	}
	if len(r.ended) != calls {
		t.Errorf("%d ends of %d calls", len(r.ended), calls)
	}
	for _, w := range r.workers {
		if n := w.load.Load(); n != 0 {
			t.Errorf("worker load %d", n)
		}
	}
}

// TestB19Defaults: those that the behaviour names, the marking of packets (B20), and that all can be switched off.
func TestB19Defaults(t *testing.T) {
	var c Config
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	if c.Timeout != time.Minute || c.SilentTimeout != time.Hour || c.DeleteDelay != 30*time.Second || c.TOS != 184 {
		t.Errorf("%v, %v, %v, TOS %d", c.Timeout, c.SilentTimeout, c.DeleteDelay, c.TOS)
	}
	c = Config{Timeout: -1, SilentTimeout: -1, DeleteDelay: -1, TOS: -1}
	if err := c.validate(); err != nil || c.Timeout > 0 || c.SilentTimeout > 0 || c.DeleteDelay > 0 || c.TOS != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestB19Timeouts uses an injected clock.
func TestB19Timeouts(t *testing.T) {
	r := newRig(t, Config{DeleteDelay: 30 * time.Second})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(relayed("talk", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	r.connect(relayed("hold", "h", a.body("RTP/AVP", "0", "sendonly")), a, b, b.body("RTP/AVP", "0", "recvonly"))
	r.must(relayed("gone", "g", a.body("RTP/AVP", "0")))
	r.must(ng.Request{Command: "delete", CallID: "gone", FromTag: "g"})

	step := func(d time.Duration, want ...string) {
		t.Helper()
		r.clock.advance(d)
		r.sweep(r.clock.now())
		if got := r.do(ng.Request{Command: "list"}).Calls; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("after %v: %v, want %v", d, got, want)
		}
	}
	step(29*time.Second, "gone", "hold", "talk")
	step(2*time.Second, "hold", "talk")
	if end := <-r.ended; end.CallID != "gone" || end.Reason != "delete" {
		t.Errorf("%+v", end)
	}
	// A packet puts the end off.
	r.clock.advance(20 * time.Second)
	a.send(a.packet(0, []byte("x"))) // a.to is the port of hold
	b.recv()
	step(10*time.Second, "hold")
	if end := <-r.ended; end.CallID != "talk" || end.Reason != "timeout" || len(end.Info.Tags) != 2 {
		t.Errorf("%+v", end)
	}
	step(3500*time.Second, "hold")
	step(200 * time.Second)
	if r.Stats().Timeouts != 2 {
		t.Errorf("%+v", r.Stats())
	}
	// An offer within the delay takes the deletion back.
	first := r.must(relayed("again", "a", a.body("RTP/AVP", "0")))
	r.must(ng.Request{Command: "delete", CallID: "again"})
	if second := r.must(relayed("again", "a", a.body("RTP/AVP", "0"))); string(first) != string(second) {
		t.Error("ports moved within the delete delay")
	}
	step(31*time.Second, "again")
}
