package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"rtcedge/sip/siptest"
)

// Chosen by us.
const (
	lowest  = 300.0 // Hz of the first participant
	highest = 3300.0
	soft    = -34.0 // dBFS: the sum of a hundred stays below full scale
	near    = 6.0   // dB around the median in which every other one must be heard
	absent  = 20.0  // dB below it that one's own voice must be
	window  = time.Second
	tries   = 5 // of a window with a packet missing, or in which the generator was not
	steady  = 40 * time.Millisecond
)

// measureConference lets participants into one conference, each with a tone of its own, and looks for every tone in what every one of them hears.
func (s *system) measureConference(ctx context.Context, t *table, count int, long time.Duration) error {
	const number = "7100"
	if err := s.idle(); err != nil {
		return err
	}
	legs, calls, ups, err := s.room(ctx, t, number, count)
	defer func() {
		for _, l := range legs {
			s.band.leave(l)
		}
	}()
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	for _, l := range legs {
		l.mark()
	}
	stalled := s.band.stalled()
	before, err := s.usage()
	if err != nil {
		return err
	}
	start := time.Now()
	var reports []mix
	again := 0
	for look := range 3 {
		wait := time.Until(start.Add(long * time.Duration(look) / 3))
		select {
		case <-time.After(max(wait, 0)):
		case <-ctx.Done():
			return ctx.Err()
		}
		var m mix
		for try := range tries { // a window that this machine has not filled says nothing of the mix; a mix that is wrong stays so
			if try > 0 {
				again++
			}
			stalled = max(stalled, s.band.stalled())
			m = listen(legs)
			m.Stalled = s.band.stalled()
			stalled = max(stalled, m.Stalled)
			t.raw("listening %d after %v: %+v", look+1, time.Since(start).Round(time.Second), m)
			if m.clean() && m.Missing+m.Selves == 0 {
				break
			}
		}
		reports = append(reports, m)
	}
	time.Sleep(time.Until(start.Add(long)))
	after, err := s.usage()
	if err != nil {
		return err
	}
	took := time.Since(start)
	ended, least, worst := 0, math.MaxInt, time.Duration(0)
	for i, l := range legs {
		select {
		case <-calls[i].Done():
			ended++
		default:
		}
		packets, gap := l.heard()
		least, worst = min(least, packets), max(worst, gap)
	}
	slices.Sort(ups)
	whole := mix{Least: math.Inf(1), Own: math.Inf(-1), Came: 1}
	for _, m := range reports {
		whole.Missing += m.Missing
		whole.Selves += m.Selves
		whole.Stalled = max(whole.Stalled, m.Stalled)
		whole.Least, whole.Own, whole.Came = min(whole.Least, m.Least), max(whole.Own, m.Own), min(whole.Came, m.Came)
	}
	t.row("conference of %d participants on one Asterisk, all talking, for %v", "%d left by themselves; each got at least %.2f packets/s, longest gap %v (the generator was late by %v); an INVITE is answered after p50 %v, p99 %v",
		count, took.Round(time.Second), ended, float64(least)/took.Seconds(), worst.Round(100*time.Microsecond), max(stalled, s.band.stalled()), quantile(ups, 50), quantile(ups, 99))
	judged := ""
	if !whole.clean() {
		judged = fmt.Sprintf("NOT JUDGED, since this machine stood still for %v or lost packets in a window: ", whole.Stalled)
	}
	pairs := count * (count - 1) * len(reports)
	t.row("everyone hears the sum of the others", "%sof %d tones of others (%d participants, %d listenings of %v, %d of them had to be repeated) %d are more than %.0f dB off the median, the weakest is %+.1f dB; one's own tone is %.0f dB below it or less (%d echoes); %.1f %% of the audio of a window came at least",
		judged, pairs, count, len(reports), window, again, whole.Missing, near, whole.Least, -whole.Own, whole.Selves, 100*whole.Came)
	t.row("processor time of the conference, of one core", "%s", strings.Join(after.since(before), ", "))
	for _, c := range calls {
		if err := c.Hangup(ctx); err != nil {
			return err
		}
	}
	if ended > 0 || judged == "" && whole.Missing+whole.Selves > 0 {
		return fmt.Errorf("conference: %d tones missing, %d echoes, %d ended", whole.Missing, whole.Selves, ended)
	}
	return nil
}

// room lets participants into a conference. Who is in is returned with an error, too.
func (s *system) room(ctx context.Context, t *table, number string, count int) (legs []*leg, calls []*siptest.Call, ups []time.Duration, err error) {
	for i := range count {
		l, err := newLeg(s.hosts, lowest+(highest-lowest)*float64(i)/float64(count), soft)
		if err != nil {
			return legs, calls, ups, err
		}
		call, _, up, err := s.dial(ctx, number, l)
		for again := 0; err != nil && again < 5 && ctx.Err() == nil; again++ { // the edge's probes of a node may be late on a busy machine
			t.raw("participant %d, once more: %v", i+1, err)
			time.Sleep(time.Second)
			call, _, up, err = s.dial(ctx, number, l)
		}
		if err != nil {
			l.close()
			return legs, calls, ups, fmt.Errorf("participant %d: %w", i+1, err)
		}
		legs, calls, ups = append(legs, l), append(calls, call), append(ups, up)
		time.Sleep(50 * time.Millisecond)
	}
	return legs, calls, ups, nil
}

// mix is what all of them heard.
type mix struct {
	Missing int     // tones of others off the median
	Selves  int     // who heard themselves
	Least   float64 // dB of the weakest tone of another, against the median of its listener
	Own     float64 // dB of the strongest own tone, against the same
	Came    float64 // share of the window that came, of the one who got least
	Stalled time.Duration
}

// clean tells if the window says something of the mix, and not of the machine.
func (m mix) clean() bool { return m.Came == 1 && m.Stalled <= steady }

func listen(legs []*leg) mix {
	for _, l := range legs {
		l.record(window)
	}
	time.Sleep(window + 300*time.Millisecond)
	m := mix{Least: math.Inf(1), Own: math.Inf(-1), Came: 1}
	for i, l := range legs {
		pcm, came := l.recorded()
		m.Came = min(m.Came, came)
		levels := make([]float64, len(legs))
		for j, other := range legs {
			levels[j] = level(pcm, other.hz)
		}
		own := levels[i]
		others := slices.Delete(slices.Clone(levels), i, i+1)
		slices.Sort(others)
		median := others[len(others)/2]
		for _, v := range others {
			m.Least = min(m.Least, v-median)
			if math.Abs(v-median) > near || median < soft-12 {
				m.Missing++
			}
		}
		m.Own = max(m.Own, own-median)
		if own > median-absent {
			m.Selves++
		}
	}
	return m
}
