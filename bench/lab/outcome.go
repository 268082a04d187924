package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rtcedge/recovery"
)

// Outcome is what all phones of a strike saw, and what the report of the crash says of them.
type Outcome struct {
	Legs      int
	Recovered int             // got a re-INVITE, and media after it
	Invited   []time.Duration // strike to the last re-INVITE
	Talking   []time.Duration // strike to the first packet after it; of a call of two it may come straight from the other one
	Bridged   []time.Duration // strike to the first packet of the new node, as recovery reports it
	Silences  []time.Duration // longest time without a packet of the far end
	Byes      int
	Again     int      // re-INVITEs beside the first
	Strangers []string // requests of no dialog
	Wrong     []string // requests of a dialog that are not right
	Missing   []string
	Silent    []string // recovered, and media heard nothing of the new node
}

// Back tells whether a phone got its re-INVITE and hears the far end since.
func (l *Leg) Back() bool {
	s := l.Seen()
	return len(s.Invited) > 0 && l.Media().Heard().Last.After(s.Invited[len(s.Invited)-1])
}

// fellSilent is when a phone that heard again is lost: a full machine keeps packets back for some 100 ms.
const fellSilent = time.Second

// Settle waits until every leg that a strike hit has its re-INVITE and hears again, or the time is up, and reads the phones.
func Settle(ctx context.Context, legs []*Leg, struck time.Time, limit time.Duration) Outcome {
	wait(ctx, legs, struck, limit)
	Sleep(ctx, time.Second) // for a second re-INVITE or a BYE that must not come
	return read(legs, struck)
}

// Settle waits for the report of the crash, too, and adds when media heard the new node in place of the dead one: the two of a call hear each
// other without it meanwhile.
func (l *Lab) Settle(ctx context.Context, legs []*Leg, struck time.Time, limit time.Duration) (Outcome, error) {
	wait(ctx, legs, struck, limit)
	if l.cfg.NoRecovery {
		return Settle(ctx, legs, struck, limit), nil
	}
	crashes, err := l.reported(ctx, struck)
	o := Settle(ctx, legs, struck, 0)
	o.bridged(crashes, legs, struck)
	return o, err
}

func wait(ctx context.Context, legs []*Leg, struck time.Time, limit time.Duration) {
	for time.Since(struck) < limit && ctx.Err() == nil && !All(legs, (*Leg).Back) {
		Sleep(ctx, 20*time.Millisecond)
	}
}

func read(legs []*Leg, struck time.Time) Outcome {
	o := Outcome{Legs: len(legs)}
	for _, p := range legs {
		s, h := p.Seen(), p.Media().Heard()
		o.Byes += s.Byes
		o.Strangers = append(o.Strangers, s.Strangers...)
		o.Wrong = append(o.Wrong, s.Wrong...)
		silence := max(h.Longest, time.Since(h.Last))
		o.Silences = append(o.Silences, silence)
		if !p.Back() || time.Since(h.Last) > fellSilent {
			o.Missing = append(o.Missing, fmt.Sprintf("%s (%d re-INVITEs, %d refused, %d BYEs, last packet %.1f s after the strike)", p.Name, len(s.Invited), s.Refused, s.Byes, h.Last.Sub(struck).Seconds()))
			continue
		}
		o.Recovered++
		o.Again += len(s.Invited) - 1
		last := s.Invited[len(s.Invited)-1]
		o.Invited = append(o.Invited, last.Sub(struck))
		if first := p.Media().FirstAfter(last); !first.IsZero() {
			o.Talking = append(o.Talking, first.Sub(struck))
		}
	}
	slices.Sort(o.Invited)
	slices.Sort(o.Talking)
	slices.Sort(o.Silences)
	return o
}

// reportTime is how long the report of a crash may take after the last phone hears again.
const reportTime = 10 * time.Second

// reported are the crashes since a strike, when nothing is left to do for any of them.
func (l *Lab) reported(ctx context.Context, struck time.Time) ([]Crash, error) {
	for end := time.Now().Add(reportTime); ; Sleep(ctx, 100*time.Millisecond) { // the last ones listen yet
		crashes, err := l.Crashes(0)
		crashes = slices.DeleteFunc(crashes, func(c Crash) bool { return c.Detected.Before(struck) })
		if err == nil && len(crashes) > 0 && All(crashes, func(c Crash) bool { return c.Reported() }) || time.Now().After(end) || ctx.Err() != nil {
			return crashes, err
		}
	}
}

// bridged takes from the report when media heard the node that has a phone's dialog now: the last one that it was recovered to. (Calls between
// nodes of a conference do not pass media.)
func (o *Outcome) bridged(crashes []Crash, legs []*Leg, struck time.Time) {
	phones := map[string]bool{}
	for _, p := range legs {
		if d := p.Dialog(); d != nil {
			phones[d.CallID] = true
		}
	}
	last := map[string]recovery.LegReport{}
	for _, c := range crashes {
		for _, leg := range c.Legs {
			if leg.Result == recovery.ResultRecovered && phones[leg.SIPCallID] {
				last[leg.SIPCallID] = leg
			}
		}
	}
	for _, leg := range last {
		if i := slices.IndexFunc(leg.Steps, func(s recovery.Step) bool { return s.Name == recovery.StepRTP }); i >= 0 {
			o.Bridged = append(o.Bridged, leg.Steps[i].At.Sub(struck))
		} else {
			o.Silent = append(o.Silent, leg.Leg)
		}
	}
	slices.Sort(o.Bridged)
}

// All tells whether ok holds for every element.
func All[T any](items []T, ok func(T) bool) bool {
	return !slices.ContainsFunc(items, func(it T) bool { return !ok(it) })
}

// Quantile of a sorted list; 0 where it is empty.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func line(d []time.Duration) string {
	ms := func(q float64) int64 { return Quantile(d, q).Milliseconds() }
	return fmt.Sprintf("p50 %d, p90 %d, p99 %d, max %d", ms(.5), ms(.9), ms(.99), ms(1))
}

// Print writes the outcome into the timeline.
func (o Outcome) Print(l *Lab) {
	l.Printf("%d of %d legs recovered; BYEs seen %d; re-INVITEs beside the first %d; requests that are not right %d; of no dialog %d",
		o.Recovered, o.Legs, o.Byes, o.Again, len(o.Wrong), len(o.Strangers))
	l.Printf("strike to re-INVITE, ms: %s", line(o.Invited))
	l.Printf("strike to media after it, ms: %s", line(o.Talking))
	if len(o.Bridged) > 0 {
		l.Printf("strike to media by the new node, ms: %s; %d legs", line(o.Bridged), len(o.Bridged))
	}
	if len(o.Silent) > 0 {
		l.Printf("media heard nothing of the new node for %d legs: %v", len(o.Silent), o.Silent[:min(5, len(o.Silent))])
	}
	l.Printf("silence of a phone, ms:  %s", line(o.Silences))
	for i, m := range o.Missing {
		if i == 5 {
			l.Printf("and %d more", len(o.Missing)-i)
			break
		}
		l.Printf("not recovered: %s", m)
	}
}

// Goal is what an outcome must reach; 0 is not judged.
type Goal struct {
	P50, P99  time.Duration // of the time until the phone hears its far end, and media hears the new node
	Silence99 time.Duration // of the longest silence of each phone
}

// Judge compares an outcome with its goal.
func (o Outcome) Judge(g Goal) error {
	var errs []error
	if o.Recovered != o.Legs || o.Legs == 0 {
		errs = append(errs, fmt.Errorf("%d of %d legs recovered", o.Recovered, o.Legs))
	}
	if o.Byes != 0 {
		errs = append(errs, fmt.Errorf("%d BYEs", o.Byes))
	}
	if len(o.Wrong)+len(o.Strangers) != 0 {
		errs = append(errs, fmt.Errorf("requests of no dialog %v, not right %v", o.Strangers, o.Wrong))
	}
	if len(o.Silent) > 0 {
		errs = append(errs, fmt.Errorf("media heard nothing of the new node for %d legs", len(o.Silent)))
	}
	for _, c := range []struct {
		what  string
		d     []time.Duration
		q     float64
		limit time.Duration
	}{{"p50 until media", o.Talking, .5, g.P50}, {"p99 until media", o.Talking, .99, g.P99}, {"p50 until media by the new node", o.Bridged, .5, g.P50},
		{"p99 until media by the new node", o.Bridged, .99, g.P99}, {"p99 of the silence", o.Silences, .99, g.Silence99}} {
		if v := Quantile(c.d, c.q); c.limit > 0 && v > c.limit {
			errs = append(errs, fmt.Errorf("%s is %v, goal %v", c.what, v, c.limit))
		}
	}
	return errors.Join(errs...)
}

// Farewell has every caller hang up, and wants 200 for each BYE and a BYE at each far end.
func (l *Lab) Farewell(ctx context.Context, pairs []Pair) error {
	return l.farewell(ctx, pairs, func(p Pair) (from, to *Leg) { return p.A, p.B }, "callers")
}

// FarewellBoth has every second callee hang up instead, so that both roles of the farm are heard.
func (l *Lab) FarewellBoth(ctx context.Context, pairs []Pair) error {
	even, odd := []Pair{}, []Pair{}
	for i, p := range pairs {
		if i/2%2 == 0 {
			even = append(even, p)
		} else {
			odd = append(odd, p)
		}
	}
	return errors.Join(l.Farewell(ctx, even), l.farewell(ctx, odd, func(p Pair) (from, to *Leg) { return p.B, p.A }, "callees"))
}

func (l *Lab) farewell(ctx context.Context, pairs []Pair, ends func(Pair) (from, to *Leg), who string) error {
	err := Each(pairs, 20, func(p Pair) error {
		from, to := ends(p)
		if err := from.HangUp(ctx); err != nil {
			return err
		}
		for end := time.Now().Add(answerTime); to.Seen().Byes == 0; Sleep(ctx, 20*time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("%s hung up, %s got no BYE", from.Name, to.Name)
			}
		}
		return nil
	})
	if err == nil {
		l.Printf("afterwards %d BYEs of %s: all answered 200, and every far end got one", len(pairs), who)
	}
	return err
}

// Undisturbed wants every phone to hear the far end without a gap and with no request since the last mark.
func (l *Lab) Undisturbed() error {
	var errs []error
	for _, p := range l.Legs {
		s, h := p.Seen(), p.Media().Heard()
		if len(s.Invited) > 0 || s.Refused > 0 || s.Byes > 0 || len(s.Strangers) > 0 || len(s.Wrong) > 0 {
			errs = append(errs, fmt.Errorf("%s saw %d re-INVITEs, %d BYEs, of no dialog %v, wrong %v", p.Name, len(s.Invited)+s.Refused, s.Byes, s.Strangers, s.Wrong))
		}
		if gap := time.Since(h.Last); gap > time.Second {
			errs = append(errs, fmt.Errorf("%s hears nothing for %v", p.Name, gap.Round(time.Millisecond)))
		}
	}
	if n := len(errs); n > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d more", n-5))
	}
	return errors.Join(errs...)
}

// Mark begins a measurement at all phones.
func (l *Lab) Mark() {
	for _, p := range l.Legs {
		p.Mark()
	}
}
