package ng

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const goldenScore = 0x7cc3aebe8fdbc916

func startClient(t testing.TB, cfg ClientConfig) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, c.Run)
	return c
}

func startNode(t testing.TB, h *echo) netip.AddrPort {
	t.Helper()
	a := start(t, ServerConfig{UDP: []netip.AddrPort{loopback}}, h).Addrs().UDP[0]
	h.mu.Lock()
	defer h.mu.Unlock()
	h.name = a.String()
	return a
}

func offerOf(callID string) *Request {
	return &Request{CallID: callID, FromTag: "f", SDP: []byte(testSDP)}
}

// callFor finds a Call-ID whose first node is the one at addr.
func callFor(t testing.TB, c *Client, addr netip.AddrPort) string {
	t.Helper()
	for i := range 1000 {
		if id := fmt.Sprint("call-", i); rank(c.nodes, id)[0].addr == addr {
			return id
		}
	}
	t.Fatal("no Call-ID falls on the node")
	return ""
}

func TestB22Client(t *testing.T) {
	h := &echo{}
	addr := startNode(t, h)
	for _, form := range []Form{Bencode, JSON} {
		c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{addr}, Form: form})
		ctx := context.Background()
		resp, err := c.Offer(ctx, offerOf("c"))
		if err != nil || resp.Result != ResultOK || string(resp.SDP) != testSDP {
			t.Errorf("%v %+v", err, resp)
		}
		h.setAnswer(func(r *Request) *Response {
			if r.Command == CmdList {
				return &Response{Result: ResultOK, Calls: []string{"a", "b"}}
			}
			return Error("no " + r.Command)
		})
		req := &Request{CallID: "c", FromTag: "f", ToTag: "t", SDP: []byte("v")}
		for name, f := range map[string]func(context.Context, *Request) (*Response, error){"answer": c.Answer, "delete": c.Delete, "query": c.Query} {
			// An error answer is an answer.
			if resp, err := f(ctx, req); err != nil || resp.ErrorReason != "no "+name {
				t.Errorf("%s: %v %+v", name, err, resp)
			}
		}
		if req.Command != "" {
			t.Error("the caller's request was changed")
		}
		if calls, err := c.List(ctx); err != nil || !slices.Equal(calls, []string{"a", "b"}) {
			t.Error(calls, err)
		}
		if d, err := c.Ping(ctx, addr); err != nil || d <= 0 {
			t.Error(d, err)
		}
		if st := c.Nodes()[0]; !st.Up || st.Addr != addr || st.RTT <= 0 || st.Requests < 5 {
			t.Errorf("%+v", st)
		}
		if _, err := c.Offer(ctx, &Request{CallID: "c"}); err == nil || !strings.Contains(err.Error(), `key "from-tag" is missing`) {
			t.Error(err)
		}
		h.setAnswer(nil)
	}
}

// lossy is a node that drops the first copies of a request and notes the cookies; pings pass.
type lossy struct {
	mu      sync.Mutex
	cookies []string
	at      []time.Time
}

func (l *lossy) serve(t testing.TB, drop int) netip.AddrPort {
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback))
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { pc.Close() })
		defer stop()
		buf := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return nil
			}
			cookie, body, _ := cutCookie(buf[:n])
			answer := "d6:result4:ponge"
			if !strings.Contains(string(body), "4:ping") {
				l.mu.Lock()
				l.cookies, l.at = append(l.cookies, cookie), append(l.at, time.Now())
				k := len(l.cookies)
				l.mu.Unlock()
				if k <= drop {
					continue
				}
				answer = "d6:result2:oke"
			}
			pc.WriteToUDPAddrPort([]byte("stranger d6:result5:errore"), from)
			pc.WriteToUDPAddrPort([]byte(cookie+" "+answer), from)
		}
	})
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Lost requests are repeated with the same cookie, after 250 ms and then twice as late each time.
func TestB22Retransmission(t *testing.T) {
	l := &lossy{}
	c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{l.serve(t, 2)}, Retransmit: 50 * time.Millisecond})
	if resp, err := c.Offer(context.Background(), offerOf("c")); err != nil || resp.Result != ResultOK {
		t.Fatal(err, resp)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.cookies) != 3 || l.cookies[0] != l.cookies[1] || l.cookies[1] != l.cookies[2] {
		t.Errorf("cookies %v", l.cookies)
	}
	if a, b := l.at[1].Sub(l.at[0]), l.at[2].Sub(l.at[1]); a < 40*time.Millisecond || b < 80*time.Millisecond {
		t.Errorf("repeated after %v and %v", a, b)
	}
}

func TestNoAnswer(t *testing.T) {
	l := &lossy{}
	addr := l.serve(t, 100)
	c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{addr}, Timeout: 150 * time.Millisecond})
	_, err := c.Offer(context.Background(), offerOf("c"))
	if err == nil || err.Error() != "offer: media node "+addr.String()+": no answer" {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Query(ctx, &Request{CallID: "c"}); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Error(err)
	}
}

// All edges rank alike whatever the order of their lists, the load is even, and a lost node moves only its own calls (B23).
func TestB23Rendezvous(t *testing.T) {
	nodesOf := func(addrs ...string) (nodes []*node) {
		for _, a := range addrs {
			nodes = append(nodes, &node{name: a})
		}
		return nodes
	}
	a := nodesOf("10.0.0.1:2223", "10.0.0.2:2223", "10.0.0.3:2223", "10.0.0.4:2223")
	b := nodesOf("10.0.0.3:2223", "10.0.0.1:2223", "10.0.0.4:2223", "10.0.0.2:2223")
	less := nodesOf("10.0.0.1:2223", "10.0.0.2:2223", "10.0.0.4:2223")
	count := map[string]int{}
	for i := range 10_000 {
		id := fmt.Sprintf("%d-3c2671b3@192.0.2.10", i)
		ra, rb, rl := rank(a, id), rank(b, id), rank(less, id)
		count[ra[0].name]++
		for j := range ra {
			if ra[j].name != rb[j].name {
				t.Fatalf("%s: two edges disagree", id)
			}
		}
		want := ra[0].name
		if want == "10.0.0.3:2223" {
			want = ra[1].name
		}
		if rl[0].name != want {
			t.Fatalf("%s moved from %s to %s", id, want, rl[0].name)
		}
	}
	for name, n := range count {
		if n < 2300 || n > 2700 {
			t.Errorf("%s has %d of 10000 calls", name, n)
		}
	}
	// Edges of two releases must agree: these numbers never change.
	if got := score("10.0.0.1:2223", "call-1"); got != goldenScore {
		t.Errorf("score %#x", got)
	}
}

// A node that does not answer loses its new calls to the next in hash order, at once and later (B23).
func TestB23Failover(t *testing.T) {
	dead, alive := &lossy{}, &echo{}
	deadAddr, aliveAddr := dead.serve(t, 1<<30), startNode(t, alive)
	c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{deadAddr, aliveAddr}, Timeout: 400 * time.Millisecond, PingInterval: time.Hour})
	id := callFor(t, c, deadAddr)
	start := time.Now()
	resp, err := c.Offer(context.Background(), offerOf(id))
	if err != nil || resp.Warning != aliveAddr.String() || time.Since(start) > 390*time.Millisecond {
		t.Fatal(err, resp, time.Since(start))
	}
	// The answer follows the offer, not the hash.
	resp, err = c.Answer(context.Background(), &Request{CallID: id, FromTag: "f", ToTag: "t", SDP: []byte("v")})
	if err != nil || resp.Warning != aliveAddr.String() {
		t.Error(err, resp)
	}
	// A query for a call that only the silent node could know is not answered by another.
	if _, err := c.Query(context.Background(), &Request{CallID: id + "x"}); err == nil && rank(c.nodes, id+"x")[0].addr == deadAddr {
		t.Error("a query was answered by the wrong node")
	}
	if c.Nodes()[0].Timeouts == 0 {
		t.Errorf("%+v", c.Nodes()[0])
	}
}

// Pings find a dead node, and one that comes back; a port where nobody listens is known at once (B23).
func TestB23Health(t *testing.T) {
	h := &echo{}
	s, err := NewServer(ServerConfig{UDP: []netip.AddrPort{loopback}}, h)
	if err != nil {
		t.Fatal(err)
	}
	addr := s.Addrs().UDP[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	other := startNode(t, &echo{})
	c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{addr, other}, PingInterval: 20 * time.Millisecond})
	up := func() bool { return c.Nodes()[0].Up }
	id := callFor(t, c, addr)
	waitFor(t, func() bool { return c.Nodes()[0].RTT > 0 })
	if resp, err := c.Offer(context.Background(), offerOf(id)); err != nil || resp.Warning == other.String() {
		t.Fatal(err, resp)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return !up() })
	// The lost node's call moves by re-offer.
	again := offerOf(id)
	again.ToTag = "t"
	if resp, err := c.Offer(context.Background(), again); err != nil || resp.Warning != other.String() {
		t.Error(err, resp)
	}
	start(t, ServerConfig{UDP: []netip.AddrPort{addr}}, h)
	waitFor(t, up)
	// It stays where it is now.
	if resp, err := c.Offer(context.Background(), again); err != nil || resp.Warning != other.String() {
		t.Error(err, resp)
	}
	// A new call goes by the hash again.
	resp, err := c.Offer(context.Background(), offerOf(id+"-"))
	if want := rank(c.nodes, id+"-")[0].addr.String(); err != nil || (resp.Warning == other.String()) != (want == other.String()) {
		t.Error(err, resp, want)
	}
}

// A node that is full passes new calls on; if all are full, the first one's answer is the answer.
func TestB23LoadLimit(t *testing.T) {
	full := func(*Request) *Response { return &Response{Result: ResultLoadLimit} }
	a, b := &echo{answer: full}, &echo{}
	c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{startNode(t, a), startNode(t, b)}})
	id := callFor(t, c, c.nodes[0].addr)
	if resp, err := c.Offer(context.Background(), offerOf(id)); err != nil || resp.Warning != b.name {
		t.Error(err, resp)
	}
	b.setAnswer(full)
	if resp, err := c.Offer(context.Background(), offerOf(id+"x")); err != nil || resp.Result != ResultLoadLimit {
		t.Error(err, resp)
	}
}

// An edge that never saw the offer finds the node that has the call (B23).
func TestB23UnknownCallGoesOn(t *testing.T) {
	unknown := func(r *Request) *Response {
		if r.Command == CmdDelete {
			return &Response{Result: ResultOK, Warning: "Call-ID not found or tags didn't match"}
		}
		return Error("Unknown call-id")
	}
	a, b := &echo{answer: unknown}, &echo{}
	c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{startNode(t, a), startNode(t, b)}})
	id := callFor(t, c, c.nodes[0].addr)
	req := &Request{CallID: id, FromTag: "f", ToTag: "t", SDP: []byte("v")}
	for name, f := range map[string]func(context.Context, *Request) (*Response, error){"answer": c.Answer, "delete": c.Delete, "query": c.Query} {
		if resp, err := f(context.Background(), req); err != nil || resp.Warning != b.name {
			t.Errorf("%s: %v %+v", name, err, resp)
		}
	}
	b.setAnswer(unknown)
	if resp, err := c.Query(context.Background(), req); err != nil || resp.Result != ResultError {
		t.Error(err, resp)
	}
}

func TestAffinityBound(t *testing.T) {
	var a affinity
	n := &node{}
	for i := range 3 * affinityCalls {
		a.set(fmt.Sprint(i), n)
	}
	if k := len(a.young) + len(a.old); k > 2*affinityCalls {
		t.Errorf("%d calls are remembered", k)
	}
	if a.get(fmt.Sprint(3*affinityCalls-1)) != n || a.get("0") != nil {
		t.Error("the wrong ones were forgotten")
	}
}

func TestClientConfig(t *testing.T) {
	one := netip.MustParseAddrPort("127.0.0.1:2223")
	for _, cfg := range []ClientConfig{{}, {Nodes: []netip.AddrPort{{}}}, {Nodes: []netip.AddrPort{loopback}}, {Nodes: []netip.AddrPort{one, one}}, {Nodes: []netip.AddrPort{one}, Timeout: -1}} {
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func TestClientParallel(t *testing.T) {
	c := startClient(t, ClientConfig{Nodes: []netip.AddrPort{startNode(t, &echo{}), startNode(t, &echo{})}})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				req := offerOf(fmt.Sprint(i, "-", j))
				req.SDP = []byte(req.CallID)
				if resp, err := c.Offer(context.Background(), req); err != nil || string(resp.SDP) != req.CallID {
					t.Error(err, resp)
				}
			}
		})
	}
	wg.Wait()
}
