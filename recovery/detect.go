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
//   - Silence of the host may be the network. It has to outlast a blip.
//   - Where most nodes are silent or hang at once it is rather our own network that is away, or a machine under all of them that stands still, so that
//     it has to last longer (F18: no storm).
//   - What was silent while we ourselves stood still says nothing.

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
	Host                     // its kernel: does it take TCP connections on the ARI port, or is one open that answers
	ARI                      // its event stream; where that does not answer, GET /ari/asterisk/ping
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
	Stopped  time.Duration // the process on this machine is stopped; default 400 ms: no network is in between, only somebody who stops it for a moment
	Hang     time.Duration // the host answers, neither ARI nor OPTIONS does; default 700 ms. Twice of it where there is no SIP address to ask
	Lost     time.Duration // nothing answers, nothing refuses; default 1200 ms: a blip of 1 s is no crash
	Isolated time.Duration // the same, while at least half of all nodes and more than one are silent; default 8 s: rather our own network
}

func (r *Rule) fill() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&r.Gone, 150 * time.Millisecond}, {&r.Stopped, 400 * time.Millisecond}, {&r.Hang, 700 * time.Millisecond}, {&r.Lost, 1200 * time.Millisecond}, {&r.Isolated, 8 * time.Second}} {
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
	good  [witnesses]time.Time // when it answered last: silence cannot have begun before
	floor time.Time            // nor before this
	ever  bool                 // some witness was good once: a node that never lived cannot die
}

func newDetector(rule Rule) *detector {
	rule.fill()
	return &detector{rule: rule}
}

// see takes what a look that was asked at showed. The time of a silence is when the question was asked, not when the wait for its answer ended; looks
// overlap, so that one that is late may be older than an answer.
func (d *detector) see(asked time.Time, w Witness, s Sign) {
	if s == Good {
		d.ever = true
		if asked.After(d.good[w]) {
			d.good[w] = asked
		}
	} else if s == Silent && asked.Before(d.good[w]) {
		return // a younger question was answered
	}
	if d.signs[w] == s {
		return
	}
	d.signs[w], d.since[w] = s, asked
	if s != Good && d.since[w].Before(d.floor) {
		d.since[w] = d.floor
	}
}

// forgive lets all silence begin now: the witness itself was not there.
func (d *detector) forgive(now time.Time) {
	d.floor = now
	for w := range d.signs {
		if d.signs[w] == Silent || d.signs[w] == Refused && Witness(w) != Process {
			d.since[w] = now
		}
	}
}

// quiet tells whether this node says nothing, while nothing refuses: it is stopped, hangs, or cannot be reached.
func (d *detector) quiet() bool {
	if d.signs[Process] == Refused || d.signs[Host] == Refused || d.signs[Options] == Refused {
		return false
	}
	return d.signs[Process] == Silent || d.signs[ARI] == Silent && d.signs[Options] != Good
}

// silent tells whether not even its host is seen.
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
	limit := func(d time.Duration) time.Duration { return d }
	if isolated {
		limit = func(t time.Duration) time.Duration { return max(t, d.rule.Isolated) }
	}
	ari, options, host := d.signs[ARI], d.signs[Options], d.signs[Host]
	switch {
	case d.signs[Process] == Refused: // the kernel of this machine says so: there is nothing to wait for
		return Dead, "its process is gone"
	case host == Refused && options != Good:
		// With UDP a refusal can be lost or filtered; TCP's comes from the host itself.
		return judge(lasts(Host), d.rule.Gone, "connections are refused")
	case d.signs[Process] == Silent: // what answered before it was stopped is older
		return judge(lasts(Process), limit(d.rule.Stopped), "its process is stopped")
	case ari == Good || options == Good:
		return Alive, ""
	case host == Good && ari == Silent && options == Unseen:
		// Without a SIP address that could be asked one witness has to do: twice as long.
		return judge(min(lasts(Host), lasts(ARI)), limit(2*d.rule.Hang), "its host takes connections, but ARI does not answer")
	case host == Good && ari == Silent:
		// Since the host does: where a network comes back, connections are there first, and the other two have said nothing since it was cut (F18).
		return judge(min(lasts(Host), lasts(ARI), lasts(Options)), limit(d.rule.Hang), "its host takes connections, but neither ARI nor SIP answers")
	case d.silent():
		return judge(min(lasts(Host), lasts(ARI), lasts(Options)), limit(d.rule.Lost), "nothing answers")
	}
	return Doubtful, "witnesses disagree"
}

// isolated tells from the silence of all nodes whether our own network is rather what is away.
func isolated(silent, all int) bool { return silent > 1 && 2*silent >= all }
