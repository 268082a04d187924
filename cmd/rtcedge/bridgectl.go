package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/config"
)

// bridgeClient is the knobs of the commands that talk to a bridge's API.
type bridgeClient struct {
	api   netip.AddrPort
	token string
	off   bool
	words []string
}

// parse takes the words (CALL, LEG) apart from the flags: they come first.
func (c *bridgeClient) parse(e *env, name string, least, most int) error {
	args := e.args
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		c.words, args = append(c.words, args[0]), args[1:]
	}
	s := config.New(name, e.getenv)
	s.Addr(&c.api, "api", loopback(8090), "API of a bridge")
	var file string
	s.String(&file, "token-file", "", "FILE", "a token of the API is its first word")
	s.Bool(&c.off, "off", false, "end it: unmute, stop the recording")
	if err := usage(s.Parse(args, e.out)); err != nil {
		return err
	}
	if len(c.words) < least || len(c.words) > most {
		allowed := []string{"CALL", "LEG"}
		if strings.HasPrefix(name, "farm ") {
			allowed[0] = "NODE"
		}
		return usage(fmt.Errorf("%s: %d words (allowed: %s)", name, len(c.words), strings.Join(allowed[:most], " ")))
	}
	tokens, err := readTokens(file)
	if err != nil {
		return flagError(name, "token-file", err, "a file with a token")
	}
	if len(tokens) > 0 {
		c.token = tokens[0]
	}
	return nil
}

func (c *bridgeClient) do(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://"+c.api.String()+path, body)
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := adminClient().Do(req)
	if err != nil {
		return fmt.Errorf("ask the bridge: %w (allowed: --api IP:PORT of a running rtcedge bridge)", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		var refused struct {
			Error string `json:"error"`
		}
		_ = json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&refused)
		return fmt.Errorf("%s answered %s: %s", c.api, resp.Status, refused.Error)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// bridgeCommand is one of conferences, hangup, kick, mute, record.
func bridgeCommand(name string) func(*env) error {
	return func(e *env) error {
		var c bridgeClient
		least, most := 1, 1
		switch name {
		case "conferences":
			least, most = 0, 0
		case "kick":
			least, most = 2, 2
		case "mute", "record":
			most = 2
		}
		if err := c.parse(e, name, least, most); err != nil {
			return err
		}
		if name == "conferences" {
			return c.print(e, "/v1/conferences")
		}
		path := "/v1/calls/" + url.PathEscape(c.words[0])
		if len(c.words) == 2 {
			path += "/participants/" + url.PathEscape(c.words[1])
		}
		on := map[string]bool{"on": !c.off}
		switch {
		case name == "hangup" || name == "kick":
			return c.do(http.MethodDelete, path, nil, nil)
		case name == "mute" && len(c.words) == 1:
			return c.do(http.MethodPost, path+"/mute-all", on, nil)
		}
		var call bridge.Call
		if err := c.do(http.MethodPost, path+"/"+name, on, &call); err != nil {
			return err
		}
		if name == "record" && !c.off && len(call.Recordings) > 0 {
			fmt.Fprintln(e.out, call.Recordings[len(call.Recordings)-1])
		}
		return nil
	}
}

// print lists calls, a line per leg.
func (c *bridgeClient) print(e *env, path string) error {
	var calls []bridge.Call
	if err := c.do(http.MethodGet, path, nil, &calls); err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CALL\tWHAT\tNODE\tAGE\tLEG\tPARTY\tSTATE")
	for _, call := range calls {
		what := call.Number
		if call.Conference != "" {
			what = "conference " + call.Conference
		}
		head := fmt.Sprintf("%s\t%s\t%s\t%s", call.ID, what, call.Node, time.Since(call.Created).Round(time.Second))
		if len(call.Legs) == 0 {
			fmt.Fprintf(w, "%s\t-\t-\t-\n", head)
		}
		for _, l := range call.Legs {
			state := l.State
			for _, flag := range []struct {
				on   bool
				text string
			}{{l.Muted, " muted"}, {l.Held, " held"}, {l.Moderator, " moderator"}, {l.Recording != "", " recorded"}} {
				if flag.on {
					state += flag.text
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", head, l.ID, orDash(l.Number), state)
		}
	}
	return w.Flush()
}

// asksBridge tells a command to a bridge from one to an admin port.
func asksBridge(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return a == "--api" || strings.HasPrefix(a, "--api=") })
}

// farmNodesOfBridge is `rtcedge farm list|drain|up [NODE] --api`: a node that drains gets no new conferences and its own move away.
func farmNodesOfBridge(e *env, verb string) error {
	var c bridgeClient
	inner := *e
	inner.args = e.args[1:]
	words := 1
	if verb == "list" {
		words = 0
	}
	if verb == "fence" {
		return usage(errors.New("farm fence: not by a bridge (allowed: --admin of an edge; farm list, drain and up take --api)"))
	}
	if err := c.parse(&inner, "farm "+verb, words, words); err != nil {
		return err
	}
	if verb != "list" {
		if err := c.do(http.MethodPost, "/v1/farms/"+url.PathEscape(c.words[0])+"/drain", map[string]bool{"on": verb == "drain"}, nil); err != nil {
			return err
		}
	}
	var nodes []bridge.Node
	if err := c.do(http.MethodGet, "/v1/farms", nil, &nodes); err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FARM\tNODE\tSTATE")
	for _, n := range nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\n", strings.Join(n.Roles, ","), n.ID, n.State)
	}
	return w.Flush()
}

// callsOfBridge is `rtcedge calls --api`.
func callsOfBridge(e *env) (bool, error) {
	if !asksBridge(e.args) {
		return false, nil
	}
	var c bridgeClient
	if err := c.parse(e, "calls", 0, 0); err != nil {
		return true, err
	}
	return true, c.print(e, "/v1/calls")
}
