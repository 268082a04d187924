package bridgetest

import (
	"testing"
)

// conference: each hears the sum of the others and never itself; a moderator's rights; a lock, a PIN by keys with tones, the end for all.
func conference(t *testing.T, w World) {
	api := NewControl(t, w.API, nil)
	p := people(t, w, 4, nil)
	alice, bob, carol, dave := p[0], p[1], p[2], p[3]
	a, b, c := alice.MustDial("7001"), bob.MustDial("7001"), carol.MustDial("7001")
	alice.Hears(tones()[1:3], tones()[:1])
	bob.Hears([]float64{tones()[0], tones()[2]}, tones()[1:2])
	carol.Hears(tones()[:2], tones()[2:3])
	call := api.Conference("7001", "", 3)
	path, alices, bobs := "/v1/calls/"+call.ID, api.ID(call, alice), api.ID(call, bob)
	api.Must("POST", api.LegOf(call, alice)+"/moderator", on{On: true})
	for _, right := range []struct{ method, path string }{{"POST", path + "/mute-all"}, {"POST", path + "/lock"}, {"DELETE", api.LegOf(call, carol)}, {"DELETE", path}} {
		api.Want(403, right.method, right.path, on{On: true, By: bobs})
	}
	api.Must("POST", path+"/mute-all", on{On: true, By: alices})
	carol.Hears(tones()[:1], tones()[1:2])
	api.Must("POST", path+"/mute-all", on{By: alices})
	carol.Hears(tones()[:2], nil)
	api.Must("POST", path+"/lock", on{On: true, By: alices})
	if _, err := dave.Dial("7001"); err == nil {
		t.Error("a locked conference let somebody in")
	}
	api.Must("DELETE", api.LegOf(call, carol), on{By: alices})
	ended(t, "the one who was kicked", c)
	api.Must("DELETE", path, on{By: alices})
	ended(t, "alice", a)
	ended(t, "bob", b)
	api.None()

	api.Must("PUT", "/v1/conferences/7002", map[string]any{"pin": "4711", "moderator_pin": "99", "tones": true, "max_legs": 2})
	a, b = alice.MustDial("7002"), bob.MustDial("7002")
	api.Conference("7002", "", 2)
	member := func(what string, ok func(Call, Leg) bool) {
		t.Helper()
		api.Until(what, func(calls []Call) bool {
			for _, c := range calls {
				for _, l := range c.Legs {
					if c.Conference == "7002" && ok(c, l) {
						return true
					}
				}
			}
			return false
		})
	}
	alice.Press("4711#")
	member("alice is in", func(c Call, _ Leg) bool { return c.Bridge != "" })
	mark := alice.Mark()
	bob.Press("99#")
	member("bob is in as moderator", func(_ Call, l Leg) bool { return l.Number == bob.Name && l.Moderator })
	alice.Hears(tones()[1:2], tones()[:1])
	if !alice.HeardSince(mark, 440, 480) && !alice.HeardSince(mark, 560, 780) {
		t.Error("no tone when somebody entered")
	}
	if _, err := dave.Dial("7002"); err == nil {
		t.Error("a conference of two let a third one in")
	}
	alice.Press("*9") // not a moderator: nothing happens
	bob.Press("*6")   // mutes itself
	alice.Hears(nil, tones()[1:2])
	for _, who := range []*Person{alice, bob} {
		if keys := who.now().Report().DTMF(); keys != "" {
			t.Errorf("%s is sent the keys %s of the other one", who.Name, keys)
		}
	}
	bob.Press("*9")
	ended(t, "alice, by the moderator's keys,", a)
	ended(t, "bob, by its own keys,", b)
	api.Must("DELETE", "/v1/conferences/7002", nil)
	api.None()
}
