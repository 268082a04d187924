//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rtcedge/bench/lab"
	"rtcedge/e2e/farms"
)

func b44(t *testing.T, s *stricken) {
	if err := s.Recontrol(t.Context(), "--hang-after", "700ms", "--lost-after", "1200ms"); err != nil { // the defaults
		t.Fatal(err)
	}
	strikes := []struct {
		name string
		hit  func(*farms.Node) error
	}{
		{"SIGKILL", func(n *farms.Node) error { n.Kill(); return nil }},
		{"SIGSTOP", func(n *farms.Node) error { return n.Signal(syscall.SIGSTOP) }},
	}
	for _, strike := range strikes {
		pairs, n, legs := s.pairs(t, 2)
		at := time.Now()
		if err := strike.hit(n); err != nil {
			t.Fatal(err)
		}
		s.recovered(t, legs, at)
		found := s.crashes(t, 0, n.ID, at)
		if len(found) != 1 {
			t.Fatalf("%s: %d crashes of %s", strike.name, len(found), n.ID)
		}
		after := found[0].Detected.Sub(at)
		t.Logf("%s: %s is dead after %v: %s (the machine stood still for %v)", strike.name, n.ID, after, found[0].Reason, s.machine.stall())
		switch {
		case s.machine.stall() > 100*time.Millisecond:
			t.Log("NOT JUDGED: the machine stood still")
		case after > time.Second:
			t.Errorf("%s was seen after %v, want less than a second", strike.name, after)
		}
		s.farewell(t, pairs)
		n.Kill() // also the one that is stopped: B54 lets it come back
		s.whole(t)
	}

	pairs, n, _ := s.pairs(t, 2)
	at := time.Now()
	if err := n.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pause(t, 300*time.Millisecond)
	if err := n.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	blip := time.Since(at)
	pause(t, time.Second)
	if found := s.crashes(t, 0, "", at); blip+s.machine.stall() > 500*time.Millisecond {
		t.Logf("NOT JUDGED: the blip of 300 ms took %v, the machine stood still for %v", blip, s.machine.stall())
	} else if len(found) > 0 {
		t.Errorf("a blip of %v is a crash: %+v", blip, found)
	} else if err := s.Undisturbed(); err != nil {
		t.Error(err)
	}
	s.farewell(t, pairs)
	if err := s.Recontrol(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func b45(t *testing.T, s *stricken) {
	pairs, n, legs := s.pairs(t, 3)
	at := time.Now()
	s.api.Must("POST", "/v1/farms/"+n.ID+"/drain", map[string]bool{"on": true})
	pause(t, 1500*time.Millisecond)
	if err := s.Undisturbed(); err != nil {
		t.Errorf("drain: %v", err)
	}
	if found := s.crashes(t, 0, "", at); len(found) > 0 {
		t.Errorf("a drain is a crash: %+v", found)
	}
	s.api.Must("POST", "/v1/farms/"+n.ID+"/drain", map[string]bool{"on": false})

	// SIGTERM with calls up: Asterisk says BYE in each of them, and that is what they get.
	n.Stop()
	over := func(p *lab.Leg) bool { return p.Seen().Byes == 1 }
	for end := time.Now().Add(10 * time.Second); !lab.All(legs, over) && time.Now().Before(end); {
		pause(t, 20*time.Millisecond)
	}
	for _, p := range legs {
		if !over(p) {
			t.Errorf("%s got no BYE from the node that stops: %+v:%s", p.Name, p.Seen(), p.Summary())
		}
	}
	pause(t, 1500*time.Millisecond)
	for _, p := range s.Legs {
		seen := p.Seen()
		if len(seen.Invited)+seen.Refused+len(seen.Strangers) > 0 || seen.Byes > 1 {
			t.Errorf("after a graceful stop %s saw %+v", p.Name, seen)
		}
	}
	found := s.crashes(t, 0, n.ID, at)
	for _, c := range found {
		for _, leg := range c.Legs {
			if leg.Result == "recovered" {
				t.Errorf("a leg was recovered after a graceful stop: %+v", leg)
			}
		}
	}
	if len(found) != 1 || found[0].State() != "stopped" {
		t.Errorf("a graceful stop is reported as %+v", found)
	}
	s.farewell(t, slices.DeleteFunc(pairs, func(p lab.Pair) bool { return p.A.Seen().Byes > 0 }))
}

// steer has the edge send new calls to the first call node only ("drain"), or to both again ("up").
func (s *stricken) steer(t *testing.T, verb string) {
	t.Helper()
	if err := s.Steer(verb); err != nil {
		t.Fatal(err)
	}
}

func b46(t *testing.T, s *stricken) {
	pairs, err := s.NewPairs(3)
	if err != nil {
		t.Fatal(err)
	}
	ending, ringing, beside := pairs[0], pairs[1], pairs[2]
	ringing.B.Ring()
	// All on one node: the other one takes no new calls.
	s.steer(t, "drain")
	for _, p := range []lab.Pair{ending, beside} {
		if err := p.A.Dial(t.Context(), p.B.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Heard(t.Context(), []*lab.Leg{ending.A, ending.B, beside.A, beside.B}); err != nil {
		t.Fatal(err)
	}
	type ended struct {
		status int
		after  time.Duration
		err    error
	}
	answers := make(chan ended, 1)
	struck := make(chan time.Time, 1)
	go func() {
		m, err := ringing.A.Call(t.Context(), ringing.B.Name)
		e := ended{err: err, after: time.Since(<-struck)}
		if err == nil {
			e.status = m.Status()
		}
		answers <- e
	}()
	eventually(t, "it rings", 5*time.Second, ringing.B.Ringing)
	s.steer(t, "up")
	n := s.Farm("call")[0]
	// The BYE is on the wire when the node dies: a stopped node does not answer it.
	if err := n.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.Mark()
	bye := make(chan error, 1)
	go func() { bye <- ending.A.HangUp(t.Context()) }()
	pause(t, 150*time.Millisecond)
	at := time.Now()
	struck <- at
	n.Kill()
	o := lab.Settle(t.Context(), []*lab.Leg{beside.A, beside.B}, at, 10*time.Second)
	o.Print(s.Lab)
	if err := o.Judge(lab.Goal{}); err != nil {
		t.Errorf("the call beside: %v", err)
	}
	for end := time.Now().Add(5 * time.Second); ending.B.Seen().Byes == 0 && time.Now().Before(end); {
		pause(t, 20*time.Millisecond)
	}
	if seen := ending.B.Seen(); seen.Byes != 1 {
		t.Errorf("the far end of the call that was ending has no BYE, but %+v:\n%s", seen, ending.B.Summary())
	}
	t.Logf("the far end of the call that was ending had its BYE %v after the crash", ending.B.Seen().ByeAt.Sub(at))
	if seen := ending.A.Seen(); len(seen.Invited)+seen.Refused > 0 {
		t.Errorf("a call with a BYE on the wire was resurrected: %+v", seen)
	}
	e := <-answers
	t.Logf("the call that rang: %d, %v, %v after the crash", e.status, e.err, e.after)
	if e.err != nil || e.status < 480 || e.after > 2*time.Second+s.machine.stall() {
		t.Errorf("a call that rings when its node dies fails within 2 s (F6): %+v", e)
	}
	for _, p := range []*lab.Leg{ringing.A, ringing.B} {
		if seen := p.Seen(); len(seen.Invited)+len(seen.Strangers) > 0 {
			t.Errorf("%s of an unanswered call saw %+v", p.Name, seen)
		}
	}
	if ringing.B.Seen().Cancelled == 0 {
		t.Errorf("the callee of a call that rang goes on ringing:\n%s", ringing.B.Summary())
	}
	if err := <-bye; err != nil && !strings.Contains(err.Error(), "503") { // repeated over UDP it meets the fence
		t.Errorf("the BYE that no node answered: %v", err)
	}
	if err := s.Farewell(t.Context(), pairs[2:]); err != nil {
		t.Error(err)
	}
}

func b47(t *testing.T, s *stricken) {
	pairs, n, legs := s.pairs(t, 6)
	for i, p := range s.Legs {
		switch i % 3 {
		case 0: // the far end's requests are the last ones, and raise its CSeq
			if statuses, err := inform(t.Context(), p); err != nil {
				t.Fatalf("%s: %v, %v", p.Name, statuses, err)
			}
		case 1:
			for range 2 {
				if status, err := p.Reinvite(t.Context(), "sendrecv"); err != nil || status != 200 {
					t.Fatalf("%s: re-INVITE: %d, %v", p.Name, status, err)
				}
			}
		}
	}
	s.Mark()
	at := time.Now()
	n.Kill()
	s.recovered(t, legs, at)
	for _, p := range s.Legs { // what the phone sends now has a CSeq that the new node must take
		if status, err := p.Reinvite(t.Context(), "sendrecv"); err != nil || status != 200 {
			t.Errorf("%s: re-INVITE after the crash: %d, %v", p.Name, status, err)
		}
	}
	for _, role := range []string{"in", "out"} {
		found := false
		for _, c := range s.api.Calls() {
			for _, l := range c.Legs {
				found = found || l.Role == role
			}
		}
		if !found {
			t.Errorf("no leg of role %s was tried", role)
		}
	}
	s.farewell(t, pairs)
}

func b49(t *testing.T, s *stricken) {
	pairs, n, legs := s.pairs(t, 6)
	at := time.Now()
	n.Kill()
	s.recovered(t, legs, at)
	first, second := s.crashes(t, 0, "", at), s.crashes(t, 1, "", at)
	if len(first) != 1 || len(second) != 1 || first[0].Controller != second[0].Controller || len(first[0].Legs) != len(legs) {
		t.Errorf("the controllers report %+v and %+v", first, second)
	}
	// The second crash: all calls are on the other node now, and the first one is back.
	s.whole(t)
	next, legs := s.holder2(t, n)
	s.Mark()
	at = time.Now()
	next.Kill()
	s.recovered(t, legs, at)
	s.farewell(t, pairs)
}

// holder2 is the node beside this one with all phones: calls that were recovered are known to ARI by their Call-ID too.
func (s *stricken) holder2(t *testing.T, not *farms.Node) (*farms.Node, []*lab.Leg) {
	t.Helper()
	n, legs := s.holder(t)
	if n == not || len(legs) != len(s.Legs) {
		t.Fatalf("%s has %d of %d calls", n.ID, len(legs), len(s.Legs))
	}
	return n, legs
}

func b50(t *testing.T, s *stricken) {
	pairs, err := s.NewPairs(5)
	if err != nil {
		t.Fatal(err)
	}
	s.steer(t, "drain")
	for _, p := range pairs {
		if err := p.A.Dial(t.Context(), p.B.Name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Heard(t.Context(), s.Legs); err != nil {
		t.Fatal(err)
	}
	s.steer(t, "up")
	later, unknown, broken, fine, stubborn := pairs[0], pairs[1], pairs[2], pairs[3], pairs[4]
	later.A.Refuse(491, 1)
	stubborn.A.Refuse(491, 99)
	unknown.A.Refuse(481, 9)
	broken.A.Refuse(500, 9)
	s.Mark()
	at := time.Now()
	s.Farm("call")[0].Kill()
	o := lab.Settle(t.Context(), []*lab.Leg{later.A, later.B, fine.A, fine.B}, at, 10*time.Second)
	o.Print(s.Lab)
	if err := o.Judge(lab.Goal{}); err != nil {
		t.Error(err)
	}
	if seen := later.A.Seen(); seen.Refused != 1 || len(seen.Invited) != 1 {
		t.Errorf("after one 491: %+v", seen)
	}
	eventually(t, "the far ends of what was closed get a BYE", 5*time.Second, func() bool {
		return unknown.B.Seen().Byes == 1 && broken.B.Seen().Byes == 1
	})
	if seen := unknown.A.Seen(); seen.Byes != 0 || seen.Refused != 1 {
		t.Errorf("481 is the end of the dialog: no BYE, no second INVITE: %+v", seen)
	}
	if seen := broken.A.Seen(); seen.Byes != 1 || seen.Refused != 1 {
		t.Errorf("after a 500 the phone gets a BYE in the old dialog, once: %+v", seen)
	}
	// No node says anything for who has had six tries: recovery does, through the edge.
	eventually(t, "who refused each try gets a BYE, and who it spoke with", 20*time.Second, func() bool {
		return stubborn.A.Seen().Byes == 1 && stubborn.B.Seen().Byes == 1
	})
	if seen := stubborn.A.Seen(); seen.Refused != 6 || len(seen.Wrong)+len(seen.Strangers) > 0 {
		t.Errorf("after six times 491: %+v", seen)
	}
	s.farewell(t, []lab.Pair{later, fine})
}

func b54(t *testing.T, s *stricken) {
	pairs, n, legs := s.pairs(t, 4)
	at := time.Now()
	if err := n.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.recovered(t, legs, at)
	before := s.metrics(t, s.Admin("sip").String())["sip_dropped_total{reason=\"fenced\"}"]
	s.Mark()
	if err := n.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// It finds out that it has been away, and recovery has it end its old channels: BYEs that must reach nobody.
	var channels []struct{ ID string }
	eventually(t, "the node is rid of its old channels", 10*time.Second, func() bool {
		return n.Get("/channels", &channels) == nil && len(channels) == 0
	})
	pause(t, 1500*time.Millisecond)
	if err := s.Undisturbed(); err != nil {
		t.Error(err)
	}
	after := s.metrics(t, s.Admin("sip").String())["sip_dropped_total{reason=\"fenced\"}"]
	t.Logf("the edge dropped %.0f messages of the node that came back", after-before)
	if after <= before {
		t.Errorf("the edge dropped no message of the fenced node (%v, then %v): it had nothing to say", before, after)
	}
	// The node that has all calls now dies while the other one is behind its fence: they wait for somebody whom the edges let speak. A new process is one.
	other, legs := s.holder2(t, n)
	s.Mark()
	at = time.Now()
	other.Kill()
	pause(t, 2*time.Second)
	for _, p := range legs {
		if seen := p.Seen(); len(seen.Invited)+seen.Byes > 0 {
			t.Errorf("%s saw %+v of a node behind its fence", p.Name, seen)
		}
	}
	if found := s.crashes(t, 0, other.ID, at); len(found) != 1 || found[0].Results["failed"] > 0 {
		t.Errorf("the second crash: %+v", found)
	}
	n.Kill()
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	s.recovered(t, legs, at)
	for _, c := range s.crashes(t, 0, other.ID, at) {
		for _, leg := range c.Legs {
			if leg.Result != "recovered" {
				t.Errorf("leg %s of the second crash: %s, %s", leg.Leg, leg.Result, leg.Reason)
			}
		}
	}
	s.farewell(t, pairs)
}

func b55(t *testing.T, s *stricken) {
	pairs, n, legs := s.pairs(t, 2)
	at := time.Now()
	n.Kill()
	s.recovered(t, legs, at)
	var found []lab.Crash
	eventually(t, "the crash is over", 10*time.Second, func() bool {
		found = s.crashes(t, 0, n.ID, at)
		return len(found) == 1 && found[0].Reported()
	})
	if len(found[0].Legs) != len(legs) {
		t.Fatalf("the report of %s: %+v", n.ID, found)
	}
	for _, leg := range found[0].Legs {
		last, came := found[0].Since, map[string]string{}
		for _, step := range leg.Steps {
			if step.At.Before(last) {
				t.Errorf("step %s of %s is before the one before it", step.Name, leg.Leg)
			}
			last, came[step.Name] = step.At, step.Result
		}
		for name, want := range map[string]string{"found": "", "dialog": "own capture", "join": "joined", "claimed": "", "invite": string(leg.Target), "answered": "200", "goes on": "bridge", "recovered": "recovered", "rtp": ""} {
			if result, ok := came[name]; !ok || result != want {
				t.Errorf("step %s of leg %s came to %q, want %q; all of them: %v", name, leg.Leg, result, want, came)
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), edgeProgram.binary(t), "crashes", n.ID, "--admin", s.Controller(1).String()).CombinedOutput()
	if err != nil {
		t.Fatalf("rtcedge crashes: %v: %s", err, out)
	}
	t.Logf("rtcedge crashes %s:\n%s", n.ID, out)
	for _, leg := range found[0].Legs {
		if !strings.Contains(string(out), leg.Leg) {
			t.Errorf("rtcedge crashes has no leg %s", leg.Leg)
		}
	}
	whole := map[string]string{}
	for _, step := range found[0].Steps {
		whole[step.Name] = step.Result
	}
	if whole["fence at "+s.Admin("sip").String()] != "fenced" || whole["lease"] != found[0].Controller || whole["sessions found"] != fmt.Sprint(len(legs), " legs") {
		t.Errorf("the steps of the crash: %v", whole)
	}
	recovered := 0.0
	for i := range 2 {
		recovered += s.metrics(t, s.Controller(i).String())[`recovery_legs_total{result="recovered"}`]
	}
	if recovered < float64(len(legs)) {
		t.Errorf("the metrics of both controllers say %v legs recovered", recovered)
	}
	for _, span := range []string{"verdict", "recovered", "rtp", "silence"} {
		timed := 0.0
		for i := range 2 {
			timed += s.metrics(t, s.Controller(i).String())[`recovery_seconds_count{span="`+span+`"}`]
		}
		if timed < 1 {
			t.Errorf("nothing was timed as %s", span)
		}
	}
	s.farewell(t, pairs)
}

// metrics reads an admin port.
func (s *stricken) metrics(t *testing.T, admin string) map[string]float64 {
	t.Helper()
	res, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out := map[string]float64{}
	var line string
	for _, line = range strings.Split(readAll(t, res), "\n") {
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[at+1:], &v); err == nil {
			out[strings.TrimPrefix(line[:at], "rtcedge_")] = v
		}
	}
	return out
}
