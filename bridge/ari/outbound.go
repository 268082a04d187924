package ari

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// OutboundConfig is where nodes connect that open the WebSocket themselves. Listen and Nodes must be given.
type OutboundConfig struct {
	Listen netip.AddrPort
	Nodes  map[string]string // password of each node, by its name
	Client ClientConfig      // URL is not used
}

// Outbound accepts the WebSocket that Asterisk opens itself (ari.conf: type=outbound_websocket). Events come and requests go over the one
// connection, so that no port of the node has to be reachable. A node that is not connected answers no request, and is back when it comes.
type Outbound struct {
	ln    net.Listener
	links map[string]*link
}

// NewOutbound opens the port; nobody is served before Run.
func NewOutbound(cfg OutboundConfig) (*Outbound, error) {
	cfg.Client.fill()
	o := &Outbound{links: map[string]*link{}}
	for name, password := range cfg.Nodes {
		if name == "" || password == "" {
			return nil, fmt.Errorf("ari: node %q that connects by itself: name and password are needed", name)
		}
		k := &link{name: name, password: password}
		k.client = &Client{cfg: cfg.Client, link: k, via: k, slot: make(chan struct{}, cfg.Client.MaxInFlight)}
		o.links[name] = k
	}
	ln, err := net.Listen("tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("ari: %w", err)
	}
	o.ln = ln
	return o, nil
}

// Addr is the bound address.
func (o *Outbound) Addr() netip.AddrPort { return o.ln.Addr().(*net.TCPAddr).AddrPort() }

// Clients are those of all nodes; a nil Outbound has none.
func (o *Outbound) Clients() []*Client {
	if o == nil {
		return nil
	}
	var out []*Client
	for _, k := range o.links {
		out = append(out, k.client)
	}
	return out
}

// Run serves until ctx ends.
func (o *Outbound) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The server forgets a connection that was taken over, so they are counted here. None is counted once closing is set.
	var served sync.WaitGroup
	var mu sync.Mutex
	closing := false
	srv := &http.Server{ReadHeaderTimeout: dialTimeout, BaseContext: func(net.Listener) context.Context { return ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if closing {
				mu.Unlock()
				return
			}
			served.Add(1)
			mu.Unlock()
			defer served.Done()
			o.accept(ctx, w, r)
		})}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(o.ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("ari: nodes that connect by themselves: %w", err)
	case <-ctx.Done():
	}
	cancel()
	_ = srv.Close()
	<-ended
	mu.Lock()
	closing = true
	mu.Unlock()
	served.Wait()
	return nil
}

// accept is one connection of a node, until it ends.
func (o *Outbound) accept(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	k := o.links[user]
	if k == nil || !sameText(password, k.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="rtcedge"`)
		http.Error(w, "a node's account is needed", http.StatusUnauthorized)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ari"}})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	s := &socketCaller{conn: conn, waiting: map[string]chan restResponse{}}
	k.connected(s)
	err = pump(ctx, conn, func(ev Event) { k.deliver(ctx, s, ev) }, s.answer, k.client.probe)
	s.close()
	k.disconnected(s, err)
}

// link is a node that connects by itself: the newest connection counts.
type link struct {
	name, password string
	client         *Client

	mu     sync.Mutex // guards socket
	socket *socketCaller

	turn    sync.Mutex // held while the handler runs; guards the rest
	handler func(Event)
	live    bool // Connected was told of a connection
}

var errNoSocket = errors.New("the node is not connected")

func (k *link) connected(s *socketCaller) {
	k.mu.Lock()
	old := k.socket
	k.socket = s
	k.mu.Unlock()
	if old != nil {
		old.conn.CloseNow() // the node has come again: what it left is dead
	}
}

func (k *link) disconnected(s *socketCaller, err error) {
	k.mu.Lock()
	newest := k.socket == s
	if newest {
		k.socket = nil
	}
	k.mu.Unlock()
	if !newest {
		return
	}
	k.turn.Lock()
	defer k.turn.Unlock()
	if k.live && k.handler != nil {
		k.handler(&Disconnected{Err: err})
	}
	k.live = false
}

// deliver hands an event to who reads the stream. Without a reader it is lost: the reader begins with Connected and reads the node's state.
func (k *link) deliver(ctx context.Context, s *socketCaller, ev Event) {
	_, first := ev.(*Connected)
	if first {
		if err := k.client.filter(ctx); err != nil {
			k.client.cfg.Logger.Warn("ari outbound", "node", k.name, "error", err)
		}
	}
	k.turn.Lock()
	defer k.turn.Unlock()
	k.mu.Lock()
	newest := k.socket == s
	k.mu.Unlock()
	if !newest {
		return
	}
	k.live = k.live || first
	if k.handler != nil {
		k.handler(ev)
	}
}

// stream is Client.Stream of such a node.
func (k *link) stream(ctx context.Context, handle func(Event)) error {
	k.turn.Lock()
	k.handler = handle
	if k.live {
		handle(&Connected{})
	}
	k.turn.Unlock()
	<-ctx.Done()
	k.turn.Lock()
	defer k.turn.Unlock()
	k.handler = nil
	return nil
}

func (k *link) call(ctx context.Context, method, path string, query url.Values, body []byte) (int, []byte, error) {
	k.mu.Lock()
	s := k.socket
	k.mu.Unlock()
	if s == nil {
		return 0, nil, errNoSocket
	}
	return s.call(ctx, method, path, query, body)
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
