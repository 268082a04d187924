package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"rtcedge/bench/lab"
	"rtcedge/e2e/farms"
)

// conference kills the node under a conference.
func conference(ctx context.Context, l *bench) error {
	phones, err := l.Confer(ctx, "7001", l.cfg.room)
	if err != nil {
		return err
	}
	return l.strikeRoom(ctx, phones, 4*time.Second)
}

func (l *bench) strikeRoom(ctx context.Context, phones []*lab.Leg, limit time.Duration) error {
	settings, err := l.furnish(ctx, phones)
	if err != nil {
		return err
	}
	l.settled(ctx)
	_, legs, at, err := l.killed("conference", phones)
	if err != nil {
		return err
	}
	o := lab.Settle(ctx, legs, at, 20*time.Second)
	o.Print(l.Lab)
	l.PrintSteps(at)
	if err := l.judge(o, lab.Goal{P99: limit}); err != nil {
		return err
	}
	for _, p := range phones {
		if gap := time.Since(p.Media().Heard().Last); gap > time.Second {
			return fmt.Errorf("%s hears nothing for %v", p.Name, gap.Round(time.Millisecond))
		}
	}
	where, channels, err := l.Holder("conference")
	if err != nil {
		return err
	}
	var bridges []struct{ Channels []string }
	if err := where.Get("/bridges", &bridges); err != nil {
		return err
	}
	most := 0
	for _, b := range bridges {
		most = max(most, len(b.Channels))
	}
	l.Printf("%s has %d channels, %d of them in one bridge", where.ID, channels, most)
	if most < len(legs)-1 { // one is on hold, outside of it
		return fmt.Errorf("%d of %d are in one bridge again", most, len(legs))
	}
	if err := l.furnished(ctx, where, settings); err != nil {
		return err
	}
	return lab.Each(phones, 10, func(p *lab.Leg) error { return p.HangUp(ctx) })
}

// room is a conference as the API shows it.
type room struct {
	ID, Node, Conference, Recording string
	Legs                            []struct {
		ID                     string
		SIPCallID              string `json:"sip_call_id"`
		Muted, Held, Moderator bool
		Node                   string
	}
}

// ask speaks to the bridge's API.
func (l *bench) ask(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.API().String()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// rooms are the parts of the conference 7001, one per node that has some of it.
func (l *bench) rooms(ctx context.Context) (list []room, err error) {
	var calls []room
	if err := l.ask(ctx, http.MethodGet, "/v1/calls", nil, &calls); err != nil {
		return nil, err
	}
	for _, c := range calls {
		if c.Conference == "7001" {
			list = append(list, c)
		}
	}
	return list, nil
}

// furniture is who was made what by the API before the strike, by Call-ID.
type furniture struct{ moderator, muted, held string }

// furnish makes of the first participants at the node with most of them a moderator, one that is muted and one on hold, and has the conference recorded.
func (l *bench) furnish(ctx context.Context, phones []*lab.Leg) (f furniture, err error) {
	rooms, err := l.rooms(ctx)
	if err != nil {
		return f, err
	}
	where, _, err := l.Holder("conference")
	if err != nil {
		return f, err
	}
	mine := map[string]bool{}
	for _, p := range phones {
		mine[p.Dialog().CallID] = true
	}
	for _, r := range rooms {
		if r.Node != where.ID {
			continue
		}
		path := "/v1/calls/" + r.ID
		todo := []struct {
			do string
			to *string
		}{{"moderator", &f.moderator}, {"mute", &f.muted}, {"hold", &f.held}}
		for _, leg := range r.Legs {
			if len(todo) == 0 || !mine[leg.SIPCallID] {
				continue
			}
			if err := l.ask(ctx, http.MethodPost, path+"/participants/"+leg.ID+"/"+todo[0].do, map[string]bool{"on": true}, nil); err != nil {
				return f, err
			}
			*todo[0].to = leg.SIPCallID
			todo = todo[1:]
		}
		if len(todo) > 0 {
			return f, fmt.Errorf("%s has too few participants: %+v", where.ID, r)
		}
		l.Printf("by the API: a moderator, one muted, one on hold, and the conference is recorded")
		return f, l.ask(ctx, http.MethodPost, path+"/record", map[string]bool{"on": true}, nil)
	}
	return f, fmt.Errorf("no conference at %s: %+v", where.ID, rooms)
}

// furnished wants all of that to be there again, on a node: by the API, and the recording by the node itself.
func (l *bench) furnished(ctx context.Context, where *farms.Node, f furniture) error {
	rooms, err := l.rooms(ctx)
	if err != nil {
		return err
	}
	moderators, muted, held, recording := 0, 0, 0, ""
	for _, r := range rooms {
		if r.Node == where.ID && r.Recording != "" {
			recording = r.Recording
		}
		for _, leg := range r.Legs {
			if leg.Moderator && leg.SIPCallID == f.moderator {
				moderators++
			}
			if leg.Muted && leg.SIPCallID == f.muted {
				muted++
			}
			if leg.Held && leg.SIPCallID == f.held {
				held++
			}
		}
	}
	var live struct{ State string }
	if recording != "" {
		if err := where.Get("/recordings/live/"+recording, &live); err != nil {
			return fmt.Errorf("recording of the conference: %w", err)
		}
	}
	l.Printf("on %s again: moderator %v, muted %v, on hold %v, recording %s %s", where.ID, moderators == 1, muted == 1, held == 1, recording, live.State)
	if moderators != 1 || muted != 1 || held != 1 || live.State != "recording" {
		return fmt.Errorf("not applied again: %+v", rooms)
	}
	return nil
}
