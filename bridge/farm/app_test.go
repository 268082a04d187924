package farm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// app is an ARI application: a socket with events, and commands over HTTP.
type app struct {
	t    *testing.T
	base string
	conn *websocket.Conn
	in   chan map[string]any
	seen []string // types of all events so far
}

func runNode(t *testing.T, cfg Config) (*Farm, *app) {
	t.Helper()
	cfg.ARI, cfg.ARIPassword, cfg.NodeID = netip.MustParseAddrPort("127.0.0.1:0"), "pw", "call1"
	if cfg.RecordingDir == "" {
		cfg.RecordingDir = t.TempDir()
	}
	f := runFarm(t, cfg)
	return f, appOf(t, f)
}

// appOf is the application of a node.
func appOf(t *testing.T, f *Farm) *app {
	t.Helper()
	a := &app{t: t, base: "http://rtcedge:pw@" + f.ARIAddr().String() + "/ari/"}
	a.connect("rtcedge")
	return a
}

// connect opens the event socket.
func (a *app) connect(name string) {
	a.t.Helper()
	conn, res, err := websocket.Dial(a.t.Context(), a.base+"events?app="+name, &websocket.DialOptions{Subprotocols: []string{"ari"}})
	if err != nil {
		a.t.Fatal(err)
	}
	if res.Header.Get("Sec-WebSocket-Protocol") != "ari" {
		a.t.Errorf("subprotocol %q", res.Header.Get("Sec-WebSocket-Protocol"))
	}
	conn.SetReadLimit(1 << 20)
	in, done := make(chan map[string]any, 1000), make(chan struct{})
	a.conn, a.in = conn, in
	go func() {
		defer close(done)
		for {
			_, body, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			var m map[string]any
			if err := json.Unmarshal(body, &m); err != nil {
				a.t.Errorf("event %s: %v", body, err)
			}
			in <- m
		}
	}()
	a.t.Cleanup(func() {
		_ = conn.CloseNow()
		<-done
	})
}

// do sends a command and wants a status. path may hold a query; body is JSON.
func (a *app) do(status int, method, path, body string) map[string]any {
	a.t.Helper()
	got, text := a.ask(method, path, body)
	if got != status {
		a.t.Fatalf("%s %s: %d %s, want %d", method, path, got, text, status)
	}
	var m map[string]any
	_ = json.Unmarshal(text, &m) // a list, a file or nothing
	return m
}

func (a *app) ask(method, path, body string) (int, []byte) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, a.base+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Close = true
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res.StatusCode, text
}

// event waits for an event of that type and drops those before it.
func (a *app) event(kind string) map[string]any {
	a.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case m := <-a.in:
			a.seen = append(a.seen, fmt.Sprint(m["type"]))
			if m["asterisk_id"] != "call1" || m["application"] == nil || m["timestamp"] == nil {
				a.t.Errorf("event without a head: %v", m)
			}
			if m["type"] == kind {
				return m
			}
		case <-limit:
			a.t.Fatalf("no %s; seen %v", kind, a.seen)
		}
	}
}

// types are those of the events since it was called last.
func (a *app) types() []string {
	out := a.seen
	a.seen = nil
	return out
}

func at(m map[string]any, path string) string {
	var v any = m
	for part := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[part]
	}
	return fmt.Sprint(v)
}

// inStasis dials a number and returns the channel that the application got.
func (a *app) inStasis(p *phone, number string, extra ...string) (*talk, string) {
	a.t.Helper()
	d := p.dial(number, p.sdp("sendrecv"), extra...)
	ev := a.event("StasisStart")
	if fmt.Sprint(ev["args"]) != "[in "+number+"]" {
		a.t.Errorf("args %v", ev["args"])
	}
	return d, at(ev, "channel.id")
}

func (a *app) up(p *phone, number string) (*talk, string) {
	a.t.Helper()
	d, id := a.inStasis(p, number)
	a.do(204, "POST", "channels/"+id+"/answer", "")
	d.answered()
	if ev := a.event("ChannelStateChange"); at(ev, "channel.state") != "Up" || at(ev, "channel.id") != id {
		a.t.Errorf("after answer: %v", ev)
	}
	return d, id
}

// ch are the channels of that name.
func (a *app) ch(id string) []string {
	var out []string
	_, text := a.ask("GET", "channels", "")
	if strings.Contains(string(text), `"id":"`+id+`"`) {
		out = append(out, id)
	}
	return out
}
