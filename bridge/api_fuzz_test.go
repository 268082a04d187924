package bridge

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzAPIBody: whatever a client sends as a body, it is refused or taken, without a panic, and the record that comes of it survives the store.
func FuzzAPIBody(f *testing.F) {
	commands := []string{CmdHangup, CmdAdd, CmdKick, CmdMute, CmdMuteAll, CmdHold, CmdLock, CmdStay, CmdDTMF, CmdPlay, CmdRecord, CmdTransfer, CmdMove, CmdMedia, CmdModerate}
	for _, text := range []string{`{"on":true}`, `{"on":false,"by":"a"}`, `{"to":"192.0.2.1:4000"}`, `{"text":"12#"}`, `{"to":"1002"} x`, `{"pin":"1","moderator_pin":"2"}`, `[`, ``} {
		f.Add(text, uint8(0), "a")
		f.Add(text, uint8(8), "call.2")
	}
	f.Fuzz(func(t *testing.T, text string, which uint8, leg string) {
		r := httptest.NewRequest("POST", "/v1/x", strings.NewReader(text))
		c := Command{On: true}
		if body(r, &c) == nil {
			c.Do, c.Leg = commands[int(which)%len(commands)], leg
			if checkCommand(c) == nil {
				c.targets = []Target{{URI: "sip:x@192.0.2.1"}}
				p := talking(t)
				_ = p.m.command(c)
				p.m.take()
				p.m.timers()
				survives(t, *p.m.call)
			}
		}
		var set Conference
		if body(httptest.NewRequest("PUT", "/v1/x", strings.NewReader(text)), &set) == nil && set.check() == nil {
			p := newPlay(t, Call{Conference: "7001", PIN: set.PIN, ModeratorPIN: set.ModeratorPIN, MaxLegs: set.MaxLegs, Locked: set.Locked})
			p.m.input(in("a"))
			for _, key := range set.PIN + "#*1" {
				p.m.digit("a", string(key))
			}
			survives(t, *p.m.call)
		}
		var flow Flow
		if body(httptest.NewRequest("PUT", "/v1/x", strings.NewReader(text)), &flow) == nil {
			_ = flow.Check()
		}
	})
}

func survives(t *testing.T, c Call) {
	t.Helper()
	text, err := json.Marshal(c)
	var again Call
	if err != nil || json.Unmarshal(text, &again) != nil || len(again.Legs) != len(c.Legs) {
		t.Fatalf("the record does not survive the store: %v", err)
	}
}
