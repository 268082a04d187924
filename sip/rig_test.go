package sip

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// rig is a proxy on real but idle listeners: the test hands it messages and sees what it would send.
type rig struct {
	t    *testing.T
	p    *Proxy
	ls   []*transport.Listener
	now  time.Time
	sent []sentMessage
	fail map[netip.AddrPort]error
	mute bool // only count, for allocation tests
	n    int
}

type sentMessage struct {
	text string
	to   transport.Target
}

const (
	node1 = "127.0.1.1:5080"
	node2 = "127.0.1.2:5080"
	node3 = "127.0.1.3:5080"
	phone = "127.0.2.1:5070"
)

func (r *rig) Send(b []byte, to transport.Target) error {
	if r.mute {
		r.n++
		return nil
	}
	if to.Flow == 0 {
		if err := r.fail[to.Addr]; err != nil {
			return err
		}
	}
	r.sent = append(r.sent, sentMessage{string(b), to})
	return nil
}

func farms(call ...string) dispatch.Config {
	var c dispatch.Config
	for _, a := range call {
		c.Farms[dispatch.Call] = append(c.Farms[dispatch.Call], dispatch.NodeConfig{Addr: netip.MustParseAddrPort(a)})
	}
	return c
}

func newRig(t *testing.T, cfg Config, listeners ...transport.ListenerConfig) *rig {
	t.Helper()
	if len(listeners) == 0 {
		listeners = []transport.ListenerConfig{udpOn("127.0.0.1")}
	}
	r := &rig{t: t, now: time.Unix(1_000_000, 0), fail: map[netip.AddrPort]error{}}
	if cfg.Secret == nil {
		cfg.Secret = []byte("0123456789abcdef0123456789abcdef")
	}
	if cfg.Farms.Farms[dispatch.Call] == nil {
		cfg.Farms = farms(node1)
	}
	cfg.Transport.Listeners, cfg.Transport.Workers = listeners, 1
	p, err := newProxy(cfg, func() time.Time { return r.now })
	if err != nil {
		t.Fatal(err)
	}
	tr, err := transport.New(cfg.Transport, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	p.attach(tr.Listeners(), r)
	r.p, r.ls = p, tr.Listeners()
	return r
}

func udpOn(ip string) transport.ListenerConfig {
	return transport.ListenerConfig{Proto: transport.UDP, Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), 0)}
}

func tcpOn(ip string) transport.ListenerConfig {
	l := udpOn(ip)
	l.Proto = transport.TCP
	return l
}

// edge is host:port of a listener.
func (r *rig) edge(i int) string { return r.ls[i].Addr().String() }

// edgeName is a word of its own, as nonces and tags may hold its letters.
var edgeName = regexp.MustCompile(`\bE[0-9]\b`)

// text makes a message: CRLF line ends, E0 and E1 replaced by the edge's addresses, Content-Length added.
func (r *rig) text(s string) string {
	s = edgeName.ReplaceAllStringFunc(s, func(name string) string { return r.edge(int(name[len(name)-1] - '0')) })
	head, body, _ := strings.Cut(strings.TrimLeft(s, "\n"), "\n\n")
	head, body = strings.TrimRight(head, "\n"), strings.ReplaceAll(body, "\n", "\r\n")
	return strings.ReplaceAll(head, "\n", "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// put hands one message over and returns what was sent for it.
func (r *rig) put(from string, s string) []sentMessage { return r.putOn(0, 0, from, r.text(s)) }

func (r *rig) putOn(listener int, flow transport.Flow, from, raw string) []sentMessage {
	r.sent = nil
	r.p.Handle(&transport.Message{Bytes: []byte(raw), From: netip.MustParseAddrPort(from), Listener: r.ls[listener], Flow: flow})
	r.work()
	return r.sent
}

// work does what the queues' goroutines would do.
func (r *rig) work() {
	for _, q := range r.p.queues {
		for len(q.jobs) > 0 {
			r.p.work(context.Background(), r.p.newPass(), q, <-q.jobs)
		}
	}
}

// one expects one message to an address and returns it.
func (r *rig) one(out []sentMessage, to string) string {
	r.t.Helper()
	if len(out) != 1 {
		r.t.Fatalf("%d messages sent, want 1; drops %v\n%v", len(out), r.drops(), out)
	}
	if out[0].to.Addr.String() != to {
		r.t.Fatalf("sent to %s, want %s:\n%s", out[0].to.Addr, to, out[0].text)
	}
	return out[0].text
}

// status expects one answer.
func (r *rig) status(out []sentMessage, code int) string {
	r.t.Helper()
	if len(out) != 1 || !strings.HasPrefix(out[0].text, fmt.Sprintf("SIP/2.0 %d ", code)) {
		r.t.Fatalf("want %d; drops %v; sent %v", code, r.drops(), out)
	}
	return out[0].text
}

func (r *rig) drops() map[string]uint64 {
	m := map[string]uint64{}
	for d, n := range r.p.Stats().Drops {
		if n > 0 {
			m[Drop(d).String()] = n
		}
	}
	return m
}

func parse(t *testing.T, s string) *message.Message {
	t.Helper()
	m := new(message.Message)
	if f := m.Parse([]byte(s)); f != message.FaultNone {
		t.Fatalf("%v:\n%s", f, s)
	}
	return m
}

// lines are the values of all fields of a name, as they stand.
func lines(s, name string) (out []string) {
	head, _, _ := strings.Cut(s, "\r\n\r\n")
	for _, l := range strings.Split(head, "\r\n") {
		if n, v, ok := strings.Cut(l, ":"); ok && strings.EqualFold(n, name) {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return out
}

func invite(extra string) string {
	return `
INVITE sip:600@E0 SIP/2.0
Via: SIP/2.0/UDP 127.0.2.1:5070;branch=z9hG4bKabc1;rport
Max-Forwards: 70
From: "A" <sip:1001@E0>;tag=ft
To: <sip:600@E0>
Call-ID: call-1@phone
CSeq: 1 INVITE
Contact: <sip:1001@127.0.2.1:5070>
` + extra
}

// answer makes a response to what the proxy sent on.
func answer(req string, code int, toTag, extra string) string {
	head, _, _ := strings.Cut(req, "\r\n\r\n")
	out := fmt.Sprintf("SIP/2.0 %d X\r\n", code)
	for _, l := range strings.Split(head, "\r\n")[1:] {
		name, _, _ := strings.Cut(l, ":")
		switch strings.ToLower(name) {
		case "via", "from", "call-id", "cseq", "record-route":
			out += l + "\r\n"
		case "to":
			if !strings.Contains(l, "tag=") && toTag != "" {
				l += ";tag=" + toTag
			}
			out += l + "\r\n"
		}
	}
	body := ""
	if i := strings.Index(extra, "v=0"); i >= 0 {
		body, extra = strings.ReplaceAll(extra[i:], "\n", "\r\n"), extra[:i]
	}
	return out + strings.ReplaceAll(extra, "\n", "\r\n") + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

const sdp = "Content-Type: application/sdp\n\nv=0\no=- 1 1 IN IP4 127.0.2.1\ns=-\nc=IN IP4 127.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n"

// fakeMedia is a media node that notes what it was asked and marks the bodies.
type fakeMedia struct {
	mu     sync.Mutex // guards asked
	asked  []ng.Request
	reason string // refuse with it
	silent bool
	block  chan struct{}
}

func (f *fakeMedia) do(req *ng.Request) (*ng.Response, error) {
	if f.block != nil {
		<-f.block
	}
	q := *req
	q.SDP = append([]byte(nil), req.SDP...)
	f.mu.Lock()
	f.asked = append(f.asked, q)
	f.mu.Unlock()
	switch {
	case f.silent:
		return nil, context.DeadlineExceeded
	case f.reason != "":
		return &ng.Response{Result: ng.ResultError, ErrorReason: f.reason}, nil
	}
	return &ng.Response{Result: ng.ResultOK, SDP: []byte("v=0\r\ns=changed by media\r\n")}, nil
}

func (f *fakeMedia) Offer(_ context.Context, r *ng.Request) (*ng.Response, error)  { return f.do(r) }
func (f *fakeMedia) Answer(_ context.Context, r *ng.Request) (*ng.Response, error) { return f.do(r) }
func (f *fakeMedia) Delete(_ context.Context, r *ng.Request) (*ng.Response, error) { return f.do(r) }
func (f *fakeMedia) Query(_ context.Context, r *ng.Request) (*ng.Response, error)  { return f.do(r) }

// took lists the commands that the media node was asked since the last call.
func (f *fakeMedia) took() (out []ng.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, f.asked = f.asked, nil
	return out
}

// rigMessage is a datagram for a worker of its own.
func rigMessage(r *rig, b []byte) *transport.Message {
	return &transport.Message{Bytes: b, From: netip.MustParseAddrPort(phone), Listener: r.ls[0], Worker: new(transport.Worker)}
}
