package ari

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func dial(t *testing.T, base, query string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(base, "http://", "ws://", 1)+"/ari/events?api_key=bridge:secret&"+query,
		&websocket.DialOptions{Subprotocols: []string{"ari"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func next(t *testing.T, conn *websocket.Conn) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, body, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return m
}

// TestEventsGoWhereSubscribed: an application hears of what it is subscribed to, subscribeAll of everything, the filter holds
// back, and StasisEnd's implicit subscription ends without the explicit one.
func TestEventsGoWhereSubscribed(t *testing.T) {
	s, base := start(t, Config{Routes: testRoutes(new([]string))})
	one, all := dial(t, base, "app=one"), dial(t, base, "app=all&subscribeAll=true")
	if status, body, _ := ask(t, "PUT", base+"/ari/applications/one/eventFilter?x=1", "secret"); status != 200 {
		t.Fatalf("filter: %d %s", status, body)
	}
	s.Enter("one", "channel:a")
	s.Enter("one", "channel:b")
	s.Subscribe("one", "channel:b")
	s.Leave("one", "channel:a")
	s.Leave("one", "channel:b")
	for i, source := range []string{"channel:a", "channel:b", "bridge:c"} {
		s.Publish("Test", map[string]any{"n": i}, source)
	}
	if m := next(t, one); m["n"] != 1.0 || m["application"] != "one" || m["asterisk_id"] != "call1" || m["type"] != "Test" || m["timestamp"] == nil {
		t.Errorf("one got %v", m)
	}
	for i := range 3 {
		if m := next(t, all); m["n"] != float64(i) {
			t.Errorf("all got %v, want %d", m, i)
		}
	}
}

// TestSlowClientIsCut: a client that does not read is cut and counted; the farm does not wait for it.
func TestQuietSocketStays(t *testing.T) {
	s, base := start(t, Config{Routes: testRoutes(new([]string)), WriteTimeout: 50 * time.Millisecond})
	conn := dial(t, base, "app=one&subscribeAll=true")
	time.Sleep(120 * time.Millisecond) // nothing happens for longer than a write may take
	s.Publish("Test", map[string]any{"n": 1}, "channel:a")
	if m := next(t, conn); m["n"] != 1.0 {
		t.Errorf("got %v", m)
	}
}

func TestSlowClientIsCut(t *testing.T) {
	s, base := start(t, Config{Routes: testRoutes(new([]string)), Queue: 4})
	dial(t, base, "app=slow")
	s.Subscribe("slow", "channel:a")
	text := strings.Repeat("x", 1<<20) // the kernel's buffers take some
	limit := time.Now().Add(10 * time.Second)
	for s.Dropped() == 0 && time.Now().Before(limit) {
		s.PublishTo("slow", "Test", map[string]any{"text": text})
	}
	if s.Dropped() == 0 {
		t.Fatal("not cut")
	}
	for s.Active("slow") && time.Now().Before(limit) {
		time.Sleep(time.Millisecond)
	}
	if s.Active("slow") {
		t.Error("still active")
	}
}

// TestTooManySockets: more than the limit are refused with 503, and there is room again when one is gone.
func TestTooManySockets(t *testing.T) {
	_, base := start(t, Config{Routes: testRoutes(new([]string)), Clients: 1})
	first := dial(t, base, "app=a")
	try := func() int {
		conn, res, err := websocket.Dial(t.Context(), base+"/ari/events?app=b&api_key=bridge:secret", nil)
		if err == nil {
			_ = conn.CloseNow()
		}
		if res == nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	if got := try(); got != http.StatusServiceUnavailable {
		t.Errorf("second socket: %d", got)
	}
	_ = first.CloseNow()
	for limit := time.Now().Add(3 * time.Second); try() != http.StatusSwitchingProtocols; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("no room after the first is gone")
		}
	}
}

// TestRESTOverTheSocket: commands by the event socket have the answers of HTTP, in order.
func TestRESTOverTheSocket(t *testing.T) {
	var asked []string
	_, base := start(t, Config{Routes: testRoutes(&asked)})
	conn := dial(t, base, "app=a")
	for i, tt := range []struct {
		method, uri, body string
		status            float64
		want              string
	}{
		{"GET", "channels", "", 200, "[]"},
		{"POST", "/ari/channels/x", "", 200, `{"value":"x"}`},
		{"DELETE", "channels/none", "", 404, `{"message":"Channel not found"}`},
		{"POST", "bridges/b/addChannel", `{\"channel\":[\"x,y\"]}`, 204, ""},
	} {
		text := fmt.Sprintf(`{"type":"RESTRequest","transaction_id":"t","request_id":"%d","method":"%s","uri":"%s","message_body":"%s"}`, i, tt.method, tt.uri, tt.body)
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		m := next(t, conn)
		body, _ := m["message_body"].(string)
		if m["type"] != "RESTResponse" || m["request_id"] != fmt.Sprint(i) || m["status_code"] != tt.status || body != tt.want {
			t.Errorf("%s %s: %v", tt.method, tt.uri, m)
		}
	}
	if len(asked) != 1 || asked[0] != "x,y" {
		t.Errorf("asked %q", asked)
	}
}
