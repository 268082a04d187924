package recovery

import (
	"testing"
	"time"
)

// look is what one round of probes shows; the fields stand in the order of the witnesses.
type look struct{ process, host, ari, options Sign }

var (
	lives   = look{Unseen, Good, Good, Good}
	refused = look{Unseen, Refused, Refused, Refused}
	hangs   = look{Unseen, Good, Silent, Silent}
	nothing = look{Unseen, Silent, Silent, Silent}
)

// play shows a node for whole steps of 100 ms each and returns when the verdict became Dead, -1 if it never did.
func play(isolated bool, scenes ...any) (dead time.Duration, last Verdict) {
	const step = 100 * time.Millisecond
	d := newDetector(Rule{})
	start := time.Unix(1000, 0)
	now := start
	dead = -1
	for i := 0; i < len(scenes); i += 2 {
		l := scenes[i].(look)
		for range scenes[i+1].(int) {
			for w, s := range []Sign{l.process, l.host, l.ari, l.options} {
				d.see(now, Witness(w), s)
			}
			last, _ = d.verdict(now, isolated)
			if last == Dead && dead < 0 {
				dead = now.Sub(start)
			}
			now = now.Add(step)
		}
	}
	return dead, last
}

// TestB44Verdicts: each way to die is seen within a second, but for the loss of a host, which a blip of 1 s must not look like.
func TestB44Verdicts(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name     string
		isolated bool
		scenes   []any
		from, to time.Duration // when Dead is said; -1: never
	}{
		{"lives", false, []any{lives, 100}, -1, -1},
		{"killed", false, []any{lives, 10, refused, 10}, 1000 * ms, 1300 * ms},
		{"killed, ICMP filtered", false, []any{lives, 10, look{Unseen, Refused, Refused, Silent}, 10}, 1000 * ms, 1300 * ms},
		{"killed, its process known", false, []any{look{Good, Good, Good, Good}, 10, look{Refused, Refused, Refused, Refused}, 1}, 1000 * ms, 1000 * ms},
		{"one refusal", false, []any{lives, 10, refused, 1, lives, 20}, -1, -1},
		{"stopped (SIGSTOP)", false, []any{lives, 10, hangs, 20}, 1000 * ms, 2000 * ms},
		{"hangs, and has no SIP address to ask", false, []any{look{Unseen, Good, Good, Unseen}, 10, look{Unseen, Good, Silent, Unseen}, 30}, 2400 * ms, 2600 * ms},
		{"the same for half a second", false, []any{look{Unseen, Good, Good, Unseen}, 10, look{Unseen, Good, Silent, Unseen}, 5, look{Unseen, Good, Good, Unseen}, 20}, -1, -1},
		{"is killed, and has no SIP address to ask", false, []any{look{Unseen, Good, Good, Unseen}, 10, look{Unseen, Refused, Refused, Unseen}, 10}, 1150 * ms, 1300 * ms},
		{"stopped, its process known", false, []any{look{Good, Good, Good, Good}, 10, look{Silent, Good, Silent, Silent}, 20}, 1000 * ms, 2000 * ms},
		{"stopped for half a second", false, []any{lives, 10, hangs, 5, lives, 20}, -1, -1},
		{"ARI hangs, SIP answers", false, []any{lives, 10, look{Unseen, Good, Silent, Good}, 100}, -1, -1},
		{"SIP hangs, ARI answers", false, []any{lives, 10, look{Unseen, Good, Good, Silent}, 100}, -1, -1},
		{"network away for 1 s", false, []any{lives, 10, nothing, 10, lives, 20}, -1, -1},
		{"F18: network away for 1 s, and the host is there first", false, []any{lives, 10, nothing, 10, hangs, 4, lives, 20}, -1, -1},
		{"host lost", false, []any{lives, 10, nothing, 30}, 2000 * ms, 2500 * ms},
		{"F18: half of the nodes silent for 5 s", true, []any{lives, 10, nothing, 50, lives, 20}, -1, -1},
		{"half of the nodes silent for good", true, []any{lives, 10, nothing, 100}, 9000 * ms, 9300 * ms},
		{"F18: the machine under half of the nodes stands still for 5 s", true, []any{lives, 10, hangs, 50, lives, 20}, -1, -1},
		{"F18: half of the processes are stopped for 5 s", true, []any{look{Good, Good, Good, Good}, 10, look{Silent, Good, Silent, Silent}, 50, look{Good, Good, Good, Good}, 20}, -1, -1},
		{"half of the nodes hang for good", true, []any{lives, 10, hangs, 100}, 9000 * ms, 9300 * ms},
		{"killed while others are silent", true, []any{lives, 10, refused, 10}, 1000 * ms, 1300 * ms},
		{"never lived", false, []any{refused, 50, nothing, 50}, -1, -1},
		{"two witnesses disagree", false, []any{lives, 10, look{Unseen, Refused, Refused, Good}, 50}, -1, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dead, _ := play(tt.isolated, tt.scenes...)
			if tt.to < 0 && dead >= 0 || tt.to >= 0 && (dead < tt.from || dead > tt.to) {
				t.Errorf("dead at %v, want %v to %v", dead, tt.from, tt.to)
			}
		})
	}
}

// TestVerdictFallsBack: a node that answers again is alive again; whether its calls may come back is the fence's business.
func TestVerdictFallsBack(t *testing.T) {
	if _, last := play(false, lives, 5, refused, 10, lives, 1); last != Alive {
		t.Errorf("after its return the verdict is %v", last)
	}
}

// TestF18Isolated: one of two nodes may be lost; both at once rather mean that we are cut off.
func TestF18Isolated(t *testing.T) {
	for _, tt := range []struct {
		silent, all int
		want        bool
	}{{0, 3, false}, {1, 1, false}, {1, 2, false}, {2, 2, true}, {1, 3, false}, {2, 3, true}, {2, 5, false}, {3, 5, true}} {
		if got := isolated(tt.silent, tt.all); got != tt.want {
			t.Errorf("%d of %d silent: isolated %v", tt.silent, tt.all, got)
		}
	}
}

// TestF18OwnStall: the sentinel itself stands still for 5 s. What it had begun to ask before says nothing about the node; a silence that goes on after
// that is counted anew.
func TestF18OwnStall(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	d := newDetector(Rule{})
	all := func(now time.Time, l look) {
		for w, s := range []Sign{l.process, l.host, l.ari, l.options} {
			d.see(now, Witness(w), s)
		}
	}
	all(at(0), lives)
	all(at(100), hangs) // asked before, and timed out while nobody looked
	d.forgive(at(5100))
	all(at(150), hangs) // another one that was on its way
	if v, why := d.verdict(at(5110), false); v == Dead {
		t.Fatalf("right after a stall of ours the node is said dead: %s", why)
	}
	all(at(5200), hangs)
	if v, _ := d.verdict(at(5700), false); v != Doubtful {
		t.Errorf("0.6 s after the stall: %v", v)
	}
	if v, _ := d.verdict(at(5810), false); v != Dead {
		t.Errorf("a node that hangs on is %v", v)
	}
	all(at(5900), lives)
	if v, _ := d.verdict(at(5900), false); v != Alive {
		t.Errorf("a node that answers is %v", v)
	}
}

// TestF18LateAnswers: a node that takes 400 ms for each answer is busy, not dead: silence lasts from the youngest answered question on.
func TestF18LateAnswers(t *testing.T) {
	d := newDetector(Rule{})
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	d.see(at(0), Host, Good)
	for ms := 0; ms < 5000; ms += 10 {
		for _, w := range []Witness{ARI, Options} {
			if asked := ms - 140; asked >= 0 && asked%150 == 0 {
				d.see(at(asked), w, Silent)
			}
			if asked := ms - 400; asked >= 0 && asked%150 == 0 {
				d.see(at(asked), w, Good)
			}
		}
		if v, why := d.verdict(at(ms), false); v == Dead {
			t.Fatalf("%d ms: %s", ms, why)
		}
	}
}
