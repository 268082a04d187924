package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

const (
	// minApart is how far the others must stand above the own voice in a conference, in dB.
	minApart = 20
	// toneLevel is what each participant sends, in dBFS, and minLevel what must be left of it at the others.
	toneLevel, minLevel = -15, -21
)

// conferenceRows lets three phones meet, each with a tone of its own, and one row tells what each hears.
func (p plan) conferenceRows(ctx context.Context) []row {
	tones := [3]float64{433, 701, 1129}
	codecs := [3]codec{pcmu, pcma, g722}
	rows, reports := make([]row, 3), make([]mediatest.Report, 3)
	ready, begin := make(chan struct{}, 3), make(chan struct{})
	var wg sync.WaitGroup
	for i := range rows {
		l := line{who: p.echoAccount(i), transport: "udp", codec: codecs[i], audio: mediatest.Tone(tones[i], toneLevel, p.talk)}
		wg.Go(func() { rows[i], reports[i] = p.participant(ctx, l, ready, begin) })
	}
	for range rows {
		<-ready
	}
	close(begin)
	wg.Wait()
	for i, rep := range reports {
		if rows[i].verdict == pass {
			rows[i] = rows[i].judgeConference(rep, p.talk, tones, i)
		}
	}
	return rows
}

// participant joins, waits until all have joined, talks and listens, and leaves.
func (p plan) participant(ctx context.Context, l line, ready chan<- struct{}, begin <-chan struct{}) (row, mediatest.Report) {
	r := row{call: l.who.User + " -> " + p.conference, transport: l.transport, codec: l.codec.name}
	ph, err := p.newPhone(ctx, l)
	ready <- struct{}{}
	if err != nil {
		return r.failed("%v", err), mediatest.Report{}
	}
	// All phones are registered: they dial within milliseconds of each other, so all talk through the part that is judged.
	<-begin
	call, err := p.talkTo(ctx, ph, p.conference, &r)
	if err != nil {
		r = r.failed("%v", err)
	} else if err := call.Hangup(ctx); err != nil {
		r = r.failed("%v", err)
	}
	rep := ph.peer.Report()
	if err := ph.away(ctx); err != nil && r.verdict == pass {
		r = r.failed("%v", err)
	}
	return r, rep
}

// judgeConference listens for the three tones while all of them last, however unequally the phones were connected.
func (r row) judgeConference(rep mediatest.Report, talk time.Duration, tones [3]float64, own int) row {
	if r = r.checkPackets(rep); r.verdict != pass {
		return r
	}
	from, to := rep.Rate, min(len(rep.Recording), int(talk.Seconds()*float64(rep.Rate))-rep.Rate*5/4)
	if to-from < rep.Rate/2 {
		return r.failed("less than half a second of audio to judge")
	}
	weakest, self := math.Inf(1), 0.0
	for i, hz := range tones {
		l := mediatest.Level(rep.Recording[from:to], rep.Rate, hz)
		if i == own {
			self = l
		} else {
			weakest = min(weakest, l)
		}
	}
	r.snr = weakest - self
	switch {
	case weakest < minLevel:
		return r.failed("one of the others is heard at %.0f dBFS, it sent %d", weakest, toneLevel)
	case r.snr < minApart:
		return r.failed("the others are %.1f dB above the own voice, want %d", r.snr, minApart)
	}
	return r
}

// userRows lets the first account call the second one; both talk, and the caller hangs up. The codecs differ, so that
// the edge works on both ways.
func (p plan) userRows(ctx context.Context) []row {
	if len(p.edge.accounts) < 2 {
		return []row{row{call: "user to user", transport: "udp", codec: pcmu.name}.skipped("needs two accounts")}
	}
	speech := mediatest.Speech(p.talk)
	from := line{who: p.edge.accounts[0], transport: "udp", codec: g722, audio: speech}
	to := line{who: p.edge.accounts[1], transport: "tcp", codec: pcma, audio: reversed(speech)}
	name := from.who.User + " -> " + to.who.User
	caller := row{call: name + " (caller hears)", transport: from.transport, codec: from.codec.name}
	called := row{call: name + " (called hears)", transport: to.transport, codec: to.codec.name}
	both := func(err error) []row { return []row{caller.failed("%v", err), called.failed("%v", err)} }

	type end struct {
		call *siptest.Call
		err  error
	}
	handed, answered, talked := make(chan *phone, 1), make(chan end, 1), make(chan error, 1)
	to.onCall = func(cctx context.Context, in *siptest.Incoming) {
		me := <-handed
		call, err := me.answer(cctx, in)
		answered <- end{call, err}
		if err == nil {
			talked <- me.peer.Run(cctx)
		}
	}
	callee, err := p.newPhone(ctx, to)
	if err != nil {
		return both(err)
	}
	handed <- callee
	ph, err := p.newPhone(ctx, from)
	if err != nil {
		return both(errors.Join(err, callee.away(ctx)))
	}
	call, err := p.talkTo(ctx, ph, to.who.User, &caller)
	if err != nil {
		return both(errors.Join(err, ph.away(ctx), callee.away(ctx)))
	}
	other := <-answered
	if other.err == nil {
		other.err = <-talked
	}
	heardByCaller, heardByCalled := ph.peer.Report(), callee.peer.Report()
	called.farm, called.setup = caller.farm, caller.setup
	called.count(heardByCalled)
	if other.err != nil {
		called = called.failed("%v", other.err)
	} else {
		called = called.judgeSpeech(heardByCalled, mediatest.Compare(from.audio(heardByCalled.Rate), heardByCalled.Recording, heardByCalled.Rate), minUser)
	}
	caller = caller.judgeSpeech(heardByCaller, mediatest.Compare(to.audio(heardByCaller.Rate), heardByCaller.Recording, heardByCaller.Rate), minUser)
	if err := hangUp(ctx, call, other.call); err != nil {
		caller = caller.failed("%v", err)
	}
	if err := errors.Join(ph.away(ctx), callee.away(ctx)); err != nil && caller.verdict == pass {
		caller = caller.failed("%v", err)
	}
	return []row{caller, called}
}

// minUser is the bound in dB between two users whose codecs differ: each way is coded three times.
const minUser = 15

// answer rings and accepts a call with this phone's media.
func (ph *phone) answer(ctx context.Context, in *siptest.Incoming) (*siptest.Call, error) {
	if err := in.Ring(); err != nil {
		return nil, err
	}
	sdp, err := ph.peer.Answer(in.Offer())
	if err != nil {
		return nil, errors.Join(err, in.Reject(488, "Not Acceptable Here"))
	}
	return in.Answer(ctx, sdp)
}

// hangUp sends BYE from one side and waits for it at the other.
func hangUp(ctx context.Context, call, other *siptest.Call) error {
	if err := call.Hangup(ctx); err != nil {
		return err
	}
	if other == nil {
		return nil
	}
	select {
	case <-other.Done():
		if !other.EndedByPeer() {
			return errors.New("the called phone ended by itself")
		}
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("the BYE of %s did not reach the called phone", call.CallID())
	}
}
