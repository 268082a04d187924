package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"rtcedge/internal/config"
)

// Status is the admin port's /status page.
type Status struct {
	Role      string           `json:"role"`
	Version   string           `json:"version"`
	Uptime    string           `json:"uptime"`
	Ready     bool             `json:"ready"`
	Listeners []string         `json:"listeners"`
	Counts    map[string]int64 `json:"counts"`
	Farm      []NodeStatus     `json:"farm_nodes,omitempty"`
	Pages     []string         `json:"pages"` // of this role
}

// NodeStatus is one farm node as the edge sees it.
type NodeStatus struct {
	Farm  string `json:"farm"`
	Node  string `json:"node"`
	State string `json:"state"`
}

// Call is one entry of the admin port's /calls page.
type Call struct {
	CallID  string    `json:"call_id"`
	Created time.Time `json:"created"`
	Legs    []Leg     `json:"legs"`
}

// Leg is one side of a call: pub is the outside, priv the farm's.
type Leg struct {
	Side      string `json:"side"`
	Codec     string `json:"codec"`
	Crypto    string `json:"crypto,omitempty"`
	LocalPort int    `json:"local_port"`
	Remote    string `json:"remote"`
	Packets   int64  `json:"packets"`
	Lost      int64  `json:"lost"`
}

func adminKnob(e *env, role string) (netip.AddrPort, error) {
	var admin netip.AddrPort
	s := config.New(role, e.getenv)
	s.Addr(&admin, "admin", defaultAdmin(), "admin port of the running process")
	return admin, usage(s.Parse(e.args, e.out))
}

func runStatus(e *env) error {
	admin, err := adminKnob(e, "status")
	if err != nil {
		return err
	}
	var st Status
	if err := fetch(admin, "/status", &st); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s %s, up %s, ready %v\n", st.Role, st.Version, st.Uptime, st.Ready)
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for _, l := range st.Listeners {
		fmt.Fprintf(w, "listener\t%s\n", l)
	}
	for _, n := range st.Farm {
		fmt.Fprintf(w, "farm %s\t%s\t%s\n", n.Farm, n.Node, n.State)
	}
	for _, name := range sortedKeys(st.Counts) {
		fmt.Fprintf(w, "%s\t%d\n", name, st.Counts[name])
	}
	return w.Flush()
}

func runCalls(e *env) error {
	if done, err := callsOfBridge(e); done {
		return err
	}
	admin, err := adminKnob(e, "calls")
	if err != nil {
		return err
	}
	var calls []Call
	if err := fetch(admin, "/calls", &calls); err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CALL-ID\tAGE\tSIDE\tCODEC\tCRYPTO\tPORT\tREMOTE\tPACKETS\tLOST")
	for _, c := range calls {
		for _, l := range c.Legs {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\n", c.CallID, time.Since(c.Created).Round(time.Second), l.Side, l.Codec,
				orDash(l.Crypto), l.LocalPort, l.Remote, l.Packets, l.Lost)
		}
	}
	return w.Flush()
}

func runDrain(e *env) error {
	admin, err := adminKnob(e, "drain")
	if err != nil {
		return err
	}
	if err := post(context.Background(), admin, "/drain", nil); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s drains: no new calls\n", admin)
	return nil
}

func runReload(e *env) error {
	admin, err := adminKnob(e, "reload")
	if err != nil {
		return err
	}
	if err := post(context.Background(), admin, "/reload", nil); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%s has read its configuration again\n", admin)
	return nil
}

// farmVerbs are what `rtcedge farm` does besides being the role: they talk to a running edge.
func farmVerbs() []string { return []string{"list", "drain", "up", "fence"} }

// runFarmNodes is `rtcedge farm list|drain|up|fence [NODE]`: of an edge, or with --api of a bridge.
func runFarmNodes(e *env, verb string) error {
	if asksBridge(e.args) {
		return farmNodesOfBridge(e, verb)
	}
	var node string
	args := e.args[1:]
	if verb != "list" {
		if len(args) == 0 || strings.HasPrefix(args[0], "-") {
			return usage(fmt.Errorf("farm %s: no node (allowed: IP:PORT or PROTO:IP:PORT of a node, or call, conference, registrar)", verb))
		}
		node, args = args[0], args[1:]
	}
	inner := *e
	inner.args = args
	admin, err := adminKnob(&inner, "farm "+verb)
	if err != nil {
		return err
	}
	if verb != "list" {
		if err := post(context.Background(), admin, "/farm/"+verb, url.Values{"node": {node}}); err != nil {
			return err
		}
	}
	var st Status
	if err := fetch(admin, "/status", &st); err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FARM\tNODE\tSTATE")
	for _, n := range st.Farm {
		fmt.Fprintf(w, "%s\t%s\t%s\n", n.Farm, n.Node, n.State)
	}
	return w.Flush()
}

// post asks the admin port to do something; a refusal is an error with its reason.
func post(ctx context.Context, admin netip.AddrPort, path string, q url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin.String()+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := adminClient().Do(req)
	if err != nil {
		return fmt.Errorf("post %s to the admin port: %w (allowed: --admin IP:PORT of a running rtcedge)", path, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fmt.Errorf("post %s: the role at %s has no such action", path, admin)
	}
	return fmt.Errorf("%s %w %s: %s", admin, errRefused, path, strings.TrimSpace(string(body)))
}

var errRefused = errors.New("refused")

func adminClient() *http.Client { return &http.Client{Timeout: 5 * time.Second} }

func fetch(admin netip.AddrPort, path string, into any) error {
	resp, err := adminClient().Get("http://" + admin.String() + path)
	if err != nil {
		return fmt.Errorf("read %s of the admin port: %w (allowed: --admin IP:PORT of a running rtcedge)", path, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fmt.Errorf("read %s: %s answered %s: this role has no such page", path, admin, resp.Status)
	default:
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fmt.Errorf("read %s: %s answered %s: %s", path, admin, resp.Status, strings.TrimSpace(string(reason)))
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read %s of %s: %w", path, admin, err)
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
