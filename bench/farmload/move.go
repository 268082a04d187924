package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Chosen by us.
const (
	moveWindow = 12 * time.Second       // what is kept of each one's audio around a move
	quietFrame = -50.0                  // dBFS of 20 ms in which one hears nobody
	fewer      = 3.0                    // dB below the usual sum: half of the others are missing
	span       = 100 * time.Millisecond // in which a sum of tones is judged
)

// spare keeps the second conference node free, so that a conference is on the first one alone.
func (s *system) spare(on bool) error {
	nodes := s.Farm("conference")
	what := map[bool]string{true: "drain", false: "up"}[on]
	resp, err := http.Post("http://"+s.Admin("sip").String()+"/farm/"+what+"?"+url.Values{"node": {"udp:" + nodes[1].SIP.String()}}.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s at the edge: %s", what, nodes[1].ID, resp.Status)
	}
	return s.drain(nodes[1].ID, on)
}

func (s *system) drain(node string, on bool) error {
	return s.api(s.API(), "POST", "/v1/farms/"+node+"/drain", map[string]bool{"on": on}, nil)
}

// measureMove drains the node of a conference, and listens to what its participants hear of the move.
func (s *system) measureMove(ctx context.Context, t *table, count int) error {
	const number = "7101"
	if err := s.idle(); err != nil {
		return err
	}
	nodes := s.Farm("conference")
	legs, calls, _, err := s.room(ctx, t, number, count)
	defer func() {
		for _, l := range legs {
			s.band.leave(l)
		}
	}()
	if err != nil {
		return err
	}
	if err := s.spare(false); err != nil {
		return err
	}
	time.Sleep(time.Second)
	s.band.stalled()
	for _, l := range legs {
		l.record(moveWindow)
	}
	time.Sleep(time.Second) // of what is usual
	start := time.Now()
	if err := s.drain(nodes[0].ID, true); err != nil {
		return err
	}
	var took time.Duration
	for took == 0 {
		var list []callOf
		if err := s.api(s.API(), "GET", "/v1/conferences", nil, &list); err != nil {
			return err
		}
		if len(list) == 1 && list[0].Node == nodes[1].ID && len(list[0].Legs) == count {
			took = time.Since(start)
		} else if time.Since(start) > 30*time.Second {
			return errors.New("the conference has not moved after 30 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(max(time.Until(start.Add(moveWindow-time.Second)), 0))
	stalled := s.band.stalled()
	var silences, thin []time.Duration
	for _, l := range legs {
		pcm, _ := l.recorded()
		silence, few := holes(pcm)
		silences, thin = append(silences, silence), append(thin, few)
	}
	slices.Sort(silences)
	slices.Sort(thin)
	ended := 0
	for _, c := range calls {
		select {
		case <-c.Done():
			ended++
		default:
		}
	}
	var m mix
	for range tries {
		m = listen(legs)
		m.Stalled = s.band.stalled()
		t.raw("listening after the move: %+v", m)
		if m.clean() && m.Missing+m.Selves == 0 {
			break
		}
	}
	judged := ""
	if !m.clean() {
		judged = fmt.Sprintf("NOT JUDGED, since this machine stood still for %v or lost packets: ", m.Stalled)
	}
	t.row("that conference of %d moves to another Asterisk, its node drains", "%d hung up; on the new node after %v; heard nobody for p50 %v, at most %v, and less than half of the others for p50 %v, at most %v (the generator was late by %v); %safter it %d of %d tones of others missing, %d echoes",
		count, ended, took.Round(10*time.Millisecond), quantile(silences, 50), silences[len(silences)-1], quantile(thin, 50), thin[len(thin)-1], stalled, judged, m.Missing, count*(count-1), m.Selves)
	for _, c := range calls {
		if err := c.Hangup(ctx); err != nil {
			return err
		}
	}
	if ended > 0 || judged == "" && m.Missing+m.Selves > 0 {
		return fmt.Errorf("conference that moves: %d tones missing, %d echoes, %d ended", m.Missing, m.Selves, ended)
	}
	return s.drain(nodes[0].ID, false)
}

// holes are the longest time without a sound, and the longest in which the sum is that of less than half of the others. What was not recorded at the
// end is none.
func holes(pcm []int16) (silence, few time.Duration) {
	for len(pcm) > 0 && pcm[len(pcm)-1] == 0 {
		pcm = pcm[:len(pcm)-1]
	}
	run := func(size int, below float64) time.Duration {
		longest, now := 0, 0
		for at := 0; at+size <= len(pcm); at += samples {
			if now++; power(pcm[at:at+size]) >= below {
				now = 0
			}
			longest = max(longest, now)
		}
		return time.Duration(longest) * frame
	}
	wide := int(span.Seconds() * rate)
	var usual []float64
	for at := 0; at+wide <= len(pcm) && at < rate; at += samples { // the first second
		usual = append(usual, power(pcm[at:at+wide]))
	}
	if len(usual) == 0 {
		return moveWindow, moveWindow
	}
	slices.Sort(usual)
	return run(samples, quietFrame), run(wide, usual[len(usual)/2]-fewer)
}

// power is the level of what was heard, in dBFS.
func power(pcm []int16) float64 {
	var sum float64
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return 10 * math.Log10(max(sum/float64(len(pcm))/(32767*32767), 1e-9))
}
