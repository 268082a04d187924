package ari

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Outbound accepts the WebSocket that Asterisk opens itself (ari.conf: type=outbound_websocket). Events come and requests go over the one
// connection, so that no port of the node has to be reachable.
type Outbound struct {
	User, Password string
	Config         ClientConfig // URL is not used
	// Serve gets a client for the node and its stream; the connection lives until Serve returns or the node goes.
	Serve func(ctx context.Context, c *Client, stream func(handle func(Event)) error)
}

// ServeHTTP is one connection of a node.
func (o *Outbound) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if !ok || !sameText(user, o.User) || !sameText(password, o.Password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="rtcedge"`)
		http.Error(w, "a node's account is needed", http.StatusUnauthorized)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ari"}})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	cfg := o.Config
	cfg.fill()
	via := &socketCaller{conn: conn, waiting: map[string]chan restResponse{}}
	defer via.close()
	c := &Client{cfg: cfg, via: via, slot: make(chan struct{}, cfg.MaxInFlight)}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	o.Serve(ctx, c, func(handle func(Event)) error {
		filtered := func(ev Event) {
			if _, is := ev.(*Connected); is {
				if err := c.Filter(ctx, "ChannelVarset", "ChannelDialplan", "ChannelCallerId", "ChannelConnectedLine"); err != nil {
					cfg.Logger.Warn("ari outbound", "error", err)
				}
			}
			handle(ev)
		}
		return pump(ctx, conn, filtered, via.answer)
	})
}

// socketCaller is REST over the WebSocket: requests and answers are matched by request_id.
type socketCaller struct {
	conn *websocket.Conn

	mu      sync.Mutex // guards the rest
	waiting map[string]chan restResponse
	closed  bool
}

type restRequest struct {
	Type          string    `json:"type"`
	TransactionID string    `json:"transaction_id"`
	RequestID     string    `json:"request_id"`
	Method        string    `json:"method"`
	URI           string    `json:"uri"`
	ContentType   string    `json:"content_type,omitempty"`
	Query         []nameVal `json:"query_strings,omitempty"`
	Body          string    `json:"message_body,omitempty"`
}

type nameVal struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type restResponse struct {
	Type      string `json:"type"`
	RequestID string `json:"request_id"`
	Status    int    `json:"status_code"`
	Body      string `json:"message_body"`
}

var errSocketClosed = errors.New("the node's connection is closed")

func (s *socketCaller) call(ctx context.Context, method, path string, query url.Values, body []byte) (int, []byte, error) {
	req := restRequest{Type: "RESTRequest", TransactionID: rand.Text(), RequestID: rand.Text(), Method: method, URI: path, Body: string(body)}
	if body != nil {
		req.ContentType = "application/json"
	}
	for name, values := range query {
		req.Query = append(req.Query, nameVal{name, values[0]})
	}
	text, err := json.Marshal(req)
	if err != nil {
		return 0, nil, err
	}
	got := make(chan restResponse, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, nil, errSocketClosed
	}
	s.waiting[req.RequestID] = got
	s.mu.Unlock()
	defer s.forget(req.RequestID)
	// A write that is cut by its context closes the connection, so the request's own deadline must not end it.
	write, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.conn.Write(write, websocket.MessageText, text); err != nil {
		return 0, nil, err
	}
	select {
	case r, ok := <-got:
		if !ok {
			return 0, nil, errSocketClosed
		}
		return r.Status, []byte(r.Body), nil
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

// answer takes a message if it is an answer.
func (s *socketCaller) answer(b []byte) bool {
	var r restResponse
	if json.Unmarshal(b, &r) != nil || r.Type != "RESTResponse" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.waiting[r.RequestID]; got != nil {
		got <- r
		delete(s.waiting, r.RequestID)
	}
	return true
}

func (s *socketCaller) forget(request string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, request)
}

func (s *socketCaller) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for request, got := range s.waiting {
		close(got)
		delete(s.waiting, request)
	}
}
