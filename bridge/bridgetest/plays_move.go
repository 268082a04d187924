package bridgetest

import (
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// conferenceMoves: the node of a conference drains. The conference goes on at the other node with its members, rights, mutes, lock and
// recording; nobody is hung up, hears a tone of entry or is without the others for more than a second. If the other node cannot take it,
// it stays and nobody notices.
func conferenceMoves(t *testing.T, w World) {
	if len(w.Conferences) < 2 {
		t.Skip("NOT JUDGED here: this world has one conference node; another test of the same play has two")
	}
	api := NewControl(t, w.API, nil)
	p := people(t, w, 4, nil)
	alice, bob, carol, dave := p[0], p[1], p[2], p[3]
	api.Must("PUT", "/v1/conferences/7004", map[string]any{"tones": true})
	c := carol.MustDial("7004") // at any node; it makes the conference, so that the others know where that is
	home := api.Conference("7004", "", 1)
	a, b := alice.dialAt(api, home), bob.dialAt(api, home) // not by way of the node that is stopped below
	call := api.Conference("7004", "", 3)
	from, to := call.Node, w.Conferences[0]
	if from == to {
		to = w.Conferences[1]
	}
	api.Must("POST", api.LegOf(call, alice)+"/moderator", on{On: true})
	api.Must("POST", api.LegOf(call, carol)+"/mute", on{On: true})
	api.Must("POST", "/v1/calls/"+call.ID+"/lock", on{On: true})
	api.Must("POST", "/v1/calls/"+call.ID+"/record", on{On: true})
	settled := func() {
		t.Helper()
		alice.Hears(tones()[1:2], []float64{tones()[0], tones()[2]})
		bob.Hears(tones()[:1], tones()[1:3])
		carol.Hears(tones()[:2], tones()[2:3])
	}
	settled()
	time.Sleep(1500 * time.Millisecond) // of talk for the recording, and until the last tone of entry is over

	if w.Freeze != nil {
		thaw := w.Freeze(to)
		mark := alice.Mark()
		api.Must("POST", "/v1/farms/"+from+"/drain", on{On: true})
		time.Sleep(10 * time.Second) // the bridge gives it up after 8
		api.Must("POST", "/v1/farms/"+from+"/drain", on{})
		thaw()
		if gap := alice.without(mark, tones()[1]); gap > time.Second {
			t.Errorf("alice was without bob for %v while the other node could not take the conference", gap)
		}
		settled()
		waitFor(t, "the other node, which is back", func() bool { return api.nodes()[to] == "up" })
		if again := api.Conference("7004", from, 3); again.ID != call.ID {
			t.Error("it is another conference after a move that failed")
		}
	}

	late := watch()
	marks := []int{alice.Mark(), bob.Mark(), carol.Mark()}
	api.Must("POST", "/v1/farms/"+from+"/drain", on{On: true})
	call = api.Conference("7004", to, 3)
	settled()
	stall := late()
	for i, x := range []*Person{alice, bob, carol} {
		other := tones()[(i+1)%2] // alice hears bob, the others hear alice
		if i == 2 {
			other = tones()[0]
		}
		gap := x.without(marks[i], other)
		t.Logf("%s was without the others for %v (the machine stood still for %v)", x.Name, gap, stall)
		if gap > time.Second+2*stall {
			t.Errorf("%s was without the others for %v, want a second at most", x.Name, gap)
		}
		if x.HeardSince(marks[i], 640, 680) { // a hole of 40 ms beside a tone of 500 Hz is -32 dB at 600, -40 at 640, where the tone of entry is -26
			t.Errorf("%s heard a tone of entry or exit", x.Name)
		}
	}
	notEnded(t, "alice", a)
	notEnded(t, "bob", b)
	notEnded(t, "carol", c)
	if !call.Locked {
		t.Error("the lock is gone")
	}
	for _, l := range call.Legs {
		if l.Moderator != (l.Number == alice.Name) || l.Muted != (l.Number == carol.Name) {
			t.Errorf("after the move: %+v", l)
		}
	}
	if _, err := dave.Dial("7004"); err == nil {
		t.Error("the locked conference let somebody in at its new node")
	}

	// The rights are those that they were, and it is one conference for who comes.
	path, alices := "/v1/calls/"+call.ID, api.ID(call, alice)
	api.Want(403, "POST", path+"/lock", on{By: api.ID(call, bob)})
	api.Must("POST", path+"/lock", on{By: alices})
	api.Must("POST", api.LegOf(call, carol)+"/mute", on{By: alices})
	alice.Hears(tones()[1:3], tones()[:1])
	mark := alice.Mark()
	d := dave.MustDial("7004")
	dave.Hears(tones()[:3], tones()[3:4])
	alice.Hears(tones()[1:4], tones()[:1])
	time.Sleep(time.Second) // of talk for the second part of the recording
	waitFor(t, "the entry tone", func() bool { return alice.HeardSince(mark, 600, 680) })
	api.Must("POST", path+"/record", on{})
	call = api.Conference("7004", to, 4)
	if len(call.Recordings) != 2 {
		t.Errorf("recordings %v, want one of each node", call.Recordings)
	}
	for _, name := range call.Recordings {
		api.Recording(name, tones()[:2])
	}
	api.Must("DELETE", api.LegOf(call, dave), on{By: alices})
	ended(t, "the one who was kicked after the move", d)
	hangUp(t, c)
	api.Conference("7004", to, 2)
	api.Must("POST", "/v1/farms/"+from+"/drain", on{})
	api.Must("DELETE", "/v1/conferences/7004", nil)
	ended(t, "alice", a)
	ended(t, "bob", b)
	api.None()
}

// dialAt dials a conference until the edge leads to the node on which it is held, and not to another one that leads on.
func (p *Person) dialAt(api *Control, conference Call) *siptest.Call {
	p.t.Helper()
	for range 16 {
		c := p.MustDial(conference.Conference)
		led := false
		api.Until(p.Name+" is in", func(calls []Call) bool {
			in := false
			led = false
			for _, x := range calls {
				for _, l := range x.Legs {
					in = in || x.Conference != "" && l.Number == p.Name && l.State == "up"
					led = led || x.Conference == "" && l.Number == p.Name
				}
			}
			return in
		})
		if !led {
			return c
		}
		hangUp(p.t, c)
		api.Until(p.Name+" has left", func(calls []Call) bool {
			for _, x := range calls {
				for _, l := range x.Legs {
					if l.Number == p.Name {
						return false
					}
				}
			}
			return true
		})
	}
	p.t.Fatalf("%s is never led to %s", p.Name, conference.Node)
	return nil
}

// Conference waits for a conference with so many members, on a node if one is given.
func (c *Control) Conference(name, node string, members int) Call {
	c.t.Helper()
	var found Call
	c.Until("conference "+name+" at "+node+" with all members", func(calls []Call) bool {
		n := 0
		for _, x := range calls {
			if x.Conference != name {
				continue
			}
			found = x
			n++
		}
		if n != 1 || node != "" && found.Node != node || len(found.Legs) != members || found.From != "" {
			return false
		}
		for _, l := range found.Legs {
			if l.State != "up" {
				return false
			}
		}
		return true
	})
	return found
}

// without is the longest time in which the person did not hear a tone, from a place of its recording on.
func (p *Person) without(from int, hz float64) time.Duration {
	r := p.now().Report()
	step := r.Rate / 50
	longest, run := 0, 0
	for at := from; step > 0 && at+2*step <= len(r.Recording); at += step {
		if run++; mediatest.Level(r.Recording[at:at+2*step], r.Rate, hz) > audible {
			run = 0
		}
		longest = max(longest, run)
	}
	return time.Duration(longest) * 20 * time.Millisecond
}

// watch measures until its end how long this process was kept waiting at most.
func watch() (end func() time.Duration) {
	stop, out := make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst time.Duration
		last := time.Now()
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				out <- worst
				return
			case <-tick.C:
				now := time.Now()
				worst, last = max(worst, now.Sub(last)), now
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-out
	}
}
