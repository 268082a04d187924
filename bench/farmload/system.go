package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"

	"rtcedge/bench/meter"
	"rtcedge/e2e/farms"
	"rtcedge/internal/store"
	"rtcedge/sip/siptest"
)

// system is what runs, with its two user agents.
type system struct {
	*farms.System
	band    *band
	caller  *siptest.UA
	callee  *siptest.UA
	answers chan answered
	second  *farms.Process // the bridge that stands by
	hosts   netip.Addr     // of the phones' media

	ends []func() // in the opposite order
}

// answered is a call that the callee took.
type answered struct {
	call *siptest.Call
	leg  *leg
}

const (
	tone     = -20 // dBFS, of calls
	apiOf2nd = 8100
)

func startSystem(ctx context.Context, root, binary, dir string) (s *system, err error) {
	s = &system{answers: make(chan answered, 1000), hosts: netip.MustParseAddr("127.40.0.1")}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	s.ends = append(s.ends, cancel)
	s.band = newBand(ctx)
	inside, public := netip.MustParseAddr("127.0.0.10"), netip.MustParseAddr("127.0.0.1")
	listen := netip.AddrPortFrom(inside, 4222)
	st, err := store.New(store.Config{Listen: listen})
	if err != nil {
		return s, err
	}
	life, done := context.WithCancel(context.WithoutCancel(ctx))
	storing := make(chan error, 1)
	go func() { storing <- st.Run(life) }()
	s.ends = append(s.ends, func() { done(); <-storing })

	edge := netip.AddrPortFrom(public, 5060)
	if s.callee, err = siptest.New(siptest.Config{User: "callee", Proxy: edge, Local: netip.MustParseAddrPort("127.40.0.3:5060"), OnCall: s.answer}); err != nil {
		return s, err
	}
	if s.caller, err = siptest.New(siptest.Config{User: "caller", Proxy: edge, Local: netip.MustParseAddrPort("127.40.0.2:5060")}); err != nil {
		return s, err
	}
	for _, ua := range []*siptest.UA{s.callee, s.caller} {
		ended := make(chan error, 1)
		go func() { ended <- ua.Run(ctx) }()
		s.ends = append(s.ends, func() { cancel(); <-ended })
	}
	s.System, err = farms.Start(farms.Config{Root: root, Binary: binary, Dir: dir, Public: public, Inside: inside, Conference: 2,
		Bridge: []string{"--store", "nats://" + listen.String(), "--user=callee=" + s.callee.Contact(), "--user=third=" + s.callee.Contact()}})
	if err != nil {
		return s, err
	}
	s.ends = append(s.ends, s.Stop)
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var nodes []struct{ State string }
		if s.api(s.API(), "GET", "/v1/farms", nil, &nodes) == nil && len(nodes) >= 4 {
			break
		}
		if time.Now().After(limit) {
			return s, errors.New("the bridge does not control the farms after 20 s")
		}
	}
	second := netip.AddrPortFrom(inside, apiOf2nd)
	if s.second, err = s.StartBridge("--api", second.String(), "--admin", netip.AddrPortFrom(inside, apiOf2nd+1).String()); err != nil {
		return s, err
	}
	s.ends = append(s.ends, s.second.Stop)
	return s, nil
}

func (s *system) stop() {
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
}

// answer takes every call, after 20 ms of ringing.
func (s *system) answer(ctx context.Context, in *siptest.Incoming) {
	_ = in.Ring()
	l, err := newLeg(s.hosts, 1000, tone)
	if err != nil {
		return
	}
	time.Sleep(20 * time.Millisecond)
	call, err := in.Answer(ctx, l.sdp())
	if err != nil || l.aim(in.Offer()) != nil {
		l.close()
		return
	}
	s.band.join(l)
	go func() {
		<-call.Done()
		s.band.leave(l)
	}()
	s.answers <- answered{call, l}
}

// dial calls a number; ring is the time from INVITE to 180, up the one to 200.
func (s *system) dial(ctx context.Context, number string, l *leg) (call *siptest.Call, ring, up time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	start := time.Now()
	call, err = s.caller.Invite(ctx, number, l.sdp(), siptest.InviteOptions{OnProvisional: func(code int, _ []byte) {
		if code == 180 && ring == 0 {
			ring = time.Since(start)
		}
	}})
	if err != nil {
		return nil, 0, 0, err
	}
	up = time.Since(start)
	if err := l.aim(call.RemoteSDP()); err != nil {
		return nil, 0, 0, err
	}
	s.band.join(l)
	return call, ring, up, nil
}

// callOf is a call as the API shows it.
type callOf struct {
	ID, Owner, Node, Conference string
	Legs                        []struct{ ID, Number, State string }
}

// api asks the bridge.
func (s *system) api(at netip.AddrPort, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+at.String()+path, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// calls waits until the bridge shows so many calls with so many legs each that are up.
func (s *system) calls(calls, legs int) ([]callOf, error) {
	var list []callOf
	for limit := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		list = nil
		err := s.api(s.API(), "GET", "/v1/calls", nil, &list)
		good := 0
		for _, c := range list {
			up := 0
			for _, l := range c.Legs {
				if l.State == "up" {
					up++
				}
			}
			if up == legs {
				good++
			}
		}
		if err == nil && len(list) == calls && good == calls {
			return list, nil
		}
		if time.Now().After(limit) {
			return nil, errors.Join(fmt.Errorf("the bridge shows %d calls, %d of them with %d legs; want %d", len(list), good, legs, calls), err)
		}
	}
}

// idle ends what an earlier measurement has left, and forgets who answered it.
func (s *system) idle() error {
	var list []callOf
	if err := s.api(s.API(), "GET", "/v1/calls", nil, &list); err != nil {
		return err
	}
	for _, c := range list {
		_ = s.api(s.API(), "DELETE", "/v1/calls/"+c.ID, nil, nil) // it may end by itself in this moment
	}
	if _, err := s.calls(0, 0); err != nil {
		return err
	}
	for {
		select {
		case <-s.answers:
		default:
			s.band.stalled()
			return nil
		}
	}
}

// usage is the processor time of each process, to be read twice.
type usage struct {
	names []string
	spent []time.Duration
	at    time.Time
}

func (s *system) usage() (usage, error) {
	u := usage{at: time.Now()}
	add := func(name string, pid int) error {
		m, err := meter.New(pid, -1)
		if err != nil {
			return err
		}
		u.names, u.spent = append(u.names, name), append(u.spent, m.Spent())
		return nil
	}
	for _, p := range s.Processes() {
		if err := add(p.Name, p.PID()); err != nil {
			return u, err
		}
	}
	// The processes are children of this one, and a meter counts children.
	var others time.Duration
	for _, d := range u.spent {
		others += d
	}
	if err := add("generator and store", os.Getpid()); err != nil {
		return u, err
	}
	u.spent[len(u.spent)-1] -= others
	return u, nil
}

// since tells the share of one processor of each since an earlier reading.
func (u usage) since(before usage) []string {
	var out []string
	for i, name := range u.names {
		out = append(out, fmt.Sprintf("%s %.1f %%", name, 100*float64(u.spent[i]-before.spent[i])/float64(u.at.Sub(before.at))))
	}
	return out
}
