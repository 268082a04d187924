//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"rtcedge/e2e/farms"
	"rtcedge/sip/siptest"
)

// softphones are baresips that are registered with the system's accounts from the first one on.
func softphones(t *testing.T, s *farms.System, cfg ...softphoneConfig) []*softphone {
	t.Helper()
	var out []*softphone
	for i, c := range cfg {
		c.Server, c.User, c.Password = s.SIP(), s.Accounts[i].User, s.Accounts[i].Password
		out = append(out, startSoftphone(t, c))
	}
	for _, p := range out {
		p.registered()
	}
	return out
}

// connect lets a call b; it returns the marks of their stories.
func connect(a, b *softphone) (int, int) {
	incoming := b.mark()
	mark := a.do("dial", b.user)
	b.until(incoming, "CALL_ESTABLISHED", 10*time.Second)
	a.until(mark, "CALL_ESTABLISHED", 10*time.Second)
	return mark, incoming
}

func (s *softphone) uri() string { return "sip:" + s.user + "@" + s.domain }

// TestB40TransferByPhones: the phones' own transfer (REFER), which the bridge and not Asterisk executes. To one who answers; to one who is
// busy and to one who lets it ring: then the phone is told so and the two talk on (roll-back); attended, by Replaces, from either call.
func TestB40TransferByPhones(t *testing.T) {
	system := startFarms(t, farms.Config{})
	notices := make(chan siptest.Notice, 16)
	busy := newPerson(t, system, "busy", 300, func(in *siptest.Incoming) bool { _ = in.Reject(486, "Busy Here"); return false })
	bob := newPersonWith(t, system, siptest.Config{User: "bob", OnNotice: func(_ *siptest.Call, n siptest.Notice) { notices <- n }}, 2100, nil)
	api := startBridge(t, system, busy, bob)
	restartBridge(t, system, "--ring-timeout", "2s")
	api.Ready(len(system.Nodes))
	p := softphones(t, system, softphoneConfig{Tone: 500}, softphoneConfig{Tone: 800}, softphoneConfig{Tone: 1200}, softphoneConfig{Tone: 1700, Manual: true})
	a, b, c, rings := p[0], p[1], p[2], p[3]

	// told is the end of a transfer as bob's phone hears of it.
	told := func(want string) {
		t.Helper()
		var seen []string
		for limit := time.After(10 * time.Second); ; {
			select {
			case n := <-notices:
				seen = append(seen, n.State+" "+strings.TrimSpace(n.Body))
				if strings.HasPrefix(n.State, "terminated") {
					if !strings.HasPrefix(n.Body, want) {
						t.Errorf("bob is told %q, want %s", seen, want)
					}
					return
				}
			case <-limit:
				t.Fatalf("bob was not told the end of the transfer: %q", seen)
			}
		}
	}
	refer := func(call *siptest.Call, target string, instead *siptest.Call) {
		t.Helper()
		if status, err := call.Refer(t.Context(), target, instead); err != nil || status != 202 {
			t.Fatalf("REFER to %s: %d, %v", target, status, err)
		}
	}

	// Who does not take it: roll-back. (baresip 1.0 hangs up by itself when it is told of a failure, so bob asks.)
	call := bob.mustDial(a.user)
	a.hears([]float64{2100}, []float64{500})
	for _, nobody := range []string{"busy", rings.user, "nosuchuser"} {
		refer(call, nobody, nil)
		told("SIP/2.0 503")
		a.hears([]float64{2100}, []float64{500})
		bob.hearsSoon([]float64{500}, []float64{2100})
	}
	if err := call.Hangup(t.Context()); err != nil {
		t.Error(err)
	}
	api.settled()
	marked, _ := connect(a, b)
	asked := b.do("transfer", "sip:busy@"+b.domain)
	if failed := b.until(asked, "TRANSFER_FAILED", 10*time.Second); !strings.HasPrefix(failed.Param, "503") {
		t.Errorf("transfer to one who is busy: baresip is told %q", failed.Param)
	}
	a.until(marked, "CALL_CLOSED", 5*time.Second)
	api.settled()
	marked, _ = connect(a, b)

	// Who takes it.
	third := c.mark()
	asked = b.do("transfer", c.uri())
	c.until(third, "CALL_ESTABLISHED", 10*time.Second)
	b.until(asked, "CALL_CLOSED", 10*time.Second)
	a.hears([]float64{1200}, []float64{500, 800})
	c.hears([]float64{500}, []float64{800, 1200})
	// And on by the one who called first, into a conference.
	asked = c.do("transfer", "sip:7005@"+c.domain)
	c.until(asked, "CALL_CLOSED", 10*time.Second)
	b.until(b.do("dial", "7005"), "CALL_ESTABLISHED", 10*time.Second)
	a.hears([]float64{800}, []float64{500, 1200})
	b.hears([]float64{500}, []float64{800})
	b.do("hangup", "")
	a.do("hangup", "")
	a.until(marked, "CALL_CLOSED", 5*time.Second)
	api.settled()

	// Attended by bob, who has called both.
	first := bob.mustDial(a.user)
	a.hears([]float64{2100}, nil)
	second := bob.mustDial(c.user)
	c.hears([]float64{2100}, nil)
	refer(first, c.user, second)
	told("SIP/2.0 200")
	wait(t, "bob's BYE in the first call", first)
	wait(t, "bob's BYE in the second call", second)
	a.hears([]float64{1200}, []float64{2100})
	c.hears([]float64{500}, []float64{2100})
	refer(bob.mustDial(b.user), "nosuchuser", second) // a call that is over
	told("SIP/2.0 503")
	b.hears([]float64{2100}, nil)
	a.do("hangup", "")
	b.do("hangup", "")
	api.settled()

	// Attended by baresip: b was called by a and has called c.
	connect(a, b)
	_, third = connect(b, c)
	asked = b.do("transfer", fmt.Sprintf("<%s?Replaces=%s>", a.uri(), replaces(t, system, api, a.user)))
	b.until(asked, "CALL_CLOSED", 10*time.Second)
	a.hears([]float64{1200}, []float64{800})
	c.hears([]float64{500}, []float64{800})
	c.do("hangup", "")
	c.until(third, "CALL_CLOSED", 5*time.Second)
	api.settled()
}

// replaces is what a phone would write to name its call that user began: Call-ID and tags of the leg to that phone.
func replaces(t *testing.T, s *farms.System, api *control, user string) string {
	t.Helper()
	for _, call := range api.Calls() {
		if len(call.Legs) != 2 || call.Legs[0].Number != user {
			continue
		}
		leg, node := call.Legs[1].ID, s.Farm("call")[0]
		ask := func(what string) string {
			var v struct{ Value string }
			if err := node.Get("/channels/"+leg+"/variable?variable="+url.QueryEscape("CHANNEL(pjsip,"+what+")"), &v); err != nil {
				t.Fatal(err)
			}
			return v.Value
		}
		return url.QueryEscape(ask("call-id") + ";to-tag=" + ask("local_tag") + ";from-tag=" + ask("remote_tag"))
	}
	t.Fatalf("no call of %s", user)
	return ""
}

// restartBridge runs the system's bridge again with more flags.
func restartBridge(t *testing.T, s *farms.System, more ...string) {
	t.Helper()
	s.BridgeP.Stop()
	p, err := s.StartBridge(more...)
	if err != nil {
		t.Fatal(err)
	}
	s.BridgeP = p
}
