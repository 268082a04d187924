//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/media/mediatest"
	"rtcedge/media/sdp"
	"rtcedge/sip/siptest"
)

// steady is a phone that must not notice the crash in its media: whatever it was told at first holds, and what it hears is one stream.
type steady struct {
	*person
	call   *siptest.Call
	first  *sdp.Media  // what the far end said at the call's beginning
	offers chan []byte // of re-INVITEs
	answer chan struct{}
	before mediatest.Report // at the crash
}

// newSteady is one whose answers to re-INVITEs wait until answer is closed.
func (s *stricken) newSteady(t *testing.T, cfg siptest.Config, tone float64, answer chan struct{}, shape func(*mediatest.Config)) *steady {
	t.Helper()
	p := &steady{offers: make(chan []byte, 8), answer: answer}
	cfg.OnReinvite = func(_ *siptest.Call, offer []byte) []byte {
		p.offers <- offer
		select {
		case <-answer:
		case <-time.After(8 * time.Second):
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		body, err := p.media.Answer(offer)
		if err != nil {
			t.Errorf("%s: the re-INVITE's offer: %v\n%s", p.name, err, offer)
		}
		return body
	}
	p.person = newPersonWith(t, s.System, cfg, tone, nil)
	p.shape = shape
	return p
}

// begin notes what it has been told.
func (p *steady) begin(call *siptest.Call) {
	p.t.Helper()
	p.call, p.first = call, audioIn(p.t, call.RemoteSDP())
}

func audioIn(t *testing.T, body []byte) *sdp.Media {
	t.Helper()
	s, err := sdp.Parse(body)
	if err != nil || len(s.Media) != 1 {
		t.Fatalf("SDP (%v):\n%s", err, body)
	}
	return s.Media[0]
}

// offered compares the re-INVITE with what stood there before.
func (p *steady) offered(body []byte) {
	p.t.Helper()
	now := audioIn(p.t, body)
	if now.Port() != p.first.Port() || now.Connection() != p.first.Connection() || now.Protocol() != p.first.Protocol() {
		p.t.Errorf("%s: media at %v:%d, %s became %v:%d, %s", p.name, p.first.Connection(), p.first.Port(), p.first.Protocol(), now.Connection(), now.Port(), now.Protocol())
	}
	for _, was := range p.first.Crypto() {
		same := func(c sdp.Crypto) bool {
			return c.Suite == was.Suite && bytes.Equal(c.Keys[0].KeySalt, was.Keys[0].KeySalt)
		}
		if !slices.ContainsFunc(now.Crypto(), same) {
			p.t.Errorf("%s: another key than before:\n%s", p.name, body)
		}
	}
	if a, b := fmt.Sprint(p.first.Fingerprints()), fmt.Sprint(now.Fingerprints()); a != b {
		p.t.Errorf("%s: fingerprint %s became %s", p.name, a, b)
	}
}

// heardOneStream judges all that came since the crash, by the phone's own SRTP context, which would refuse what another key or rollover counter sealed.
func (p *steady) heardOneStream() {
	p.t.Helper()
	r := p.report()
	if len(r.SSRCs) != 1 || len(r.Sources) != 1 {
		p.t.Errorf("%s: SSRCs %x from %v, want one of each", p.name, r.SSRCs, r.Sources)
	}
	if r.Refused != p.before.Refused || r.Undecodable+r.OtherPT > 0 {
		p.t.Errorf("%s: %d packets refused by SRTP, %d undecodable, %d of another type", p.name, r.Refused-p.before.Refused, r.Undecodable, r.OtherPT)
	}
	if r.Lost+r.Duplicates+r.Reordered > 0 {
		p.t.Errorf("%s: the numbers are not one row: %d missing, %d twice, %d out of order", p.name, r.Lost, r.Duplicates, r.Reordered)
	}
	if r.DTLS.Err != nil || r.DTLS.Late != p.before.DTLS.Late {
		p.t.Errorf("%s: another handshake: %d packets of DTLS, %v", p.name, r.DTLS.Late-p.before.DTLS.Late, r.DTLS.Err)
	}
}

// fresh waits until the phone has heard so much more.
func (p *steady) fresh(packets int) {
	p.t.Helper()
	from := p.report().Received
	eventually(p.t, fmt.Sprintf("%s hears %d packets", p.name, packets), 5*time.Second, func() bool { return p.report().Received >= from+packets })
}

// without tells if in so much time now nothing of a tone comes: others' sound, or no packet at all.
func (p *steady) without(hz float64, d time.Duration) bool {
	before := len(p.report().Recording)
	pause(p.t, d)
	r := p.report()
	return len(r.Recording) == before || mediatest.Level(r.Recording[before:], r.Rate, hz) < -45
}

// wrapped tells if the sequence numbers of what the phone sends have gone over their end.
func wrapped(r mediatest.Report, first uint16) bool { return int(first)+r.Sent > math.MaxUint16+1 }

// b51Media kills the node of two calls of two and one that hears itself. The phones are SDES, DTLS-SRTP and plain; one wraps its sequence numbers before the
// crash, one while the farm is gone. Between crash and answers, which wait, the two of a call hear each other and the third one comfort noise. Then
// the calls are used as any other.
func b51Media(t *testing.T, s *stricken) {
	answer := make(chan struct{})
	sdes := func(first uint16) func(*mediatest.Config) {
		return func(c *mediatest.Config) { c.Suites, c.Sequence = []string{"AES_CM_128_HMAC_SHA1_80"}, first }
	}
	const early, late = math.MaxUint16 - 50, math.MaxUint16 - 300 // 1 s and 6 s
	alice := s.newSteady(t, siptest.Config{User: "alice"}, 500, answer, sdes(early))
	dave := s.newSteady(t, siptest.Config{User: "dave"}, 1230, answer, func(c *mediatest.Config) { c.DTLS, c.Sequence = true, late })
	carol := s.newSteady(t, siptest.Config{User: "carol"}, 700, answer, sdes(late))
	var callees [2]*steady
	for i, tone := range []float64{810, 1710} {
		acc := s.Accounts[i]
		callees[i] = s.newSteady(t, siptest.Config{User: acc.User, Password: acc.Password}, tone, answer, nil)
		if _, err := callees[i].ua.Register(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	bob, erin := callees[0], callees[1]
	all := []*steady{alice, bob, carol, dave, erin}

	s.steer(t, "drain") // all at one node
	alice.begin(alice.mustDial(bob.name))
	bob.begin(<-bob.calls)
	dave.begin(dave.mustDial(erin.name))
	erin.begin(<-erin.calls)
	carol.begin(carol.mustDial("600"))
	s.steer(t, "up")
	calls := s.api.Until("three calls", func(c []bridgetest.Call) bool {
		up := map[string]bool{}
		for _, c := range c {
			for _, l := range c.Legs {
				up[l.Number] = l.State == "up"
			}
		}
		return !slices.ContainsFunc(all, func(p *steady) bool { return !up[p.name] })
	})
	find := func(who *steady) bridgetest.Call {
		i := slices.IndexFunc(calls, func(c bridgetest.Call) bool {
			return slices.ContainsFunc(c.Legs, func(l bridgetest.Leg) bool { return l.Number == who.name })
		})
		if i < 0 {
			t.Fatalf("no call of %s in %+v", who.name, calls)
		}
		return calls[i]
	}
	first, second, third := find(alice), find(dave), find(carol)
	if first.Node != second.Node || first.Node != third.Node {
		t.Fatalf("the calls are on %s, %s and %s", first.Node, second.Node, third.Node)
	}
	talk := func() {
		t.Helper()
		alice.hearsSoon([]float64{810}, []float64{500})
		bob.hearsSoon([]float64{500}, []float64{810})
		dave.hearsSoon([]float64{1710}, []float64{1230})
		erin.hearsSoon([]float64{1230}, []float64{1710})
		carol.hearsSoon([]float64{700}, nil)
	}
	talk()
	s.api.Must("POST", "/v1/calls/"+first.ID+"/record", nil) // goes on behind the crash
	eventually(t, "the crash finds a rollover behind one stream and before two", 10*time.Second, func() bool {
		return wrapped(alice.report(), early) && int(late)+dave.report().Sent > math.MaxUint16-50
	})
	for _, p := range all {
		p.before = p.report()
	}
	if wrapped(dave.before, late) || wrapped(carol.before, late) {
		t.Log("NOT JUDGED: the rollover came before the crash")
	}
	at := time.Now()
	s.nodeOf(t, first.Node).Kill()
	for _, p := range all {
		select {
		case body := <-p.offers:
			t.Logf("%s: re-INVITE %v after the crash", p.name, time.Since(at))
			p.offered(body)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no re-INVITE", p.name)
		}
	}
	// Nobody has answered: no node of a farm says anything now.
	for _, p := range all {
		p.fresh(25)
	}
	alice.hearsSoon([]float64{810}, []float64{500})
	bob.hearsSoon([]float64{500}, []float64{810})
	dave.hearsSoon([]float64{1710}, []float64{1230})
	erin.hearsSoon([]float64{1230}, []float64{1710})
	r := carol.report()
	rest := r.Recording[len(r.Recording)-r.Rate*3/10:]
	if power := mediatest.Power(rest); power < -75 || power > -45 || mediatest.Level(rest, r.Rate, 700) > -60 {
		t.Errorf("who has no partner hears %.0f dBFS, of it the echo %.0f; want comfort noise of some -60", power, mediatest.Level(rest, r.Rate, 700))
	} else {
		t.Logf("who has no partner hears noise of %.0f dBFS", power)
	}
	eventually(t, "the rollover of those who send on", 8*time.Second, func() bool { return wrapped(dave.report(), late) && wrapped(carol.report(), late) })
	close(answer)
	for _, c := range []struct {
		call bridgetest.Call
		legs int
	}{{first, 2}, {second, 2}, {third, 1}} {
		eventually(t, "the call is back", 10*time.Second, func() bool { n, _ := s.generations(t, c.call.ID); return n == c.legs })
	}
	for _, p := range all {
		p.fresh(25)
	}
	talk()
	for _, p := range all {
		p.heardOneStream()
		t.Logf("%s: longest time without a packet %v (before the crash %v), without the partner %v", p.name, p.report().MaxGap, p.before.MaxGap, p.silent())
	}
	s.usedAsAnyOther(t, alice, bob, first)
	for _, p := range []*steady{erin, carol} {
		if err := p.call.Hangup(t.Context()); err != nil {
			t.Errorf("BYE of %s: %v", p.name, err)
		}
	}
	wait(t, "the caller hears of the called one's BYE", dave.call)
}

// silent is the longest time since the crash in which nothing of what the phone should hear was there, in steps of 20 ms.
func (p *steady) silent() time.Duration {
	r := p.report()
	n := r.Rate / 50
	var longest, now time.Duration
	for at := len(p.before.Recording); n > 0 && at+n <= len(r.Recording); at += n {
		if now += 20 * time.Millisecond; mediatest.Power(r.Recording[at:at+n]) > -35 {
			now = 0
		}
		longest = max(longest, now)
	}
	return longest
}

// usedAsAnyOther does with a recovered call of two what is done with calls (B52), up to the BYE of the caller.
func (s *stricken) usedAsAnyOther(t *testing.T, a, b *steady, call bridgetest.Call) {
	t.Helper()
	path := "/v1/calls/" + call.ID
	told := s.api.Listen()
	if err := a.media.SendDTMF("4"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key as an event", 5*time.Second, func() bool { return told("dtmf", "4") })
	eventually(t, "the key at the other phone", 5*time.Second, func() bool { return b.report().DTMF() == "4" })

	// The recording that ran goes on in a part of its own, and a new one can be made.
	s.api.Must("POST", path+"/record", map[string]bool{"on": false})
	find := func() bridgetest.Call {
		c := s.api.Calls()
		i := slices.IndexFunc(c, func(c bridgetest.Call) bool { return c.ID == call.ID })
		if i < 0 {
			t.Fatalf("no call %s any more", call.ID)
		}
		return c[i]
	}
	ran := find().Recordings
	if len(ran) == 0 {
		t.Fatal("the recording that ran is not in the call")
	}
	s.api.Recording(ran[len(ran)-1], []float64{a.tone, b.tone})
	s.api.Must("POST", path+"/record", map[string]bool{"on": true})
	pause(t, 1200*time.Millisecond) // what is recorded takes its time
	s.api.Must("POST", path+"/record", map[string]bool{"on": false})
	made := find().Recordings
	if len(made) == 0 || slices.Contains(ran, made[len(made)-1]) {
		t.Errorf("recordings are %v, and were %v", made, ran)
	} else {
		s.api.Recording(made[len(made)-1], []float64{a.tone, b.tone})
	}

	reinvite := func(direction string) {
		t.Helper()
		offer := string(a.call.LocalSDP())
		for _, old := range []string{"a=sendrecv\r\n", "a=sendonly\r\n"} {
			offer = strings.ReplaceAll(offer, old, "")
		}
		if _, err := a.call.Reinvite(t.Context(), []byte(offer+"a="+direction+"\r\n")); err != nil { // the only stream is the last section
			t.Fatal(err)
		}
	}
	reinvite("sendonly")
	s.api.Until("the phone holds", func(c []bridgetest.Call) bool {
		return slices.ContainsFunc(c, func(c bridgetest.Call) bool {
			return c.ID == call.ID && slices.ContainsFunc(c.Legs, func(l bridgetest.Leg) bool { return l.Number == a.name && l.Held })
		})
	})
	b.hearsSoon(nil, []float64{a.tone})
	reinvite("sendrecv")
	b.hearsSoon([]float64{a.tone}, nil)
	a.hearsSoon([]float64{b.tone}, nil)

	legs := find().Legs // a leg that was recovered has another id
	muted := path + "/participants/" + legs[slices.IndexFunc(legs, func(l bridgetest.Leg) bool { return l.Number == b.name })].ID + "/mute"
	s.api.Must("POST", muted, map[string]bool{"on": true})
	eventually(t, "the muted one is heard no more", 5*time.Second, func() bool { return a.without(b.tone, 400*time.Millisecond) })
	s.api.Must("POST", muted, map[string]bool{"on": false})
	a.hearsSoon([]float64{b.tone}, nil)

	acc := s.Accounts[2]
	frank := newPersonWith(t, s.System, siptest.Config{User: acc.User, Password: acc.Password}, 2250, nil)
	if _, err := frank.ua.Register(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	s.api.Must("POST", path+"/participants", map[string]string{"to": frank.name})
	select {
	case <-frank.calls:
	case <-time.After(10 * time.Second):
		t.Fatal("the third one is not called")
	}
	a.hearsSoon([]float64{b.tone, 2250}, []float64{a.tone})
	b.hearsSoon([]float64{a.tone, 2250}, []float64{b.tone})
	frank.hearsSoon([]float64{a.tone, b.tone}, nil)
	if err := a.call.Hangup(t.Context()); err != nil {
		t.Errorf("BYE of %s: %v", a.name, err)
	}
	s.api.Must("DELETE", path, nil)
	wait(t, "the call's end at the other phone", b.call)
}
