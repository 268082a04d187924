package farm

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Unix(1_800_000_000, 0)

func newSchedule(interval time.Duration) *schedule {
	s := newQualifier(interval, nil, nil).schedule
	s.phase = rand.New(rand.NewPCG(1, 2)).Float64
	return &s
}

// question is one that the simulation has put.
type question struct {
	id contactID
	at time.Time
}

// simulate runs the schedule to the end on a clock that is as coarse as a timer: contacts answer after rtt, those of silent not at all.
func simulate(s *schedule, start, end time.Time, rtt time.Duration, silent func(contactID) bool) []question {
	const tick = time.Millisecond
	var asked []question
	open := make(map[time.Time][]question) // by the end of the wait
	for now := start; now.Before(end); now = now.Add(tick) {
		for _, q := range open[now] {
			s.done(q.id, !silent(q.id), now)
		}
		delete(open, now)
		for id, ok := s.take(now); ok; id, ok = s.take(now) {
			wait := rtt
			if silent(id) {
				wait = qualifyWait
			}
			asked = append(asked, question{id, now})
			open[now.Add(wait)] = append(open[now.Add(wait)], question{id, now})
		}
	}
	return asked
}

func number(i int) contactID { return contactID{fmt.Sprint(i), "x"} }

// busiest is the largest number of questions in any window of that length.
func busiest(asked []question, window time.Duration) int {
	most, from := 0, 0
	for i, q := range asked {
		for q.at.Sub(asked[from].at) >= window {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// longestGap is the longest time that one of the contacts was not asked for.
func longestGap(asked []question, start, end time.Time, of func(contactID) bool) time.Duration {
	var longest time.Duration
	last := make(map[contactID]time.Time)
	for _, q := range asked {
		if before, ok := last[q.id]; ok {
			start = before
		}
		if of(q.id) {
			longest = max(longest, q.at.Sub(start))
		}
		last[q.id] = q.at
	}
	for id, at := range last {
		if of(id) {
			longest = max(longest, end.Sub(at))
		}
	}
	return longest
}

func nobody(contactID) bool    { return false }
func everybody(contactID) bool { return true }

// TestB32TenThousandContactsDoNotBurst: contacts that registered in one moment are asked in each interval, evenly.
func TestB32TenThousandContactsDoNotBurst(t *testing.T) {
	t.Parallel()
	const contacts, interval, rounds = 10000, 12 * time.Second, 5
	s := newSchedule(interval)
	for i := range contacts {
		s.add(number(i), epoch)
	}
	end := epoch.Add(rounds * interval)
	asked := simulate(s, epoch, end, 80*time.Millisecond, nobody)
	if n := len(asked); n < rounds*contacts-contacts/100 || n > rounds*contacts {
		t.Errorf("%d questions in %d rounds of %d contacts", n, rounds, contacts)
	}
	// The mean is 8.3 in 10 ms and 833 in 1 s.
	if n := busiest(asked, 10*time.Millisecond); n > 30 {
		t.Errorf("%d questions within 10 ms", n)
	}
	if n := busiest(asked, time.Second); n > 1000 {
		t.Errorf("%d questions within 1 s", n)
	}
	if gap := longestGap(asked, epoch, end, everybody); gap > interval+20*time.Millisecond {
		t.Errorf("a contact was not asked for %v", gap)
	}
}

// TestB32SilentContactsDoNotDelayOthers: a third of ten thousand contacts goes silent; the others are asked in time from the
// first round on, and the number that waits for an answer is bounded.
func TestB32SilentContactsDoNotDelayOthers(t *testing.T) {
	t.Parallel()
	const contacts, interval = 10000, 12 * time.Second
	s := newSchedule(interval)
	for i := range contacts {
		s.add(number(i), epoch)
	}
	silent := func(id contactID) bool { return (id.user[len(id.user)-1]-'0')%3 == 1 } // 1, 4, 7
	end := epoch.Add(4 * interval)
	asked := simulate(s, epoch, end, 100*time.Millisecond, silent)
	if gap := longestGap(asked, epoch, end, func(id contactID) bool { return !silent(id) }); gap > interval+50*time.Millisecond {
		t.Errorf("a contact that answers was not asked for %v", gap)
	}
	var toSilent []question
	for _, q := range asked {
		if silent(q.id) && q.at.Sub(epoch) > interval+qualifyWait {
			toSilent = append(toSilent, q)
		}
	}
	if n := busiest(toSilent, qualifyWait); n > qualifySilent || n < qualifySilent/2 {
		t.Errorf("%d silent contacts are asked at a time, want up to %d", n, qualifySilent)
	}
}

// TestB32ScheduleAfterStall: what a stall has made late goes out at the pace, and everyone keeps its phase after.
func TestB32ScheduleAfterStall(t *testing.T) {
	t.Parallel()
	const contacts, interval = 5000, 12 * time.Second
	s := newSchedule(interval)
	for i := range contacts {
		s.add(number(i), epoch)
	}
	simulate(s, epoch, epoch.Add(interval+time.Second), 50*time.Millisecond, nobody)
	resume := epoch.Add(time.Minute)
	// Those that were in flight are answered late, too.
	for id, w := range s.watched {
		if w.at < 0 {
			s.done(id, true, resume)
		}
	}
	asked := simulate(s, resume, resume.Add(3*interval), 50*time.Millisecond, nobody)
	if n := busiest(asked, 10*time.Millisecond); n > 2*qualifyRate/100+1 {
		t.Errorf("%d questions within 10 ms", n)
	}
	if n := busiest(asked, time.Second); n > qualifyRate+2*qualifyRate/100 {
		t.Errorf("%d questions within 1 s", n)
	}
	var after []question
	for _, q := range asked {
		if q.at.Sub(resume) > interval {
			after = append(after, q)
		}
	}
	if n := busiest(after, time.Second); n > 2*contacts/12 {
		t.Errorf("%d questions within 1 s in the round after: the phases are lost", n)
	}
}

// TestB32ScheduleLimits: never more than so many at a time, and silent ones leave room for others.
func TestB32ScheduleLimits(t *testing.T) {
	t.Parallel()
	s := newSchedule(time.Second)
	s.pace, s.maxAsked, s.maxSilent = 0, 4, 2
	s.phase = func() float64 { return 0 }
	for i := range 8 {
		s.add(number(i), epoch)
	}
	take := func(now time.Time) (out []contactID) {
		for id, ok := s.take(now); ok; id, ok = s.take(now) {
			out = append(out, id)
		}
		return out
	}
	first := take(epoch)
	if len(first) != 4 {
		t.Fatalf("%d are asked, want 4", len(first))
	}
	if _, ok := s.next(); ok {
		t.Error("there is a next one, but no place for it")
	}
	for _, id := range first {
		s.done(id, false, epoch)
	}
	// The four that are still to be asked come now, a second later two of those that did not answer.
	for _, id := range take(epoch) {
		s.forget(id) // has left
	}
	if n := len(s.watched); n != 4 {
		t.Errorf("%d are watched, want 4", n)
	}
	if n := len(take(epoch.Add(time.Second))); n != 2 {
		t.Errorf("%d silent ones are asked, want 2", n)
	}
	s.add(number(9), epoch.Add(time.Second))
	if got := take(epoch.Add(time.Second)); len(got) != 1 || got[0] != number(9) {
		t.Errorf("beside the silent ones %v is asked", got)
	}
}

// TestB32ScheduleRegistersAgain: a refresh changes nothing, but one of a silent contact brings it back among the heard.
func TestB32ScheduleRegistersAgain(t *testing.T) {
	t.Parallel()
	s := newSchedule(10 * time.Second)
	s.phase = func() float64 { return 0.5 }
	id := number(1)
	s.add(id, epoch)
	s.add(id, epoch.Add(4*time.Second))
	if at, ok := s.next(); !ok || at != epoch.Add(5*time.Second) {
		t.Fatalf("the first is at %v, %v", at.Sub(epoch), ok)
	}
	if _, ok := s.take(epoch.Add(4999 * time.Millisecond)); ok {
		t.Error("asked too early")
	}
	if got, ok := s.take(epoch.Add(5 * time.Second)); !ok || got != id {
		t.Fatalf("take: %v, %v", got, ok)
	}
	s.add(id, epoch.Add(6*time.Second)) // while it is asked
	s.done(id, false, epoch.Add(8*time.Second))
	if at, _ := s.next(); at != epoch.Add(15*time.Second) || len(s.queues[classSilent]) != 1 {
		t.Errorf("the next is at %v, %d silent", at.Sub(epoch), len(s.queues[classSilent]))
	}
	s.add(id, epoch.Add(9*time.Second))
	if at, _ := s.next(); at != epoch.Add(14*time.Second) || len(s.queues[classSilent]) != 0 {
		t.Errorf("after a REGISTER the next is at %v, %d silent", at.Sub(epoch), len(s.queues[classSilent]))
	}
	if len(s.watched) != 1 || len(s.queues[classHeard]) != 1 {
		t.Errorf("%d watched, %d queued", len(s.watched), len(s.queues[classHeard]))
	}
}

func BenchmarkSchedule(b *testing.B) {
	s := newSchedule(12 * time.Second)
	s.pace = 0
	for i := range 10000 {
		s.add(number(i), epoch)
	}
	b.ReportAllocs()
	for b.Loop() {
		at, _ := s.next()
		id, _ := s.take(at)
		s.done(id, true, at)
	}
}
