package ng

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ClientConfig names the media nodes. Nodes is needed; the rest has defaults.
type ClientConfig struct {
	Nodes []netip.AddrPort // all edges must name the same nodes by the same addresses; the order does not matter

	Timeout      time.Duration // for one request, default 1 s. An offer of a new call goes to a second node after half of it
	Retransmit   time.Duration // first repetition of a request, then doubling; default 250 ms
	PingInterval time.Duration // default 500 ms; a ping may take as long
	PingFailures int           // unanswered pings or requests in a row that make a node down, default 2; a refusal does at once
	Form         Form          // of requests, default Bencode
}

func (c *ClientConfig) validate() error {
	if len(c.Nodes) == 0 {
		return errors.New("ng client: no media node given")
	}
	seen := map[netip.AddrPort]bool{}
	for _, a := range c.Nodes {
		if !a.IsValid() || a.Port() == 0 {
			return fmt.Errorf("ng client: media node %s: want IP:PORT", a)
		}
		if seen[a] {
			return fmt.Errorf("ng client: media node %s is given twice", a)
		}
		seen[a] = true
	}
	if c.Timeout < 0 || c.Retransmit < 0 || c.PingInterval < 0 || c.PingFailures < 0 {
		return errors.New("ng client: a limit is negative")
	}
	fill(&c.Timeout, time.Second)
	fill(&c.Retransmit, 250*time.Millisecond)
	fill(&c.PingInterval, 500*time.Millisecond)
	fill(&c.PingFailures, 2)
	return nil
}

// Client drives media nodes over UDP. Its methods may be called from several goroutines; answers come only while Run runs.
type Client struct {
	cfg    ClientConfig
	nodes  []*node
	prefix string
	seq    atomic.Uint64
	calls  affinity
}

// NewClient opens one socket for each node and sends nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, prefix: rand.Text()[:12] + "_"}
	for _, a := range cfg.Nodes {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a))
		if err != nil {
			for _, n := range c.nodes {
				_ = n.conn.Close() // nothing was sent
			}
			return nil, fmt.Errorf("ng client: media node %s: %w", a, err)
		}
		c.nodes = append(c.nodes, &node{addr: a, name: a.String(), conn: conn, pending: map[string]chan []byte{}})
	}
	return c, nil
}

// Run reads answers and pings the nodes until ctx ends, then closes the sockets.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(func() { n.readLoop(ctx) })
		wg.Go(func() { c.watch(ctx, n) })
	}
	<-ctx.Done()
	for _, n := range c.nodes {
		_ = n.conn.Close() // ends readLoop; datagrams have nothing to flush
	}
	wg.Wait()
	return nil
}

// watch pings one node at the interval.
func (c *Client) watch(ctx context.Context, n *node) {
	ticker := time.NewTicker(c.cfg.PingInterval)
	defer ticker.Stop()
	for {
		_, err := c.ping(ctx, n, c.cfg.PingInterval)
		if ctx.Err() != nil {
			return
		}
		n.mark(err, c.cfg.PingFailures)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// errBudget tells the end of our own patience from the end of the caller's context.
var errBudget = errors.New("time is up")

// send runs one exchange with a node within budget.
func (c *Client) send(ctx context.Context, n *node, req *Request, budget time.Duration, patient bool) (*Response, error) {
	cookie := c.prefix + strconv.FormatUint(c.seq.Add(1), 36)
	msg, err := AppendRequest([]byte(cookie+" "), req, c.cfg.Form)
	if err != nil {
		return nil, err
	}
	if len(msg) > maxDatagram {
		return nil, fmt.Errorf("the request has %d bytes, a datagram takes %d", len(msg), maxDatagram)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, budget, errBudget)
	defer cancel()
	answer, err := n.exchange(ctx, cookie, msg, c.cfg.Retransmit, patient)
	if err != nil {
		return nil, err
	}
	return ParseResponse(answer)
}

func (c *Client) ping(ctx context.Context, n *node, budget time.Duration) (time.Duration, error) {
	start := time.Now()
	resp, err := c.send(ctx, n, &Request{Command: CmdPing}, budget, false)
	if err != nil {
		return 0, err
	}
	if resp.Result != ResultPong && resp.Result != ResultOK {
		return 0, fmt.Errorf("answered %q to a ping", resp.Result)
	}
	took := time.Since(start)
	n.rtt.Store(int64(took))
	return took, nil
}

// Ping asks one node if it is there and tells the round trip.
func (c *Client) Ping(ctx context.Context, addr netip.AddrPort) (time.Duration, error) {
	for _, n := range c.nodes {
		if n.addr == addr {
			took, err := c.ping(ctx, n, c.cfg.Timeout)
			n.mark(err, c.cfg.PingFailures)
			if err != nil {
				err = fmt.Errorf("ping: media node %s: %w", addr, err)
			}
			return took, err
		}
	}
	return 0, fmt.Errorf("ping: media node %s is not one of this client's", addr)
}

// Offer sends an offer to the node of the call; that of a new call goes on to the next node if the first does not
// answer or is full.
func (c *Client) Offer(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdOffer, req)
}

// Answer sends an answer to the node of the call.
func (c *Client) Answer(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdAnswer, req)
}

// Delete ends the call at its node.
func (c *Client) Delete(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdDelete, req)
}

// Query asks the node of the call what it knows of it.
func (c *Client) Query(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdQuery, req)
}

// Join lets a party of one call hear one of another, which must be on the same node.
func (c *Client) Join(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdJoin, req)
}

// Unjoin ends what Join did, if it has not ended by itself.
func (c *Client) Unjoin(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdUnjoin, req)
}

// Heard asks whether the party that is not from-tag's speaks again.
func (c *Client) Heard(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdHeard, req)
}

// Comfort turns comfort noise on or off.
func (c *Client) Comfort(ctx context.Context, req *Request) (*Response, error) {
	return c.command(ctx, CmdComfort, req)
}

// command chooses the node and runs the request. An error answer of a node is a Response; an error is no answer.
func (c *Client) command(ctx context.Context, command string, req *Request) (*Response, error) {
	r := *req
	r.Command = command
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	newCall := command == CmdOffer && r.ToTag == ""
	nodes := c.order(&r)
	deadline := time.Now().Add(c.cfg.Timeout)
	var first *Response
	var lastErr error
	for i, n := range nodes {
		budget := time.Until(deadline)
		if budget <= 0 {
			break
		}
		patient := true // a node that refuses may be starting
		if newCall && i+1 < len(nodes) {
			budget /= 2
			patient = false
		}
		resp, err := c.send(ctx, n, &r, budget, patient)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: media node %s: %w", command, n.addr, ctx.Err())
		}
		if errors.Is(err, errNoAnswer) || errors.Is(err, errRefused) {
			n.mark(err, c.cfg.PingFailures)
		}
		if err != nil {
			lastErr = fmt.Errorf("%s: media node %s: %w", command, n.addr, err)
			if newCall {
				continue
			}
			break
		}
		if first == nil {
			first = resp
		}
		if (newCall && resp.Result == ResultLoadLimit) || (command != CmdOffer && callUnknown(resp)) {
			continue
		}
		c.remember(command, &r, n, resp)
		return resp, nil
	}
	if first != nil {
		return first, nil
	}
	return nil, lastErr
}

// order lists the nodes to try: the one that carries the call, then by rank, those that are down at the end. A re-offer
// leaves a node that is down: so a lost node's calls move (B23).
func (c *Client) order(r *Request) []*node {
	ranked := rank(c.nodes, r.CallID)
	out := make([]*node, 0, len(ranked))
	add := func(down bool) {
		for _, n := range ranked {
			if n.down.Load() == down && (len(out) == 0 || out[0] != n) {
				out = append(out, n)
			}
		}
	}
	if n := c.calls.get(r.CallID); n != nil && (r.Command != CmdOffer || !n.down.Load()) {
		out = append(out, n)
	}
	add(false)
	add(true)
	return out
}

func (c *Client) remember(command string, r *Request, n *node, resp *Response) {
	switch {
	case command == CmdOffer && resp.Result == ResultOK:
		c.calls.set(r.CallID, n)
	case command == CmdDelete && r.ToTag == "" && r.ViaBranch == "":
		c.calls.forget(r.CallID)
	}
}

// callUnknown tells that a node does not know the call: another may. The texts are rtpengine's and our engine's.
func callUnknown(r *Response) bool {
	s := normal(r.ErrorReason + " " + r.Warning)
	return strings.Contains(s, "unknown-call") || strings.Contains(s, "call-id-not-found")
}

// listLimit is what fits into a datagram with Call-IDs of 60 bytes.
const listLimit = 1000

// List asks all nodes for their calls, at most 1000 of each. Those of nodes that answered are returned with the error of one that did not.
func (c *Client) List(ctx context.Context) ([]string, error) {
	var calls []string
	var errs []error
	for _, n := range c.nodes {
		resp, err := c.send(ctx, n, &Request{Command: CmdList, Limit: listLimit}, c.cfg.Timeout, true)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("list: media node %s: %w", n.addr, err))
		case resp.Result == ResultError:
			errs = append(errs, fmt.Errorf("list: media node %s: %s", n.addr, resp.ErrorReason))
		default:
			calls = append(calls, resp.Calls...)
		}
	}
	return calls, errors.Join(errs...)
}

// NodeStatus is what a client knows of a node.
type NodeStatus struct {
	Addr                            netip.AddrPort
	Up                              bool
	RTT                             time.Duration // of the last answered ping
	Requests, Timeouts, Retransmits int64
}

// Nodes tells the state of each node, in the order of the config.
func (c *Client) Nodes() []NodeStatus {
	out := make([]NodeStatus, len(c.nodes))
	for i, n := range c.nodes {
		out[i] = NodeStatus{n.addr, !n.down.Load(), time.Duration(n.rtt.Load()), n.requests.Load(), n.timeouts.Load(), n.retransmits.Load()}
	}
	return out
}
