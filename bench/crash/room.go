package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	legs, at, err := l.killedRoom(settings.node, phones)
	if err != nil {
		return err
	}
	where, err := l.gathered(ctx, settings.node, len(phones)-1)
	if err != nil {
		return err
	}
	took := time.Since(at)
	l.Printf("%s has the conference now: %d of %d in one bridge, one on hold, %d ms after the strike", where.ID, len(phones)-1, len(phones), took.Milliseconds())
	o, err := l.settle(ctx, legs, at, 20*time.Second)
	if err := errors.Join(err, l.judge(o, lab.Goal{P99: limit})); err != nil {
		return err
	}
	if l.timed() && took > limit {
		return fmt.Errorf("in one bridge again after %v, goal %v", took.Round(time.Millisecond), limit)
	}
	var silences []time.Duration
	for _, p := range phones {
		h := p.Media().Heard()
		if gap := time.Since(h.Last); gap > time.Second {
			return fmt.Errorf("%s hears nothing for %v", p.Name, gap.Round(time.Millisecond))
		}
		silences = append(silences, h.Longest)
	}
	slices.Sort(silences)
	l.Printf("silence of all %d, ms: p50 %d, max %d", len(phones), lab.Quantile(silences, .5).Milliseconds(), lab.Quantile(silences, 1).Milliseconds())
	if err := l.furnished(ctx, where, settings); err != nil {
		return err
	}
	return lab.Each(phones, 10, func(p *lab.Leg) error { return p.HangUp(ctx) })
}

// gathered waits until a node that is not the dead one has the conference in one bridge of so many channels.
func (l *bench) gathered(ctx context.Context, dead string, members int) (where *farms.Node, err error) {
	most := 0
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && ctx.Err() == nil; lab.Sleep(ctx, 20*time.Millisecond) {
		rooms, err := l.rooms(ctx)
		if err != nil || len(rooms) != 1 || rooms[0].Node == dead {
			continue
		}
		if where, err = l.node(rooms[0].Node); err != nil {
			return nil, err
		}
		var bridges []struct{ Channels []string }
		if err := where.Get("/bridges", &bridges); err != nil {
			continue
		}
		most = 0
		for _, b := range bridges {
			most = max(most, len(b.Channels))
		}
		if most >= members {
			return where, nil
		}
	}
	return nil, fmt.Errorf("%d participants are in one bridge again, %d were", most, members)
}

// room is a conference as the API shows it.
type room struct {
	ID, Node, Conference, Recording string
	Legs                            []roomLeg
}

type roomLeg struct {
	ID                     string
	SIPCallID              string `json:"sip_call_id"`
	Muted, Held, Moderator bool
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
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

// node is the farm node of a name.
func (l *bench) node(id string) (*farms.Node, error) {
	for _, n := range l.Nodes {
		if n.ID == id {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no node %s", id)
}

// killedRoom kills the node that has the conference, and says which phones' own dialogs were with it. The others came by another node and hear nothing either.
func (l *bench) killedRoom(id string, phones []*lab.Leg) (legs []*lab.Leg, at time.Time, err error) {
	n, err := l.node(id)
	if err != nil {
		return nil, at, err
	}
	if legs, err = lab.Held(n, phones); err != nil {
		return nil, at, err
	}
	l.Printf("%s holds the conference: %d of %d phones speak to it, the others over another node", n.ID, len(legs), len(phones))
	if len(legs) == 0 {
		return nil, at, fmt.Errorf("no phone has a call on %s", n.ID)
	}
	l.Mark()
	at = time.Now()
	n.Kill()
	return legs, at, nil
}

// rooms are the records of the conference 7001: one.
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
type furniture struct{ node, moderator, muted, held string }

// furnish makes of the first participants at the conference's node a moderator, one that is muted and one on hold, and has the conference recorded.
func (l *bench) furnish(ctx context.Context, phones []*lab.Leg) (f furniture, err error) {
	rooms, err := l.rooms(ctx)
	if err != nil {
		return f, err
	}
	if len(rooms) != 1 {
		return f, fmt.Errorf("the conference is in %d places", len(rooms))
	}
	r := rooms[0]
	f.node = r.Node
	mine := map[string]bool{}
	for _, p := range phones {
		mine[p.Dialog().CallID] = true
	}
	path := "/v1/calls/" + r.ID
	todo := []struct {
		do string
		to *string
	}{{"moderator", &f.moderator}, {"mute", &f.muted}, {"hold", &f.held}}
	legs := slices.Clone(r.Legs) // those that speak to this node first, then those that came over another one
	slices.SortStableFunc(legs, func(a, b roomLeg) int { return cmp.Compare(btoi(mine[b.SIPCallID]), btoi(mine[a.SIPCallID])) })
	for _, leg := range legs[:min(len(todo), len(legs))] {
		if err := l.ask(ctx, http.MethodPost, path+"/participants/"+leg.ID+"/"+todo[0].do, map[string]bool{"on": true}, nil); err != nil {
			return f, err
		}
		*todo[0].to = leg.SIPCallID
		todo = todo[1:]
	}
	if len(todo) > 0 {
		return f, fmt.Errorf("%d participants at %s, at least 3 are needed", len(r.Legs), r.Node)
	}
	l.Printf("by the API: a moderator, one muted, one on hold, and the conference is recorded; it is held by %s", r.Node)
	return f, l.ask(ctx, http.MethodPost, path+"/record", map[string]bool{"on": true}, nil)
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
		return fmt.Errorf("not all of it is applied again")
	}
	return nil
}
