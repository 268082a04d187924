package ari

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// testNode is what Asterisk does with type=outbound_websocket: it dials, tells events and answers requests.
type testNode struct {
	t    *testing.T
	conn *websocket.Conn
	name string
}

func dialOutbound(t *testing.T, o *Outbound, account string) (*websocket.Conn, error) {
	t.Helper()
	head := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(account))}}
	conn, _, err := websocket.Dial(t.Context(), "ws://"+o.Addr().String()+"/any", &websocket.DialOptions{Subprotocols: []string{"ari"}, HTTPHeader: head})
	return conn, err
}

func startNode(t *testing.T, o *Outbound, name string) *testNode {
	t.Helper()
	conn, err := dialOutbound(t, o, name+":p")
	if err != nil {
		t.Fatal(err)
	}
	n := &testNode{t, conn, name}
	go n.answer()
	return n
}

// answer gives each request its own method and path back, with 200 for the filter and 503 for the rest.
func (n *testNode) answer() {
	for {
		_, b, err := n.conn.Read(n.t.Context())
		if err != nil {
			return
		}
		var req restRequest
		if json.Unmarshal(b, &req) != nil {
			return
		}
		status := http.StatusServiceUnavailable
		if strings.HasSuffix(req.URI, "/eventFilter") {
			status = http.StatusOK
		}
		text, _ := json.Marshal(restResponse{Type: "RESTResponse", RequestID: req.RequestID, Status: status, Body: `{"message":"` + n.name + ` says not now ` + req.URI + `"}`})
		_ = n.conn.Write(n.t.Context(), websocket.MessageText, text)
	}
}

func (n *testNode) tell(event string) {
	if err := n.conn.Write(n.t.Context(), websocket.MessageText, []byte(event)); err != nil {
		n.t.Error(err)
	}
}

// TestB41OutboundConnection is the connection that the node opens: requests go and events come over it, before and after a reader is there;
// a gap is told, and the node's next connection goes on.
func TestB41OutboundConnection(t *testing.T) {
	o, err := NewOutbound(OutboundConfig{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Nodes: map[string]string{"call1": "p"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var ran sync.WaitGroup
	ran.Go(func() {
		if err := o.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer ran.Wait()
	defer cancel()
	c := o.Clients()[0]
	for _, account := range []string{"call1:wrong", "other:p", ""} {
		if _, err := dialOutbound(t, o, account); err == nil {
			t.Errorf("account %q is taken", account)
		}
	}
	if _, err := c.Bridges(ctx); !errors.Is(err, errNoSocket) {
		t.Errorf("a request to a node that is not there: %v", err)
	}

	first := startNode(t, o, "call1")
	asked := func() string {
		_, err := c.Bridges(ctx)
		for errors.Is(err, errNoSocket) || errors.Is(err, errSocketClosed) { // the connection is just being made
			_, err = c.Bridges(ctx)
		}
		return err.Error()
	}
	if text := asked(); !strings.Contains(text, "503 call1 says not now bridges") {
		t.Errorf("a request without a reader of events: %s", text)
	}

	events := make(chan Event, 16)
	ran.Go(func() { _ = c.Stream(ctx, func(ev Event) { events <- ev }) })
	want := func(what string, is func(Event) bool) {
		t.Helper()
		select {
		case ev := <-events:
			if !is(ev) {
				t.Fatalf("%T, want %s", ev, what)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no %s", what)
		}
	}
	connected := func(ev Event) bool { _, is := ev.(*Connected); return is }
	hold := func(id string) func(Event) bool {
		return func(ev Event) bool { h, is := ev.(*ChannelHold); return is && h.Channel.ID == id }
	}
	want("Connected", connected)
	first.tell(`{"type":"ChannelHold","channel":{"id":"c1"}}`)
	want("the event", hold("c1"))
	first.conn.CloseNow()
	want("Disconnected", func(ev Event) bool { _, is := ev.(*Disconnected); return is })

	second := startNode(t, o, "call1")
	want("Connected again", connected)
	second.tell(`{"type":"ChannelHold","channel":{"id":"c2"}}`)
	want("the second connection's event", hold("c2"))
	if text := asked(); !strings.Contains(text, "503 call1") {
		t.Errorf("over the second connection: %s", text)
	}
}
