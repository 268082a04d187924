//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"rtcedge/e2e/farms"
	"rtcedge/sip/siptest"
)

// TestB32PresenceThroughTheEdge: SUBSCRIBE and NOTIFY of presence (RFC 3856) pass the edge to the registrar of the watched user: closed
// before a real phone registers, open after, closed when it goes; the subscription ends by the watcher's word.
func TestB32PresenceThroughTheEdge(t *testing.T) {
	system := startFarms(t, farms.Config{})
	acc := system.Accounts[5]
	watcher := newPersonWith(t, system, siptest.Config{User: acc.User, Password: acc.Password}, 500, nil)
	watched := system.Accounts[0].User
	sub, err := watcher.ua.Subscribe(t.Context(), watched, "presence", "application/pidf+xml", 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	told := func(what string, is func(siptest.Notice) bool) {
		t.Helper()
		for limit := time.After(10 * time.Second); ; {
			select {
			case n := <-sub.Notices():
				t.Logf("%s %s %s: %s", n.Event, n.State, n.Type, strings.Join(strings.Fields(n.Body), " "))
				if is(n) {
					return
				}
			case <-limit:
				t.Fatalf("not told within 10 s: %s", what)
			}
		}
	}
	basic := func(state string) func(siptest.Notice) bool {
		return func(n siptest.Notice) bool {
			return n.Type == "application/pidf+xml" && strings.HasPrefix(n.State, "active") && strings.Contains(n.Body, "<basic>"+state+"</basic>")
		}
	}
	told("closed", basic("closed"))
	phone := softphones(t, system, softphoneConfig{Tone: 800})[0]
	told("open", basic("open"))
	if err := phone.proc.stop(10 * time.Second); err != nil { // it takes its registration back
		t.Error(err)
	}
	told("closed again", basic("closed"))
	if err := sub.End(t.Context()); err != nil {
		t.Error(err)
	}
	told("the end", func(n siptest.Notice) bool { return strings.HasPrefix(n.State, "terminated") })
	stranger := newPersonWith(t, system, siptest.Config{User: "stranger", Password: "x"}, 500, nil)
	if _, err := stranger.ua.Subscribe(t.Context(), watched, "presence", "application/pidf+xml", time.Minute); err == nil {
		t.Error("who has no account may watch")
	}
}
