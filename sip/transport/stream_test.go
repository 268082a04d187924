package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestB13StreamCuts: messages in one piece, byte by byte, many at once, with line ends between them, and of 64 KB.
func TestB13StreamCuts(t *testing.T) {
	// The queue takes all of it, should the client be slow to read.
	l := start(t, Config{Listeners: listen(TCP), ConnQueue: 4 << 20}, newEcho()).Listeners()[0]
	c := dialStream(t, l, nil)
	var all, want bytes.Buffer
	for i := range 200 {
		m := message(i, i*i%3000)
		all.WriteString(m)
		want.WriteString(m)
		if i%7 == 0 {
			all.WriteString("\r\n")
		}
	}
	fit := message(1, 64<<10-len(message(1, 10000))+10000)
	if len(fit) != 64<<10 {
		t.Fatal(len(fit))
	}
	all.WriteString(fit)
	want.WriteString(fit)
	go func() {
		b := all.Bytes()
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 300 { // the first bytes one by one
			_, _ = c.Write(b[i : i+1])
		}
		for b = b[300:]; len(b) > 0; {
			n := min(1+r.IntN(9000), len(b))
			_, _ = c.Write(b[:n])
			b = b[n:]
		}
	}()
	expect(t, c, want.String())
	if s := l.Stats(); s.MessagesIn != 201 || s.Open != 1 {
		t.Errorf("%+v", s)
	}
}

// TestF32BadStreams: each ends its connection for the right reason, at once, and nothing reaches the Handler.
func TestF32BadStreams(t *testing.T) {
	e := newEcho()
	l := start(t, Config{Listeners: listen(TCP)}, e).Listeners()[0]
	head := "INVITE sip:a@b SIP/2.0\r\n"
	tests := []struct {
		name, bytes string
		why         CloseReason
	}{
		{"1 GB Content-Length", head + "Content-Length: 1073741824\r\n\r\n", CloseOversize},
		{"before the header block ends", head + "l: 99999999999999999999999\r\n", CloseOversize},
		{"64 KB line", head + "X: " + strings.Repeat("a", 70<<10), CloseOversize},
		{"endless header block", head + strings.Repeat("X: y\r\n", 12<<10), CloseOversize},
		{"negative length", head + "Content-Length: -5\r\n\r\n", CloseMalformed},
		{"two lengths", head + "Content-Length: 5\r\nl: 6\r\n\r\n", CloseMalformed},
		{"two lengths on a line", head + "Content-Length: 5, 5\r\n\r\n", CloseMalformed},
		{"two lengths by fold", head + "Content-Length: 5\r\n 6\r\n\r\n", CloseMalformed},
		{"no length", head + "Via: x\r\n\r\n", CloseNoLength},
		{"HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", CloseNoLength},
		{"TLS on TCP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", CloseMalformed},
		{"binary", "\x00\x01\x02", CloseMalformed},
		{"garbage after a body", message(1, 5) + "\x80", CloseMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := l.Stats().Closed[test.why]
			c := dialStream(t, l, nil)
			_, _ = io.WriteString(c, test.bytes)
			expectClosed(t, c)
			eventually(t, test.why.String(), func() bool { return l.Stats().Closed[test.why] == before+1 })
		})
	}
	if n := len(e.messages); n != 1 {
		t.Errorf("%d messages, want the one before the garbage", n)
	}
}

// TestF32Slowloris: whoever is inside something for too long is closed, however busy he is with it.
func TestF32Slowloris(t *testing.T) {
	cert, _, _ := authority(t)
	tr := start(t, Config{Listeners: listen(TCP, TLS, WS, WSS), MessageTimeout: 150 * time.Millisecond,
		TLS: TLSConfig{Certificates: []tls.Certificate{cert}}}, newEcho())
	drip := func(c net.Conn, first, rest string) func() {
		return func() {
			_, _ = io.WriteString(c, first)
			for i := 0; ; i++ {
				if _, err := io.WriteString(c, rest[i%len(rest):i%len(rest)+1]); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	for _, test := range []struct {
		name        string
		proto       Proto
		first, rest string
	}{
		{"silent", TCP, "", ""}, {"header block", TCP, "INVITE sip:a@b SIP/2.0\r\n", "X"}, {"second message", TCP, message(1, 0), "INVITE"},
		{"only keep-alives", TCP, "", "\r\n"}, {"body", TCP, "INVITE sip:a@b SIP/2.0\r\nl: 60000\r\n\r\n", "x"},
		{"silent TLS", TLS, "", ""}, {"half TLS", TLS, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x01"},
		{"silent WS", WS, "", ""}, {"half upgrade", WS, "GET /ws HTTP/1.1\r\n", "X"}, {"half WSS", WSS, "\x16\x03", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := tr.Listeners()[test.proto-1]
			c := dialStream(t, l, nil)
			if test.rest != "" {
				done := make(chan struct{})
				go func() { defer close(done); drip(c, test.first, test.rest)() }()
				defer func() { c.Close(); <-done }()
			} else {
				_, _ = io.WriteString(c, test.first)
			}
			begin := time.Now()
			expectClosed(t, c)
			if d := time.Since(begin); d > 2*time.Second {
				t.Errorf("closed after %v", d)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	l := start(t, Config{Listeners: listen(TCP), IdleTimeout: 150 * time.Millisecond}, newEcho()).Listeners()[0]
	c := dialStream(t, l, nil)
	_, _ = io.WriteString(c, message(1, 0))
	expect(t, c, message(1, 0))
	for range 10 { // longer than the limit, and not idle
		time.Sleep(40 * time.Millisecond)
		_, _ = io.WriteString(c, "\r\n\r\n")
		expect(t, c, "\r\n")
	}
	expectClosed(t, c)
	eventually(t, "reason", func() bool { return l.Stats().Closed[CloseIdle] == 1 })
}

// answer sends every message back and keeps nothing.
type answer struct{}

func (answer) Handle(m *Message) {
	_ = m.Worker.Send(m.Bytes, Target{Listener: m.Listener, Addr: m.From, Flow: m.Flow})
}

// TestF32IdleMemory: what an idle connection costs this process.
func TestF32IdleMemory(t *testing.T) {
	const count = 400
	cert, _, _ := authority(t)
	tr := start(t, Config{Listeners: listen(TCP, TLS, WS), TLS: TLSConfig{Certificates: []tls.Certificate{cert}}}, answer{})
	for _, l := range tr.Listeners() {
		before := heap()
		clients := make([]net.Conn, count)
		for i := range clients {
			if l.Proto() == TLS {
				clients[i] = dialStream(t, l, &tls.Config{InsecureSkipVerify: true})
			} else {
				clients[i] = dialStream(t, l, nil)
			}
			if l.Proto() == WS {
				_, _ = io.WriteString(clients[i], upgradeWS)
				continue
			}
			_, _ = io.WriteString(clients[i], message(i, 20000)) // it had a large buffer once
			expect(t, clients[i], message(i, 20000))
			if tc, ok := clients[i].(*tls.Conn); ok {
				clients[i] = tc.NetConn() // the client's own TLS state is not what is measured
			}
		}
		eventually(t, "connections", func() bool { return l.Stats().Open == count })
		// The clients' sockets are in the figure: it is an upper bound.
		per := (heap() - before) / count
		t.Logf("%v: %d bytes per idle connection", l.Proto(), per)
		if per > 64<<10 && !raceEnabled {
			t.Errorf("%v: %d bytes per idle connection", l.Proto(), per)
		}
		for _, c := range clients {
			c.Close()
		}
	}
}

func TestLimits(t *testing.T) {
	tr := start(t, Config{Listeners: listen(TCP), MaxConns: 5, MaxConnsPerSource: 3}, newEcho())
	l := tr.Listeners()[0]
	talk := func(from string) (net.Conn, bool) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, false
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(c, message(1, 0))
		_, err = io.ReadFull(c, make([]byte, len(message(1, 0))))
		return c, err == nil
	}
	var first net.Conn
	for i, step := range []struct {
		from string
		want bool
	}{{"127.0.0.1", true}, {"127.0.0.1", true}, {"127.0.0.1", true}, {"127.0.0.1", false}, {"127.0.0.2", true}, {"127.0.0.3", true}, {"127.0.0.4", false}} {
		c, ok := talk(step.from)
		if ok != step.want {
			t.Errorf("step %d from %s: %v", i, step.from, ok)
		}
		if i == 0 {
			first = c
		}
	}
	s := l.Stats()
	if s.Closed[CloseSource] != 1 || s.Closed[CloseLimit] != 1 || s.Accepted != 5 || s.Open != 5 {
		t.Errorf("%+v", s)
	}
	first.Close()
	eventually(t, "room", func() bool { return l.Stats().Open == 4 })
	if _, ok := talk("127.0.0.1"); !ok {
		t.Error("no room after a close")
	}
}

// TestB06FlowGone: a flow reaches its connection from any goroutine until it closes, and then says so.
func TestB06FlowGone(t *testing.T) {
	e := newEcho()
	tr := start(t, Config{Listeners: listen(TCP, UDP)}, e)
	l := tr.Listeners()[0]
	c := dialStream(t, l, nil)
	_, _ = io.WriteString(c, message(1, 0))
	expect(t, c, message(1, 0))
	flow := e.lastFlow()
	if p, ok := tr.Peer(flow); flow == 0 || !ok || p.Addr != addrPortOf(c.LocalAddr()) || p.Listener != l || p.Dialled || p.TLS != nil {
		t.Fatalf("%v %+v", flow, p)
	}
	if err := tr.Send([]byte("by flow"), Target{Flow: flow}); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "by flow")
	// The response to a request finds the connection it came on by address too, RFC 3261 section 18.2.2.
	if err := tr.Send([]byte("by address"), Target{Listener: l, Addr: addrPortOf(c.LocalAddr())}); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "by address")
	if err := tr.Send(make([]byte, 300<<10), Target{Flow: flow}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	tr.CloseFlow(flow)
	expectClosed(t, c)
	eventually(t, "the flow is forgotten", func() bool { _, ok := tr.Peer(flow); return !ok })
	if err := tr.Send([]byte("x"), Target{Flow: flow}); !errors.Is(err, ErrFlowGone) {
		t.Error(err)
	}
	if l.Stats().Closed[CloseByUs] != 1 {
		t.Error("not counted")
	}
}

// TestSlowReader: a peer that reads nothing fills its own queue and is closed; the sender never waits.
func TestSlowReader(t *testing.T) {
	e := newEcho()
	tr := start(t, Config{Listeners: listen(TCP), WriteTimeout: 200 * time.Millisecond}, e)
	l := tr.Listeners()[0]
	c := dialStream(t, l, nil)
	_, _ = io.WriteString(c, message(1, 0))
	expect(t, c, message(1, 0))
	to := Target{Flow: e.lastFlow()}
	m := bytes.Repeat([]byte("x"), 60<<10)
	full := false
	for begin := time.Now(); time.Since(begin) < 5*time.Second; {
		start := time.Now()
		err := tr.Send(m, to)
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Fatalf("send took %v", d)
		}
		full = full || errors.Is(err, ErrQueueFull)
		if errors.Is(err, ErrFlowGone) {
			break
		}
	}
	if !full {
		t.Error("the queue was never full")
	}
	eventually(t, "reason", func() bool { return l.Stats().Closed[CloseWrite] == 1 })
	if s := l.Stats(); s.Drops[DropQueueFull] == 0 || s.Drops[DropConnClosed] == 0 {
		t.Errorf("%+v", s.Drops)
	}
}

// TestFlowsAreUnguessable: random, and never zero.
func TestFlowsAreUnguessable(t *testing.T) {
	seen := map[Flow]bool{}
	var or, and Flow = 0, ^Flow(0)
	for range 1000 {
		f := newFlow()
		if seen[f] {
			t.Fatal("twice the same")
		}
		seen[f] = true
		or |= f
		and &= f
	}
	if or != ^Flow(0) || and != 0 {
		t.Errorf("bits that never change: %x", ^(or &^ and))
	}
}
