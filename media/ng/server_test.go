package ng

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func newReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// echo answers an offer with its SDP and counts; hold, if set, keeps requests in work until it is closed.
type echo struct {
	runs    atomic.Int64
	hold    chan struct{}
	started chan struct{}

	mu     sync.Mutex // guards the rest
	name   string     // comes back as a warning
	answer func(*Request) *Response
}

func (e *echo) setAnswer(f func(*Request) *Response) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

func (e *echo) Handle(ctx context.Context, req *Request) *Response {
	e.runs.Add(1)
	if e.started != nil {
		e.started <- struct{}{}
	}
	if e.hold != nil {
		select {
		case <-e.hold:
		case <-ctx.Done():
			return Error("too late")
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answer != nil {
		return e.answer(req)
	}
	return &Response{Result: ResultOK, SDP: req.SDP, Warning: e.name}
}

// start runs a server until the test ends.
func start(t testing.TB, cfg ServerConfig, h Handler) *Server {
	t.Helper()
	s, err := NewServer(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s.Run)
	return s
}

// runUntilEnd runs f until the test ends and waits for it.
func runUntilEnd(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func dialUDP(t testing.TB, a netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a message and reads one answer.
func ask(t testing.TB, c net.Conn, msg string) string {
	t.Helper()
	if _, err := c.Write([]byte(msg)); err != nil {
		t.Fatal(err)
	}
	return hear(t, c)
}

func hear(t testing.TB, c net.Conn) string {
	t.Helper()
	buf := make([]byte, 1<<17)
	if err := c.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestB22UDP(t *testing.T) {
	h := &echo{}
	s := start(t, ServerConfig{UDP: []netip.AddrPort{loopback}}, h)
	c := dialUDP(t, s.Addrs().UDP[0])
	for in, want := range map[string]string{
		"5323_1 d7:command4:pinge":                  "5323_1 d6:result4:ponge",
		`5323_2 {"command":"ping"}`:                 `5323_2 {"result":"pong"}`,
		"5323_3 " + kamailioOffer:                   "5323_3 d6:result2:ok3:sdp" + bstr(testSDP) + "e",
		"5323_4 d7:command5:offere":                 `5323_4 d12:error-reason60:key "call-id" is missing: offer needs call-id, from-tag, sdp6:result5:errore`,
		"5323_5 garbage":                            `5323_5 d12:error-reason59:read request: starts with 'g', want d (bencode) or { (JSON)6:result5:errore`,
		`5323_6 {"command":"ping","TOS":"x","y":1}`: `5323_6 {"error-reason":"key \"TOS\" has the value \"x\", want a whole number 0..255, or -1 to keep that of the call","result":"error"}`,
		`5323_7 {"command":"offer","call-id":"c","from-tag":"f","sdp":"v","new key":1}`: `5323_7 {"result":"ok","sdp":"v"}`,
	} {
		if got := ask(t, c, in); got != want {
			t.Errorf("%.60q:\n got %q\nwant %q", in, got, want)
		}
	}
	if _, err := c.Write([]byte("nocookie")); err != nil {
		t.Fatal(err)
	}
	ask(t, c, "x d7:command4:pinge")
	const want = "3 2 map[bad value:1 malformed:1 missing key:1 no cookie:1] map[new key:1] 0"
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) { // requests are counted by those who worked on them, side by side
		st := s.Stats()
		got := fmt.Sprint(st.Commands["ping"].Requests, st.Commands["offer"].Requests, st.Refused, st.UnknownKeys, st.InWork)
		if got == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("stats %s, want %s", got, want)
		}
	}
}

// A retransmission gets the same answer and is not run again (B22).
func TestB22Cookie(t *testing.T) {
	h := &echo{}
	h.setAnswer(func(*Request) *Response { return &Response{Result: ResultOK, Warning: fmt.Sprint(h.runs.Load())} })
	s := start(t, ServerConfig{UDP: []netip.AddrPort{loopback}}, h)
	c := dialUDP(t, s.Addrs().UDP[0])
	first := ask(t, c, "a1 "+kamailioOffer)
	// The module may repeat from another socket of the same host.
	again := ask(t, dialUDP(t, s.Addrs().UDP[0]), "a1 "+kamailioOffer)
	if first != again || h.runs.Load() != 1 {
		t.Errorf("%q, then %q after %d runs", first, again, h.runs.Load())
	}
	if other := ask(t, c, "a2 "+kamailioOffer); other == first || h.runs.Load() != 2 {
		t.Errorf("another cookie: %q after %d runs", other, h.runs.Load())
	}
	if other := ask(t, c, "a1 "+kamailioFlagsOffer); strings.Contains(other, "7:warning1:1") {
		t.Errorf("another message with an old cookie got the old answer")
	}
	if d := s.Stats().Duplicates; d != 1 {
		t.Errorf("%d duplicates, want 1", d)
	}
}

// A duplicate that arrives while the first is in work is swallowed (B22).
func TestB22CookieInWork(t *testing.T) {
	h := &echo{hold: make(chan struct{}), started: make(chan struct{}, 1)}
	s := start(t, ServerConfig{UDP: []netip.AddrPort{loopback}}, h)
	c := dialUDP(t, s.Addrs().UDP[0])
	for range 3 {
		if _, err := c.Write([]byte("a1 " + kamailioOffer)); err != nil {
			t.Fatal(err)
		}
	}
	<-h.started
	ask(t, c, "a2 d7:command4:pinge") // read after the three
	waitFor(t, func() bool { return s.Stats().Duplicates == 2 })
	close(h.hold)
	if got := hear(t, c); !strings.HasPrefix(got, "a1 d") || h.runs.Load() != 1 {
		t.Errorf("%q after %d runs", got, h.runs.Load())
	}
	if got := ask(t, c, "a3 d7:command4:pinge"); !strings.HasPrefix(got, "a3 ") {
		t.Errorf("the duplicates were answered too: %q", got)
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not come")
}

// Answers are kept for the hold time and not beyond two of them, and never more than the limit.
func TestCookieCacheBounds(t *testing.T) {
	now := time.Unix(0, 0)
	c := newCookieCache(10*time.Second, 100)
	key := func(i int) cookieKey { return cookieKey{cookie: uint64(i)} }
	put := func(i int) {
		if state, _ := c.begin(key(i), now); state == cookieNew {
			c.finish(key(i), []byte{byte(i)}, now)
		}
	}
	known := func(i int) bool {
		state, _ := c.begin(key(i), now)
		if state == cookieNew {
			delete(c.working, key(i))
		}
		return state == cookieAnswered
	}
	put(1)
	now = now.Add(9 * time.Second)
	put(2)
	now = now.Add(8 * time.Second)
	if !known(2) {
		t.Error("an answer of 8 s ago is gone")
	}
	now = now.Add(30 * time.Second)
	if known(1) || known(2) {
		t.Error("old answers are still there")
	}
	for i := range 10_000 {
		put(i)
		if n := len(c.young) + len(c.old); n > 201 {
			t.Fatalf("%d answers are kept", n)
		}
	}
	if !known(9950) {
		t.Error("a young answer is gone")
	}
	big := make([]byte, 1<<20)
	for i := range 100 {
		k := key(100_000 + i)
		c.begin(k, now)
		c.finish(k, big, now)
	}
	if n := len(c.young) + len(c.old); n > 2*(cookieBytes>>20)+2 {
		t.Errorf("%d MB are kept", n)
	}
}

func TestBigMessages(t *testing.T) {
	h := &echo{}
	s := start(t, ServerConfig{UDP: []netip.AddrPort{loopback}, TCP: []netip.AddrPort{loopback}}, h)
	sdp := strings.Repeat("x", 60_000)
	msg := "b1 d7:call-id1:c7:command5:offer8:from-tag1:f3:sdp" + bstr(sdp) + "e"
	u := dialUDP(t, s.Addrs().UDP[0])
	if got := ask(t, u, msg); got != "b1 d6:result2:ok3:sdp"+bstr(sdp)+"e" {
		t.Errorf("%d bytes came back", len(got))
	}
	h.setAnswer(func(*Request) *Response { return &Response{Result: ResultOK, SDP: bytes.Repeat([]byte("x"), 70_000)} })
	if got := ask(t, u, strings.Replace(msg, "b1", "b2", 1)); !strings.Contains(got, "the answer of 70028 bytes fits no datagram") {
		t.Errorf("%.200q", got)
	}
}

func dialTCP(t testing.TB, a netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A stream has no message bounds: pieces, several at once, both forms, and line ends between them (B22).
func TestB22TCP(t *testing.T) {
	s := start(t, ServerConfig{TCP: []netip.AddrPort{loopback}, Workers: 1}, &echo{})
	c := dialTCP(t, s.Addrs().TCP[0])
	stream := "t1 d7:command4:pinge" + "t2 {\"command\":\"ping\",\"x\":\"}\\\"\"}\r\n" + "t3 " + kamailioOffer
	for i := range len(stream) {
		if _, err := c.Write([]byte(stream[i : i+1])); err != nil {
			t.Fatal(err)
		}
	}
	want := "t1 d6:result4:ponge" + `t2 {"result":"pong"}` + "t3 d6:result2:ok3:sdp" + bstr(testSDP) + "e"
	got := make([]byte, len(want))
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("%v\n got %q\nwant %q", err, got, want)
	}
	// After garbage nobody knows where the next message starts: the connection is closed.
	for _, bad := range []string{"t4 hello", strings.Repeat("c", 200) + " de", "t5 d99999999:", "t6 {" + strings.Repeat("[", 30)} {
		c := dialTCP(t, s.Addrs().TCP[0])
		if _, err := c.Write([]byte(bad)); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		if n, err := c.Read(got); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.20q: %d bytes, %v", bad, n, err) // else EOF, or a reset for bytes that nobody read
		}
	}
	if n := s.Stats().Refused[RefusedMalformed]; n != 4 {
		t.Errorf("%d malformed, want 4", n)
	}
}

func TestConnectionLimit(t *testing.T) {
	s := start(t, ServerConfig{TCP: []netip.AddrPort{loopback}, Connections: 2}, &echo{})
	a, b := dialTCP(t, s.Addrs().TCP[0]), dialTCP(t, s.Addrs().TCP[0])
	ask(t, a, "1 d7:command4:pinge")
	ask(t, b, "2 d7:command4:pinge")
	c := dialTCP(t, s.Addrs().TCP[0])
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection was served")
	}
	a.Close()
	waitFor(t, func() bool { return s.Stats().Connections == 1 })
	ask(t, dialTCP(t, s.Addrs().TCP[0]), "3 d7:command4:pinge")
}

// NG by HTTP POST, with and without cookie (B22). A browser page of another site is refused.
func TestB22HTTP(t *testing.T) {
	s := start(t, ServerConfig{HTTP: []netip.AddrPort{loopback}}, &echo{})
	base := "http://" + s.Addrs().HTTP[0].String()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	tests := []struct {
		path, body, origin string
		code               int
		kind, want         string
	}{
		{"/ng", "h1 d7:command4:pinge", "", 200, "application/x-rtpengine-ng", "h1 d6:result4:ponge"},
		{"/ng", "d7:command4:pinge", "", 400, "text/plain; charset=utf-8", "no answer: want COOKIE SP DICTIONARY, and no cookie that is in work\n"},
		{"/ng-plain", "d7:command4:pinge", "", 200, "application/x-rtpengine-ng", "d6:result4:ponge"},
		{"/ng-plain", `{"command":"ping"}`, "", 200, "application/json", `{"result":"pong"}`},
		{"/ng-plain", `{"command":"ping"}`, "https://evil.example", 403, "text/plain; charset=utf-8", "cross-origin request detected, and/or browser is out of date: Sec-Fetch-Site is missing, and Origin does not match Host\n"},
		{"/ng", "h2 " + strings.Repeat("x", MaxMessage), "", 413, "text/plain; charset=utf-8", "more than 262144 bytes\n"},
		{"/other", "x", "", 404, "text/plain; charset=utf-8", "404 page not found\n"},
	}
	for _, tt := range tests {
		req, _ := http.NewRequest("POST", base+tt.path, strings.NewReader(tt.body))
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.code || resp.Header.Get("Content-Type") != tt.kind || string(b) != tt.want {
			t.Errorf("%s %.30q: %d %s %q", tt.path, tt.body, resp.StatusCode, resp.Header.Get("Content-Type"), b)
		}
	}
	resp, err := client.Get(base + "/ping")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(b) != "pong\n" {
		t.Errorf("%q", b)
	}
}

// NG by WebSocket with rtpengine's subprotocols (B22).
func TestB22WebSocket(t *testing.T) {
	s := start(t, ServerConfig{HTTP: []netip.AddrPort{loopback}}, &echo{})
	url := "ws://" + s.Addrs().HTTP[0].String() + "/"
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for protocol, talk := range map[string][]string{
		"ng.rtpengine.com":       {"w1 d7:command4:pinge", "w1 d6:result4:ponge", "w2 " + kamailioOffer, "w2 d6:result2:ok3:sdp" + bstr(testSDP) + "e"},
		"ng-plain.rtpengine.com": {`{"command":"ping"}`, `{"result":"pong"}`, "d7:command4:pinge", "d6:result4:ponge"},
	} {
		c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(talk); i += 2 {
			kind := websocket.MessageType(1 + i/2) // text, then binary
			if err := c.Write(ctx, kind, []byte(talk[i])); err != nil {
				t.Fatal(err)
			}
			k, b, err := c.Read(ctx)
			if err != nil || k != kind || string(b) != talk[i+1] {
				t.Errorf("%s: %v %v %q, want %q", protocol, err, k, b, talk[i+1])
			}
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("without a subprotocol: %v", err)
	}
	if _, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Subprotocols: []string{"ng.rtpengine.com"}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}}}); err == nil {
		t.Error("a page of another site was let in")
	}
	waitFor(t, func() bool { return s.Stats().Connections == 0 })
}

func TestParallelRequests(t *testing.T) {
	h := &echo{}
	s := start(t, ServerConfig{UDP: []netip.AddrPort{loopback}, Workers: 4}, h)
	var wg sync.WaitGroup
	for i := range 8 {
		c := dialUDP(t, s.Addrs().UDP[0])
		wg.Go(func() {
			for j := range 50 {
				cookie := fmt.Sprintf("%d_%d", i, j)
				msg := fmt.Sprintf("%s d7:call-id1:c7:command5:offer8:from-tag1:f3:sdp%se", cookie, bstr(cookie))
				if got, want := ask(t, c, msg), cookie+" d6:result2:ok3:sdp"+bstr(cookie)+"e"; got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
	wg.Wait()
	if n := h.runs.Load(); n != 400 {
		t.Errorf("%d runs, want 400", n)
	}
}

func TestBindError(t *testing.T) {
	s := start(t, ServerConfig{TCP: []netip.AddrPort{loopback}}, &echo{})
	used := s.Addrs().TCP[0]
	_, err := NewServer(ServerConfig{UDP: []netip.AddrPort{loopback}, TCP: []netip.AddrPort{used}}, &echo{})
	if err == nil || !strings.Contains(err.Error(), "ng server: listen tcp "+used.String()) {
		t.Errorf("%v", err)
	}
	if _, err := NewServer(ServerConfig{Workers: -1}, &echo{}); err == nil {
		t.Error("a negative limit was taken")
	}
}

// The end of Run lets what is in work be answered.
func TestDrain(t *testing.T) {
	h := &echo{hold: make(chan struct{}), started: make(chan struct{}, 2)}
	s, err := NewServer(ServerConfig{UDP: []netip.AddrPort{loopback}, TCP: []netip.AddrPort{loopback}}, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	u, c := dialUDP(t, s.Addrs().UDP[0]), dialTCP(t, s.Addrs().TCP[0])
	for i, conn := range []net.Conn{u, c} {
		if _, err := fmt.Fprintf(conn, "d%d %s", i, kamailioOffer); err != nil {
			t.Fatal(err)
		}
		<-h.started
	}
	cancel()
	close(h.hold)
	for i, conn := range []net.Conn{u, c} {
		if got := hear(t, conn); !strings.HasPrefix(got, fmt.Sprintf("d%d d6:result2:ok", i)) {
			t.Errorf("%q", got)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkServerUDP(b *testing.B) {
	s := start(b, ServerConfig{UDP: []netip.AddrPort{loopback}}, &echo{})
	c := dialUDP(b, s.Addrs().UDP[0])
	buf := make([]byte, 1<<16)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := fmt.Fprintf(c, "%d %s", i, kamailioOffer); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
