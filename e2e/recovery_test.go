//go:build e2e

package e2e

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bench/lab"
	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
)

// These tests prove behaviours 44 to 55 from outside: real Asterisks with the module of asterisk-patch die under real calls, and phones of
// raw SIP say what they saw. One system serves all of them, because its start takes longer than a crash; a node that was killed is started
// again afterwards.

// stricken is the system with two controllers.
type stricken struct {
	*lab.Lab
	api     *control
	machine *machine
}

// watch counts the time in which an Asterisk that nobody struck did not answer: programs starve one by one.
func (m *machine) watch(t *testing.T, nodes []*farms.Node) {
	runUntilEnd(t, "watch of the Asterisks", func(ctx context.Context) error {
		for ; ctx.Err() == nil; lab.Sleep(ctx, 20*time.Millisecond) {
			asked := time.Now()
			if nodes[0].Get("/asterisk/ping", &struct{}{}) != nil {
				continue // B52 kills it
			}
			if took := int64(time.Since(asked)); took > m.longest.Load() {
				m.longest.Store(took)
			}
		}
		return nil
	})
}

// startLab runs a system on addresses that no other test has.
func startLab(t *testing.T, cfg lab.Config) *lab.Lab {
	t.Helper()
	modules, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	a := newHost().As4()
	at := func(c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{a[0], a[1], c, d}) }
	cfg.Root, cfg.Binary, cfg.Modules, cfg.Dir = root(t), edgeProgram.binary(t), modules, t.TempDir()
	cfg.Public, cfg.Inside, cfg.Phones, cfg.Called = newHost(), at(100+a[3]%150, 1), at(30, 0), at(40, 0)
	cfg.Out = logWriter{t}
	if cfg.HEP.IsValid() { // the relay in front of HOMER
		cfg.HEP = lab.RelayAddr(cfg.Inside)
	}
	l, err := lab.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, loss := range l.Losses() {
				t.Log(loss)
			}
		}
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range l.Processes() {
				t.Logf("output of %s:\n%s", p.Name, p.Output())
			}
		}
	})
	return l
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// crashes are the cases in their order: what comes first is what the others need.
var crashes = []struct {
	name string
	test func(*testing.T, *stricken)
}{
	{"B44Detection", b44},            // a killed and a hung node are dead within a second, a blip is not
	{"B45Graceful", b45},             // drain and graceful stop send no recovery INVITE
	{"B46Ended", b46},                // what ended or never was a call stays so
	{"B47B48Requests", b47},          // both roles, after whatever was sent inside
	{"B49Controllers", b49},          // two controllers make one INVITE, and a second crash is recovered as well
	{"B50Refusals", b50},             // 491, 481 and 500
	{"B50Drained", b50Drained},       // a drained node gets nothing
	{"B49NeverAcked", b49NeverAcked}, // the target dies with a 200 that it never acknowledged
	{"B51B52Conference", b52},        // mute, moderator, hold, recording
	{"B51Joined", b51},               // those who came by a call between the nodes
	{"B51Media", b51Media},           // ports, keys, numbers and sound of SDES, DTLS-SRTP and plain phones; the calls are used afterwards
	{"B52Digits", b52Flow},           // a flow goes on with the digits so far
	{"B52Playback", b52Playback},     // and where it was in what it played
	{"B54Fence", b54},                // the node that comes back cannot speak
	{"B55Report", b55},
}

// TestRecoveryOfRealCalls is one system and one crash after the other.
func TestRecoveryOfRealCalls(t *testing.T) {
	if os.Getenv(attemptEnv) == "" {
		var names []string
		for _, c := range crashes {
			names = append(names, c.name)
		}
		again(t, names)
		return
	}
	whole := watchMachine(t)
	var s *stricken
	defer func() {
		if s == nil { // it did not come up
			t.Logf("the machine stood still for %v in all of it", whole.stall())
		}
	}()
	// Patient about hangs: a machine that is busy with other work lets an Asterisk wait for a second, which is a hang by the default, and no
	// matter of these tests. B44 has the default.
	l := startLab(t, lab.Config{Call: 2, Conference: 2, Controllers: 2, Recovery: []string{"--hang-after", "2s", "--lost-after", "4s"}})
	s = &stricken{Lab: l, machine: watchMachine(t)}
	s.machine.watch(t, s.Farm("conference"))
	whole.watch(t, s.Farm("conference"))
	s.api = newControl(t, s.API(), nil)
	s.api.Must("DELETE", "/v1/conferences/7999", nil) // the lab's own, which lingers
	for _, c := range crashes {
		if !t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			whole.longest.Store(0)
			defer func() {
				t.Logf("%.1f s; the machine stood still for %v in all of it", time.Since(began).Seconds(), whole.stall())
			}()
			s.api = newControl(t, s.API(), nil) // its failures are this test's
			c.test(t, s)
			s.Clear()
			s.whole(t)
			// Every call ended, so nothing may be left of one. A conference waits for others.
			s.api.Until("no call is left", func(calls []bridgetest.Call) bool {
				return !slices.ContainsFunc(calls, func(c bridgetest.Call) bool { return c.Conference == "" })
			})
			for _, c := range s.api.Calls() {
				s.api.Must("DELETE", "/v1/conferences/"+c.Conference, nil)
			}
		}) {
			break // what comes next would begin with the ruins
		}
	}
}

// whole starts again what does not run, and waits until everybody uses it.
func (s *stricken) whole(t *testing.T) {
	t.Helper()
	for _, n := range s.Nodes {
		select {
		case <-n.Done():
			if err := n.Restart(); err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	for _, n := range append(s.Farm("call"), s.Farm("conference")...) {
		if err := s.Streamed(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Watching(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// pairs puts calls up and returns the node that holds most of them, and its phones.
func (s *stricken) pairs(t *testing.T, count int) ([]lab.Pair, *farms.Node, []*lab.Leg) {
	t.Helper()
	pairs, err := s.Pairs(t.Context(), count)
	if err != nil {
		t.Fatal(err)
	}
	n, legs := s.holder(t)
	s.Mark()
	s.machine.longest.Store(0)
	return pairs, n, legs
}

func (s *stricken) holder(t *testing.T) (*farms.Node, []*lab.Leg) {
	t.Helper()
	n, _, err := s.Holder("call")
	if err != nil {
		t.Fatal(err)
	}
	legs, err := lab.Held(n, s.Legs)
	if err != nil || len(legs) == 0 {
		t.Fatalf("phones on %s: %d, %v", n.ID, len(legs), err)
	}
	return n, legs
}

// recovered wants all of these phones back, right and once, and the others undisturbed.
func (s *stricken) recovered(t *testing.T, legs []*lab.Leg, struck time.Time) lab.Outcome {
	t.Helper()
	o := lab.Settle(t.Context(), legs, struck, 15*time.Second)
	o.Print(s.Lab)
	if err := o.Judge(lab.Goal{}); err != nil {
		t.Error(err)
	}
	if o.Again > 0 {
		t.Errorf("%d re-INVITEs beside the first", o.Again)
	}
	for _, p := range s.Legs {
		if seen := p.Seen(); !slices.Contains(legs, p) && (len(seen.Invited)+seen.Byes+len(seen.Strangers) > 0) {
			t.Errorf("%s has nothing to do with the crash and saw %+v", p.Name, seen)
		}
	}
	return o
}

// farewell ends the calls, by callers and callees, and wants each BYE answered and passed on.
func (s *stricken) farewell(t *testing.T, pairs []lab.Pair) {
	t.Helper()
	if err := s.FarewellBoth(t.Context(), pairs); err != nil {
		t.Error(err)
	}
}

// crashes are the reports of one controller about a node since a moment.
func (s *stricken) crashes(t *testing.T, controller int, node string, since time.Time) []lab.Crash {
	t.Helper()
	all, err := s.Crashes(controller)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(c lab.Crash) bool { return c.Detected.Before(since) || node != "" && string(c.Node) != node })
}

// pause waits where nothing may happen, which nothing tells.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	lab.Sleep(t.Context(), d)
}

// TestB53HomerAlone recovers from HOMER's API, with no message in the own capture: HOMER loses nothing here, and is as late as its default.
func TestB53HomerAlone(t *testing.T) { alone(t, "B53Homer", homerAlone) }

func homerAlone(t *testing.T) {
	l := startLab(t, lab.Config{Call: 2, Conference: 1, HEP: netip.MustParseAddrPort("127.0.0.1:1"), NoRecovery: true})
	h, err := l.StartHomer()
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.StartRecovery(0, append(l.StoreFlags(), "--homer", h.URL, "--homer-token", lab.HomerToken, "--homer-lag", "2s", "--hang-after", "2s")...)
	if err != nil {
		t.Fatal(err)
	}
	l.RecoverP = []*farms.Process{p}
	if err := l.Watching(t.Context()); err != nil {
		t.Fatal(err)
	}
	pairs, err := l.Pairs(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	h.Degrade(time.Second, 300*time.Millisecond, 0)
	n, _, err := l.Holder("call")
	if err != nil {
		t.Fatal(err)
	}
	legs, err := lab.Held(n, l.Legs)
	if err != nil {
		t.Fatal(err)
	}
	l.Mark()
	at := time.Now()
	n.Kill()
	o := lab.Settle(t.Context(), legs, at, 15*time.Second)
	o.Print(l)
	if err := o.Judge(lab.Goal{}); err != nil {
		t.Error(err)
	}
	if first := lab.Quantile(o.Invited, 0); first < 2*time.Second {
		t.Errorf("a re-INVITE after %v: HOMER has to be asked behind its lag, a BYE may have come (B46)", first)
	}
	if err := l.FarewellBoth(t.Context(), pairs); err != nil {
		t.Error(err)
	}
}

// inform sends an INFO and an UPDATE inside of a call: they raise the phone's CSeq.
func inform(ctx context.Context, p *lab.Leg) (statuses []int, err error) {
	for _, method := range []string{"INFO", "UPDATE"} {
		m, err := p.Ask(ctx, method, "")
		if err != nil {
			return statuses, err
		}
		statuses = append(statuses, m.Status())
	}
	return statuses, nil
}
