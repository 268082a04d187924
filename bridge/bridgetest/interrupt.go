package bridgetest

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// movePatience is for a take-over, a move that is given up and the next one.
const movePatience = 20 * time.Second

// Interrupted is a conference that moves while the process that controls it dies.
type Interrupted struct {
	Members int             // of the conference; four of them have tones that are listened for
	Delays  []time.Duration // from the drain to the death, a move each
	// Kill ends the process of an API, which controls the conference, and returns the API of another one.
	Kill func(api netip.AddrPort) (next netip.AddrPort)
}

// Run moves a conference between two nodes, and each time the process dies on the way: nobody is hung up, and in the end there is one
// conference with all members on one node, with their rights, in which everybody hears the others and not themselves. It goes on from where
// it was when that is the new node, and moves again when it is the old one.
func (i Interrupted) Run(t *testing.T, w World) {
	const number = "7005"
	api := NewControl(t, w.API, nil)
	p := people(t, w, 4, nil)
	var calls []*siptest.Call
	for n := range i.Members {
		if n < len(p) {
			calls = append(calls, p[n].MustDial(number))
			continue
		}
		x := newPerson(t, w, w.Accounts[max(3, n%len(w.Accounts))], 0, nil) // not the accounts of those whose rights are looked at
		x.audio = mediatest.Once(mediatest.Tone(2900, -70, time.Minute))
		calls = append(calls, x.MustDial(number))
	}
	alice, bob := p[0], p[1]
	call := api.Conference(number, "", i.Members)
	api.Must("POST", api.LegOf(call, alice)+"/moderator", on{On: true})
	api.Must("POST", api.LegOf(call, bob)+"/mute", on{On: true})

	for _, delay := range i.Delays {
		from := call.Node
		to := w.Conferences[0]
		if to == from {
			to = w.Conferences[1]
		}
		marks := []int{alice.Mark(), bob.Mark()}
		start := time.Now()
		api.Must("POST", "/v1/farms/"+from+"/drain", on{On: true})
		time.Sleep(time.Until(start.Add(delay)))
		before := api.Calls()
		api = NewControl(t, i.Kill(netip.MustParseAddrPort(call.Owner)), nil)
		killed := time.Now()
		settled := func() bool {
			all := api.Calls()
			n := slices.IndexFunc(all, func(c Call) bool { return c.Conference == number && c.Node == to })
			return n >= 0 && all[n].From == "" && up(all[n], i.Members)
		}
		for limit := time.Now().Add(movePatience); !settled() && time.Now().Before(limit); {
			time.Sleep(50 * time.Millisecond)
		}
		call = api.Conference(number, to, i.Members)
		t.Logf("killed %v after the drain, with %s: one conference at %s %v after it", delay, moving(before, number), call.Node, time.Since(killed).Round(time.Millisecond))
		for n, c := range calls {
			notEnded(t, fmt.Sprintf("member %d", n+1), c)
		}
		alice.Hears(tones()[2:4], tones()[:2]) // bob is muted
		bob.Hears([]float64{tones()[0], tones()[2], tones()[3]}, tones()[1:2])
		p[2].Hears([]float64{tones()[0], tones()[3]}, tones()[1:3])
		p[3].Hears([]float64{tones()[0], tones()[2]}, []float64{tones()[1], tones()[3]})
		t.Logf("alice was without the others for %v, bob for %v", alice.without(marks[0], tones()[2]), bob.without(marks[1], tones()[2]))
		for _, l := range call.Legs {
			if l.Moderator != (l.Number == alice.Name) || l.Muted != (l.Number == bob.Name) {
				t.Errorf("after the death: %+v", l)
			}
		}
		api.Must("POST", "/v1/farms/"+from+"/drain", on{})
	}
	waitFor(t, "the end of the conference", func() bool { // its process may just have died
		_, status := api.Do("DELETE", "/v1/conferences/"+number, nil)
		return status == http.StatusNoContent
	})
	for n, c := range calls {
		if ended(t, fmt.Sprintf("member %d", n+1), c); t.Failed() {
			break // the others wait as long
		}
	}
	api.None()
}

// moving tells how far a move was.
func moving(calls []Call, conference string) string {
	var here, there, relayed int
	for _, c := range calls {
		switch {
		case c.Conference == conference && c.From == "":
			here = len(c.Legs)
		case c.Conference == conference:
			there = len(c.Legs)
		case c.Number == conference:
			relayed++
		}
	}
	return fmt.Sprintf("%d members here, %d legs there, %d relayed", here, there, relayed)
}
