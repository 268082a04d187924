package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"rtcedge/recovery"
)

// Crash is what recovery reports of one, as /crashes of its admin port has it.
type Crash = recovery.Crash

// Crashes asks a controller for its report.
func (l *Lab) Crashes(controller int) ([]Crash, error) {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get("http://" + l.Controller(controller).String() + "/crashes?limit=" + strconv.Itoa(recovery.MaxCrashes))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/crashes: %s", res.Status)
	}
	var out []Crash
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("/crashes: %w", err)
	}
	return out, nil
}

// Watching waits until the first controller takes every call and conference node for alive, and the edge for up.
func (l *Lab) Watching(ctx context.Context) error {
	want := len(l.Farm("call")) + len(l.Farm("conference"))
	for began := time.Now(); ; Sleep(ctx, 50*time.Millisecond) {
		alive, err1 := states(l.Controller(0), "alive")
		up, err2 := states(l.Admin("sip"), "up")
		if err := errors.Join(err1, err2); err == nil && alive == want && up == len(l.Nodes) {
			return nil
		}
		if time.Since(began) > 30*time.Second || ctx.Err() != nil {
			return fmt.Errorf("recovery sees %d of %d nodes after 30 s, the edge %d of %d: %w", alive, want, up, len(l.Nodes), errors.Join(err1, err2))
		}
	}
}

// states counts the farm nodes that an admin port's status has in a state.
func states(admin netip.AddrPort, state string) (n int, err error) {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get("http://" + admin.String() + "/status")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var status struct {
		Nodes []struct{ State string } `json:"farm_nodes"`
	}
	if err := json.NewDecoder(res.Body).Decode(&status); err != nil {
		return 0, err
	}
	for _, node := range status.Nodes {
		if node.State == state {
			n++
		}
	}
	return n, nil
}

// PrintSteps writes when recovery took its steps for the legs of crashes since a strike: where the time goes.
func (l *Lab) PrintSteps(struck time.Time) {
	crashes, err := l.Crashes(0)
	if err != nil {
		return // a lab without recovery has none
	}
	at := map[string][]time.Duration{}
	for _, c := range crashes {
		if c.Detected.Before(struck) {
			continue
		}
		at["verdict"] = append(at["verdict"], c.Detected.Sub(struck))
		for _, leg := range c.Legs {
			for _, s := range leg.Steps {
				at[s.Name] = append(at[s.Name], s.At.Sub(struck))
			}
		}
	}
	for _, step := range []string{"verdict", "found", "dialog", "turn", "claimed", "invite", "answered", "rtp"} {
		if d := at[step]; len(d) > 0 {
			slices.Sort(d)
			l.Printf("strike to %-9s ms: %s; %d", step+",", line(d), len(d))
		}
	}
}

// Losses are the legs that did not come back, with recovery's reasons.
func (l *Lab) Losses() []string {
	return l.lost(time.Time{}, func(c Crash, leg recovery.LegReport) string {
		steps := ""
		for _, s := range leg.Steps {
			steps += fmt.Sprintf(" %s %d", s.Name, s.At.Sub(c.Since).Milliseconds())
		}
		return fmt.Sprintf("%s: leg %s is %s: %s (%s)", c.Node, leg.Leg, leg.Result, leg.Reason, steps)
	})
}

// Reasons are the first words of recovery's reasons for legs that did not come back since a moment.
func (l *Lab) Reasons(since time.Time) []string {
	return l.lost(since, func(_ Crash, leg recovery.LegReport) string {
		reason, _, _ := strings.Cut(leg.Reason, ":")
		return leg.Result + " " + reason
	})
}

func (l *Lab) lost(since time.Time, line func(Crash, recovery.LegReport) string) []string {
	crashes, err := l.Crashes(0)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, c := range crashes {
		for _, leg := range c.Legs {
			if c.Detected.After(since) && leg.Result != recovery.ResultRecovered {
				out = append(out, line(c, leg))
			}
		}
	}
	return out
}
