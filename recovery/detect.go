package recovery

import (
	"fmt"
	"time"
)

// Detection decides from what a prober saw of a node (probe.go) whether it is dead. The decision is pure: sightings and the time in, a verdict
// out. Its rule weighs what a witness can know:
//
//   - A process that is gone, or a host that answers for a port on which nobody listens, cannot be a fault of the network.
//   - A host whose kernel takes connections while the program behind them says nothing shows a hang.
//   - Silence of the host may be the network. It has to outlast a blip; and where most nodes are silent at once it is rather our own network
//     that is away, so that it has to last longer still (F18: no storm).

// Sign is what one look at one thing showed.
type Sign uint8

// The signs.
const (
	Unseen  Sign = iota // not looked yet, or cannot be looked at
	Good                // it answers
	Refused             // somebody else answers that it is not there
	Silent              // no answer in time
)

// Witness is one thing of a node that is looked at.
type Witness uint8

// The witnesses.
const (
	Process   Witness = iota // the process on this machine: Good, Refused (gone), Silent (stopped)
	Host                     // its kernel: does it take TCP connections on the ARI port
	ARI                      // GET /ari/asterisk/ping
	Options                  // SIP OPTIONS
	witnesses                // their number
)

// Verdict is what the signs add up to.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota // nothing is known yet
	Alive
	Doubtful // signs are bad, but not long enough
	Dead
)

func (v Verdict) String() string { return [...]string{"unknown", "alive", "doubtful", "dead"}[v] }

// Rule holds the times of the verdict. The zero value is the default.
type Rule struct {
	Gone     time.Duration // a refusal by all that can refuse must last so long; default 150 ms: a restart in place refuses as well, but loses the calls, too
	Hang     time.Duration // the host answers, neither ARI nor OPTIONS does; default 700 ms
	Lost     time.Duration // nothing answers, nothing refuses; default 1200 ms: a blip of 1 s is no crash
	Isolated time.Duration // the same, while at least half of all nodes and more than one are silent; default 8 s: rather our own network
}

func (r *Rule) fill() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&r.Gone, 150 * time.Millisecond}, {&r.Hang, 700 * time.Millisecond}, {&r.Lost, 1200 * time.Millisecond}, {&r.Isolated, 8 * time.Second}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// detector keeps the signs of one node. It belongs to one goroutine.
type detector struct {
	rule  Rule
	signs [witnesses]Sign
	since [witnesses]time.Time // when the sign became what it is
	ever  bool                 // some witness was good once: a node that never lived cannot die
}

func newDetector(rule Rule) *detector {
	rule.fill()
	return &detector{rule: rule}
}

// see takes what a look at now showed. The time of a silence is when the question was asked, not when the wait for its answer ended.
func (d *detector) see(now time.Time, w Witness, s Sign) {
	if d.signs[w] != s {
		d.signs[w], d.since[w] = s, now
	}
	d.ever = d.ever || s == Good
}

// silent tells whether this node says nothing at all.
func (d *detector) silent() bool {
	return d.signs[Process] != Good && d.signs[Host] == Silent && d.signs[ARI] != Good && d.signs[Options] != Good && d.signs[Options] != Refused
}

// verdict weighs the signs at now. isolated says that most nodes are silent. The reason names the witness and how long it has shown so.
func (d *detector) verdict(now time.Time, isolated bool) (Verdict, string) {
	if !d.ever {
		return Unknown, ""
	}
	lasts := func(w Witness) time.Duration { return now.Sub(d.since[w]) }
	judge := func(lasted, limit time.Duration, what string) (Verdict, string) {
		reason := fmt.Sprintf("%s for %d ms", what, lasted.Milliseconds())
		if lasted < limit {
			return Doubtful, reason
		}
		return Dead, reason
	}
	ari, options, host := d.signs[ARI], d.signs[Options], d.signs[Host]
	switch {
	case d.signs[Process] == Refused: // the kernel of this machine says so: there is nothing to wait for
		return Dead, "its process is gone"
	case host == Refused && options != Good:
		// With UDP a refusal can be lost or filtered; TCP's comes from the host itself.
		return judge(lasts(Host), d.rule.Gone, "connections are refused")
	case ari == Good || options == Good:
		return Alive, ""
	case d.signs[Process] == Silent:
		return judge(lasts(Process), d.rule.Hang, "its process is stopped")
	case host == Good && ari == Silent && options != Unseen:
		return judge(min(lasts(ARI), lasts(Options)), d.rule.Hang, "its host takes connections, but neither ARI nor SIP answers")
	case d.silent():
		limit := d.rule.Lost
		if isolated {
			limit = d.rule.Isolated
		}
		return judge(min(lasts(Host), lasts(ARI), lasts(Options)), limit, "nothing answers")
	}
	return Doubtful, "witnesses disagree"
}

// isolated tells from the silence of all nodes whether our own network is rather what is away.
func isolated(silent, all int) bool { return silent > 1 && 2*silent >= all }
