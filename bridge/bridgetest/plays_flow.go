package bridgetest

import (
	"testing"

	"rtcedge/sip/siptest"
)

// flow: sounds, keys into a variable, a connect that fails into a branch, one that works. The position is in the API at each wait.
func flow(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	p := people(t, w, 3, func(in *siptest.Incoming) bool { _ = in.Reject(486, "Busy Here"); return false })
	alice, bob, busy := p[0], p[1], p[2]
	api.Want(400, "PUT", "/v1/flows/800", map[string]any{"actions": []map[string]any{{"do": "fly"}}})
	api.Must("PUT", "/v1/flows/800", map[string]any{"actions": []map[string]any{
		{"do": "answer"},
		{"do": "play", "media": []string{"sound:rtcedge/enter"}},
		{"do": "say-tones", "text": "5"},
		{"do": "set", "name": "who", "value": busy.Name},
		{"do": "digits", "max": 2, "timeout": 20, "into": "choice"},
		{"do": "connect", "to": "${who}", "into": "result"},
		{"do": "branch", "if": "result", "value": "busy", "goto": "next", "else": "end"},
		{"do": "connect", "label": "next", "to": bob.Name},
		{"do": "hangup", "label": "end"},
	}})
	a := alice.MustDial("800")
	api.Until("it waits for keys", func(calls []Call) bool {
		return len(calls) == 1 && calls[0].Flow != nil && calls[0].Flow.Step == 4 && calls[0].Flow.Phase == "digits" && calls[0].Flow.Vars["who"] == busy.Name
	})
	alice.Press("42")
	b := bob.Taken()
	alice.Hears(tones()[1:2], tones()[:1])
	bob.Hears(tones()[:1], nil)
	hangUp(t, b)
	ended(t, "alice", a)
	api.None()

	api.Must("PUT", "/v1/flows/801", map[string]any{"actions": []map[string]any{
		{"do": "record", "seconds": 1, "into": "file"},
		{"do": "conference_join", "name": "team"},
	}})
	a = alice.MustDial("801")
	api.Until("in the conference after the recording", func(calls []Call) bool {
		for _, c := range calls { // where conferences are on other nodes, a call leads there
			if c.Conference == "team" && len(c.Legs) == 1 && c.Legs[0].State == "up" {
				return true
			}
		}
		return false
	})
	api.Must("DELETE", "/v1/conferences/team", nil)
	ended(t, "alice", a)

	api.Must("PUT", "/v1/flows/802", map[string]any{"actions": []map[string]any{{"do": "transfer", "to": bob.Name}}})
	a = alice.MustDial("802")
	b = bob.Taken()
	bob.Hears(tones()[:1], nil)
	hangUp(t, a)
	ended(t, "bob", b)
	for _, number := range []string{"800", "801", "802"} {
		api.Must("DELETE", "/v1/flows/"+number, nil)
	}
	api.None()
}
