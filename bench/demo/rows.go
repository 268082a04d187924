package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// plan is what is to be shown.
type plan struct {
	edge             *edge
	local            netip.Addr
	talk             time.Duration
	echo, conference string
}

const (
	// atOnce bounds the calls that run at a time: the phones must not starve each other's clocks on a small machine.
	atOnce = 8
	// setupLimit bounds registration and call set-up each.
	setupLimit = 10 * time.Second
)

// demonstrate runs all calls and returns their rows in the order of the table.
func demonstrate(ctx context.Context, p plan) []row {
	var jobs []func() []row
	for _, c := range []codec{pcmu, pcma, g722, opusCodec} {
		for _, secure := range []bool{false, true} {
			for _, transport := range []string{"udp", "tcp"} {
				l := line{who: p.echoAccount(len(jobs)), transport: transport, codec: c, srtp: secure, audio: mediatest.Speech(p.talk)}
				jobs = append(jobs, func() []row { return []row{p.echoRow(ctx, l)} })
			}
		}
	}
	jobs = append(jobs,
		func() []row { return p.conferenceRows(ctx) },
		func() []row { return p.userRows(ctx) })
	results := make([][]row, len(jobs))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, job := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i] = job()
		})
	}
	wg.Wait()
	var rows []row
	for _, r := range results {
		rows = append(rows, r...)
	}
	return rows
}

// echoAccount spreads the echo calls over the accounts, apart from the two that call each other.
func (p plan) echoAccount(n int) account {
	if others := p.edge.accounts; len(others) > 2 {
		return others[2+n%(len(others)-2)]
	}
	return p.edge.accounts[0]
}

func (p plan) echoRow(ctx context.Context, l line) (r row) {
	r = row{call: l.who.User + " -> " + p.echo, transport: l.transport, codec: l.codec.name, srtp: l.srtp}
	if reason := p.without(l.codec); reason != "" {
		return r.skipped(reason)
	}
	ph, err := p.newPhone(ctx, l)
	if err != nil {
		return r.failed("%v", err)
	}
	defer func() {
		if err := ph.away(ctx); err != nil && r.verdict == pass {
			r = r.failed("%v", err)
		}
	}()
	call, err := p.talkTo(ctx, ph, p.echo, &r)
	if err != nil {
		return r.failed("%v", err)
	}
	if err := call.Hangup(ctx); err != nil {
		return r.failed("%v", err)
	}
	rep := ph.peer.Report()
	echo := rep.Echo(l.audio)
	r.roundTrip = echo.RoundTrip
	return r.judgeSpeech(rep, echo.Match, l.codec.minSNR)
}

// talkTo calls a number, talks, and asks in the middle of the talk which codec the farm sees.
func (p plan) talkTo(ctx context.Context, ph *phone, number string, r *row) (*siptest.Call, error) {
	offer, err := ph.peer.Offer()
	if err != nil {
		return nil, err
	}
	ictx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	call, err := ph.Invite(ictx, number, offer, siptest.InviteOptions{})
	if err != nil {
		return nil, err
	}
	r.setup = call.SetupTime()
	if err := ph.peer.SetAnswer(call.RemoteSDP()); err != nil {
		return nil, errors.Join(err, call.Hangup(ctx))
	}
	talked := make(chan error, 1)
	go func() { talked <- ph.peer.Run(ctx) }()
	half := time.NewTimer(p.talk / 2)
	defer half.Stop()
	select {
	case <-half.C:
	case <-ctx.Done():
	}
	seen, asked := p.edge.farmCodec(ctx, call.CallID())
	err = errors.Join(<-talked, asked)
	r.count(ph.peer.Report())
	r.farm = seen
	if err == nil && seen != "" && seen != pcmu.name {
		err = fmt.Errorf("the farm sees %s", seen)
	}
	select {
	case <-call.Done():
		err = errors.Join(err, errors.New("the far end hung up"))
	default:
	}
	if err != nil {
		return nil, errors.Join(err, call.Hangup(ctx))
	}
	return call, nil
}

// Bounds of every row: on one machine nothing may be lost, but the last packets may still be on their way.
const (
	maxLoss     = 1.0 // percent
	minReturned = 0.9 // of what was sent
)

// count takes over what a peer sent and got.
func (r *row) count(rep mediatest.Report) {
	r.sent, r.returned, r.loss = rep.Sent, rep.Received, 0
	if n := rep.Received + rep.Lost; n > 0 {
		r.loss = 100 * float64(rep.Lost) / float64(n)
	}
}

func (r row) checkPackets(rep mediatest.Report) row {
	switch strange := rep.Refused + rep.Undecodable + rep.OtherPT; {
	case strange > 0:
		return r.failed("%d packets that are not of this stream", strange)
	case float64(rep.Received) < minReturned*float64(rep.Sent):
		return r.failed("%d of %d packets came back", rep.Received, rep.Sent)
	case r.loss > maxLoss:
		return r.failed("%.1f %% of the packets were lost", r.loss)
	}
	return r
}

// judgeSpeech takes a recording's comparison with what was said.
func (r row) judgeSpeech(rep mediatest.Report, m mediatest.Match, minSNR float64) row {
	r.snr = m.SNR
	if r = r.checkPackets(rep); r.verdict != pass {
		return r
	}
	switch {
	case !m.Found:
		return r.failed("what was said is not in the recording")
	case m.Share < 0.9:
		return r.failed("only %.0f %% of what was said came back", 100*m.Share)
	case m.SNR < minSNR:
		return r.failed("SNR %.1f dB, want %.0f", m.SNR, minSNR)
	}
	return r
}
