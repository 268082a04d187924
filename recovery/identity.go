package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"rtcedge/bridge"
)

// Which process of a node answers, and what is said when that changes.

// identity is what a node says about itself.
type identity struct {
	id    bridge.NodeID
	epoch string
	sip   string
	roles []string
	asked time.Time
}

// comes says who answers.
func (s *Sentinel) comes(ctx context.Context, n *watched, id identity) {
	s.cfg.Logger.Info("node answers", "node", id.id, "epoch", id.epoch, "was_dead", n.dead)
	n.known, n.dead, n.sure = id, false, id.asked
	s.show(n, Alive, "") // whoever is told asks at once
	if s.cfg.Back != nil {
		s.cfg.Back(ctx, Return{Node: id.id, Epoch: id.epoch, SIP: id.sip})
	}
}

// dies says it once.
func (s *Sentinel) dies(ctx context.Context, was identity, d Death) {
	d.Node, d.Epoch, d.SIP, d.Roles, d.At = was.id, was.epoch, was.sip, was.roles, time.Now()
	s.cfg.Logger.Warn("node is dead", "node", d.Node, "epoch", d.Epoch, "reason", d.Reason)
	if s.cfg.Dead != nil {
		s.cfg.Dead(ctx, d)
	}
}

// epochEvery is how often a node that answers is asked whether it is still the same process: one that is started anew within two looks loses all its calls.
const epochEvery = time.Second

// sameness is what a node said of its process; "": nothing.
type sameness struct {
	asked time.Time
	epoch string
}

// doubt has a node asked for its epoch, now and then, and when it answers again: a process may be replaced between two looks. One that has held a stream
// open all the time is itself.
func (n *watched) doubt(ctx context.Context, back bool, ask func(asked time.Time)) {
	now := time.Now()
	switch {
	case n.asking || n.dead || n.known.id == "" || ctx.Err() != nil:
	case n.prober.stream.holds(n.sure):
		n.sure = now
	case back || now.Sub(n.sure) >= epochEvery || n.prober.stream.conn.Load() != nil:
		n.asking = true
		ask(now)
	}
}

// compare tells a process that has taken the place of another one. Its own calls are not those of the dead one: at no moment does the node seem dead.
func (s *Sentinel) compare(ctx context.Context, n *watched, e sameness) {
	switch {
	case e.epoch == "" || n.dead || e.asked.Before(n.sure):
		return
	case e.epoch == n.known.epoch:
		n.sure = e.asked
		return
	}
	id, err := n.prober.introduce(ctx)
	if err != nil || id.epoch == n.known.epoch {
		return // it is asked again
	}
	was, since := n.known, n.sure
	n.known = id
	s.show(n, Alive, "")
	s.dies(ctx, was, Death{Since: since, Reason: "another process answers in its place", Gone: true, Ended: true})
	s.comes(ctx, n, id)
}

// introduce asks a node for its name, its epoch, its roles and its SIP address, which OPTIONS then go to.
func (p *prober) introduce(ctx context.Context) (identity, error) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var info struct {
		System struct {
			EntityID string `json:"entity_id"`
		} `json:"system"`
		Status struct {
			StartupTime string `json:"startup_time"`
		} `json:"status"`
	}
	if err := p.get(ctx, "/ari/asterisk/info", &info); err != nil {
		return identity{}, err
	}
	id := identity{id: bridge.NodeID(info.System.EntityID), epoch: info.Status.StartupTime, asked: asked}
	var v struct {
		Value string `json:"value"`
	}
	// The name under which the bridge role keeps calls is this variable where there is one: an entity id has the form of a MAC address.
	if err := p.get(ctx, "/ari/asterisk/variable?variable=RTCEDGE_NODE", &v); err == nil && v.Value != "" {
		id.id = bridge.NodeID(v.Value)
	}
	if id.id == "" {
		return identity{}, fmt.Errorf("node %s has no entity id and no RTCEDGE_NODE", p.host)
	}
	v.Value = ""
	if err := p.get(ctx, "/ari/asterisk/variable?variable=RTCEDGE_SIP", &v); err == nil && v.Value != "" {
		id.sip = v.Value
		if !p.target.SIP.IsValid() {
			p.sip.Store(sipTarget(v.Value))
		}
	}
	v.Value = ""
	if err := p.get(ctx, "/ari/asterisk/variable?variable=RTCEDGE_ROLES", &v); err == nil && v.Value != "" {
		id.roles = strings.Split(v.Value, ",")
	}
	return id, nil
}

// epoch asks which process answers.
func (p *prober) epoch(ctx context.Context, asked time.Time) sameness {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var info struct {
		Status struct {
			StartupTime string `json:"startup_time"`
		} `json:"status"`
	}
	_ = p.get(ctx, "/ari/asterisk/info?only=status", &info) // an error leaves it empty
	return sameness{asked, info.Status.StartupTime}
}

func (p *prober) get(ctx context.Context, path string, into any) error {
	u, err := url.Parse("http://" + p.host + path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(p.target.User, p.target.Password)
	res, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask node %s: %w", p.host, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask node %s: %s answers %s", p.host, u.Path, res.Status)
	}
	return json.NewDecoder(http.MaxBytesReader(nil, res.Body, 1<<20)).Decode(into)
}
