package farm

import (
	"container/heap"
	"time"
)

// contactID names a binding over its refreshes.
type contactID struct{ user, key string }

// schedule says which contact is to be asked when. It is pure: time comes in by argument, and it belongs to one goroutine.
//
// Each contact has a phase of its own within the interval and keeps it, so that contacts that registered in one moment are
// not asked in one. What is late, after a stall or because too many are due, goes out at the pace and not in a burst.
//
// Silent contacts have a queue and a limit of their own: each occupies its place until the wait for the answer is over, and
// would keep the contacts that do answer from being asked in time.
type schedule struct {
	interval  time.Duration
	pace      time.Duration  // least time between two, in the mean
	slack     time.Duration  // how much of the pace may be made up at once
	maxAsked  int            // contacts asked at a time
	maxSilent int            // silent ones among them
	phase     func() float64 // 0 to 1

	watched map[contactID]*watch
	queues  [2]queue // by class
	asked   [2]int   // by class, of those that are in no queue
	free    time.Time
}

// class is what the last question to a contact came to.
type class uint8

const (
	classHeard class = iota // answered, or never asked
	classSilent
)

// watch is one contact in the schedule.
type watch struct {
	id    contactID
	due   time.Time
	class class
	at    int // index in its queue; negative: being asked
}

// add takes a contact in that has registered now. One that was silent counts as heard again: it has just spoken.
func (s *schedule) add(id contactID, now time.Time) {
	due := now.Add(time.Duration(s.phase() * float64(s.interval)))
	w := s.watched[id]
	switch {
	case w == nil:
		w = &watch{id: id}
		s.watched[id] = w
	case w.at < 0 || w.class == classHeard:
		return
	default:
		heap.Remove(&s.queues[w.class], w.at)
	}
	w.class, w.due = classHeard, due
	heap.Push(&s.queues[w.class], w)
}

// take gives out the next contact that is to be asked now, if there is one. It is given back by done or forget.
func (s *schedule) take(now time.Time) (contactID, bool) {
	c, ok := s.pick()
	if !ok || s.free.After(now) || s.queues[c][0].due.After(now) {
		return contactID{}, false
	}
	w := heap.Pop(&s.queues[c]).(*watch)
	s.asked[c]++
	if least := now.Add(-s.slack); s.free.Before(least) {
		s.free = least
	}
	s.free = s.free.Add(s.pace)
	return w.id, true
}

// next is when take will have one, if nothing else happens.
func (s *schedule) next() (time.Time, bool) {
	c, ok := s.pick()
	if !ok {
		return time.Time{}, false
	}
	if due := s.queues[c][0].due; due.After(s.free) {
		return due, true
	}
	return s.free, true
}

// pick is the class whose first contact is due first and may be asked.
func (s *schedule) pick() (class, bool) {
	heard, silent := s.queues[classHeard], s.queues[classSilent]
	switch {
	case s.asked[classHeard]+s.asked[classSilent] >= s.maxAsked:
		return 0, false
	case len(silent) == 0 || s.asked[classSilent] >= s.maxSilent:
		return classHeard, len(heard) > 0
	case len(heard) == 0 || silent[0].due.Before(heard[0].due):
		return classSilent, true
	}
	return classHeard, true
}

// done gives a contact back that was asked. The next time is a whole number of intervals after the last one was due.
func (s *schedule) done(id contactID, answered bool, now time.Time) {
	w := s.watched[id]
	s.asked[w.class]--
	w.class = classSilent
	if answered {
		w.class = classHeard
	}
	w.due = w.due.Add((now.Sub(w.due)/s.interval + 1) * s.interval)
	heap.Push(&s.queues[w.class], w)
}

// forget gives a contact back that is not registered any more.
func (s *schedule) forget(id contactID) {
	s.asked[s.watched[id].class]--
	delete(s.watched, id)
}

// queue is a heap by due time.
type queue []*watch

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push is called by package heap only.
func (q *queue) Push(x any) {
	w := x.(*watch)
	w.at = len(*q)
	*q = append(*q, w)
}

// Pop is called by package heap only.
func (q *queue) Pop() any {
	last := len(*q) - 1
	w := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	w.at = -1
	return w
}
