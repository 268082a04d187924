package aritest

import (
	"cmp"
	"context"
	_ "embed" // the recorded transcript
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"rtcedge/sip/siptest"
)

// Recorded is the transcript of a real Asterisk 22.
//
//go:embed asterisk.txt
var Recorded string

// patience bounds each wait for an event or an answer.
const patience = 5 * time.Second

// Node is what is driven.
type Node struct {
	URL  string         // http://USER:PASSWORD@IP:PORT
	SIP  netip.AddrPort // where the phone calls
	Edge netip.AddrPort // the phone's own address, which the node takes for the edge's
}

// run is one scenario under way.
type run struct {
	node   Node
	ua     *siptest.UA
	events chan map[string]any
	out    strings.Builder
	err    error
	rung   chan struct{} // closed when the node has told that the called phone rings
	id     string        // of the last channel that came in, printed as IN
}

// Run drives the node and returns the transcript.
func Run(ctx context.Context, node Node) (string, error) {
	r := &run{node: node, events: make(chan map[string]any, 1000), rung: make(chan struct{})}
	ua, err := siptest.New(siptest.Config{User: "1001", Local: node.Edge, Proxy: node.SIP, OnCall: r.called})
	if err != nil {
		return "", fmt.Errorf("phone: %w", err)
	}
	r.ua = ua
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- ua.Run(ctx) }()
	defer func() { stop(); <-ended }()

	conn, _, err := websocket.Dial(ctx, node.URL+"/ari/events?app=rtcedge", &websocket.DialOptions{Subprotocols: []string{"ari"}})
	if err != nil {
		return "", fmt.Errorf("event socket: %w", err)
	}
	conn.SetReadLimit(1 << 20)
	read := make(chan struct{})
	go func() { defer close(read); r.read(ctx, conn) }()
	defer func() { _ = conn.CloseNow(); <-read }()
	r.scenario(ctx)
	return r.out.String(), r.err
}

// called answers the call that the node places: it rings, then accepts.
func (r *run) called(ctx context.Context, in *siptest.Incoming) {
	if in.Ring() != nil {
		return
	}
	select {
	case <-r.rung:
	case <-ctx.Done():
		return
	}
	if _, err := in.Answer(ctx, []byte(sdp(r.node.Edge.Addr()))); err != nil {
		return // the transcript shows what is missing
	}
}

func sdp(addr netip.Addr) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n", addr)
}

func (r *run) read(ctx context.Context, conn *websocket.Conn) {
	for {
		_, body, err := conn.Read(ctx)
		if err != nil {
			return
		}
		var m map[string]any
		if json.Unmarshal(body, &m) == nil {
			r.events <- m
		}
	}
}

// passed over: they come from the dialplan, or tell what no application of ours listens to.
var passed = []string{"ChannelVarset", "ChannelDialplan", "ChannelCallerId", "ChannelConnectedLine", "ChannelTalkingStarted", "ChannelTalkingFinished"}

// await writes down the events up to the last of those that must come. Dial and ChannelStateChange come from two threads of
// Asterisk in any order, so those of one step are put in one.
func (r *run) await(until ...string) {
	want := slices.Clone(until)
	var lines []string
	defer func() {
		if slices.Contains(until, "Dial") {
			slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
		}
		r.out.WriteString(strings.Join(lines, ""))
	}()
	limit := time.After(patience)
	for len(want) > 0 && r.err == nil {
		select {
		case m := <-r.events:
			kind := fmt.Sprint(m["type"])
			if slices.Contains(passed, kind) {
				continue
			}
			if m["dialstatus"] == "RINGING" {
				close(r.rung)
			}
			lines = append(lines, fmt.Sprintf("  %s%s %s\n", kind, facts(m), keys(m)))
			if ch, ok := m["channel"].(map[string]any); ok && kind == "StasisStart" && strings.Contains(fmt.Sprint(m["args"]), "in ") {
				r.id = fmt.Sprint(ch["id"])
			}
			if i := slices.Index(want, kind); i >= 0 {
				want = slices.Delete(want, i, i+1)
			}
		case <-limit:
			r.err = fmt.Errorf("no %v after\n%s%s", want, r.out.String(), strings.Join(lines, ""))
		}
	}
}

// rank puts the events of a call that is placed in order.
func rank(line string) int {
	switch {
	case strings.HasPrefix(line, "  Dial"):
		return 0
	case strings.HasPrefix(line, "  ChannelStateChange"):
		return 1
	}
	return 2
}

// facts are the values that must be equal on all nodes. The bridge's technology is not one: Asterisk changes it after the event.
func facts(m map[string]any) string {
	var out []string
	for _, path := range []string{"args", "dialstatus", "channel.state", "bridge.bridge_type", "playback.state", "recording.state", "cause", "cause_txt", "digit"} {
		var v any = m
		for part := range strings.SplitSeq(path, ".") {
			inner, _ := v.(map[string]any)
			v = inner[part]
		}
		if v != nil {
			out = append(out, fmt.Sprintf("%s=%v", path, v))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, " ") + ")"
}

// keys prints the keys of an object, and of the objects in it.
func keys(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			switch k {
			case "soft", "channelvars", "tech_cause", "forward", "dialstring", "max_channels": // there or not by version and limits
				continue
			}
			parts = append(parts, k+keys(v[k]))
		}
		return short("{" + strings.Join(parts, " ") + "}")
	case []any:
		if len(v) > 0 {
			if inner, ok := v[0].(map[string]any); ok {
				return "[" + keys(inner) + "]"
			}
		}
		return "[]"
	}
	return ""
}

// short names the shapes that come again and again, so that a transcript can be read.
func short(shape string) string {
	for _, known := range [][2]string{
		{"{accountcode caller{name number} connected{name number} creationtime dialplan{app_data app_name context exten priority} id language name protocol_id state}", "{CHANNEL}"},
		{"{bridge_class bridge_type channels[] creationtime creator id name technology video_mode}", "{BRIDGE}"},
		{"{id language media_uri state target_uri}", "{PLAYBACK}"},
	} {
		if shape == known[0] {
			return known[1]
		}
	}
	return shape
}

// do sends a command, writes down what came back, and awaits its events.
func (r *run) do(ctx context.Context, method, path, body string, until ...string) {
	if r.err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.node.URL+"/ari/"+strings.ReplaceAll(path, "EDGE", r.node.Edge.String()), strings.NewReader(strings.ReplaceAll(body, "EDGE", r.node.Edge.String())))
	if err != nil {
		r.err = err
		return
	}
	req.Close = true
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.err = fmt.Errorf("%s %s: %w", method, path, err)
		return
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.err = fmt.Errorf("%s %s: %w", method, path, err)
		return
	}
	fmt.Fprintf(&r.out, "%s %s %s -> %d%s\n", method, strings.ReplaceAll(path, r.id, "IN"), body, res.StatusCode, answer(res, text))
	r.await(until...)
}

func answer(res *http.Response, text []byte) string {
	var v any
	if len(text) == 0 {
		return ""
	}
	if json.Unmarshal(text, &v) != nil {
		return " " + res.Header.Get("Content-Type")
	}
	if m, ok := v.(map[string]any); ok && res.StatusCode >= 400 {
		return fmt.Sprintf(" %q", m["message"])
	}
	if strings.HasSuffix(res.Request.URL.Path, "/rtp_statistics") {
		return "" // a farm without RTCP counts less
	}
	return " " + keys(v)
}
