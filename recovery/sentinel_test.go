package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"rtcedge/internal/testrun"
)

// node is a farm node as far as a sentinel sees one: real sockets that can be closed, and a program that can fall silent.
type node struct {
	t    *testing.T
	http *http.Server
	net.Listener
	sip    net.PacketConn
	epoch  atomic.Value
	silent atomic.Bool // takes connections and datagrams, answers none
	pings  atomic.Int64
	mute   atomic.Bool // tells nobody who it is
	plain  atomic.Bool // has no event stream
	done   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// stallable is a connection of a node: what comes while it is silent is answered when it goes on.
type stallable struct {
	net.Conn
	n *node
}

func (c stallable) Read(b []byte) (int, error) {
	size, err := c.Conn.Read(b)
	for err == nil && c.n.silent.Load() {
		time.Sleep(time.Millisecond)
	}
	return size, err
}

// Accept makes the node the listener of its own server.
func (n *node) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		n.mu.Lock()
		n.conns = append(n.conns, c)
		n.mu.Unlock()
		c = stallable{c, n}
	}
	return c, err
}

// follow is ARI's event stream.
func (n *node) follow(w http.ResponseWriter, r *http.Request) {
	if n.plain.Load() {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ari"}}); err == nil {
		for err == nil {
			_, _, err = c.Read(r.Context())
		}
	}
}

func startNode(t *testing.T, id, at, epoch string) *node {
	t.Helper()
	n := &node{t: t}
	n.epoch.Store(epoch)
	var err error
	if n.Listener, err = net.Listen("tcp", at); err != nil {
		t.Fatal(err)
	}
	if n.sip, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	answer := func(text func() string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if n.silent.Load() {
				<-r.Context().Done()
				return
			}
			if _, password, _ := r.BasicAuth(); password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, text())
		}
	}
	mux.Handle("/ari/asterisk/ping", answer(func() string { n.pings.Add(1); return `{"ping":"pong"}` }))
	mux.HandleFunc("/ari/events", n.follow)
	mux.Handle("/ari/asterisk/info", answer(func() string {
		if n.mute.Load() {
			return "{}"
		}
		return fmt.Sprintf(`{"system":{"entity_id":"7a:d6:6c:1f:79:db"},"status":{"startup_time":%q}}`, n.epoch.Load())
	}))
	mux.HandleFunc("/ari/asterisk/variable", func(w http.ResponseWriter, r *http.Request) {
		if n.mute.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		value := map[string]string{"RTCEDGE_NODE": id, "RTCEDGE_SIP": "udp:" + n.sip.LocalAddr().String(), "RTCEDGE_ROLES": "call,conference"}[r.URL.Query().Get("variable")]
		answer(func() string { return fmt.Sprintf(`{"value":%q}`, value) })(w, r)
	})
	n.http = &http.Server{Handler: mux}
	n.done.Go(func() { _ = n.http.Serve(n) })
	n.done.Go(func() {
		buf := make([]byte, 2048)
		for {
			size, from, err := n.sip.ReadFrom(buf)
			if err != nil {
				return
			}
			if request, ok := strings.CutPrefix(string(buf[:size]), "OPTIONS "); ok && !n.silent.Load() {
				_, header, _ := strings.Cut(request, "\r\n")
				_, _ = n.sip.WriteTo([]byte("SIP/2.0 200 OK\r\n"+header), from)
			}
		}
	})
	t.Cleanup(n.kill)
	return n
}

func (n *node) kill() {
	_ = n.sip.Close()
	_ = n.http.Close()
	n.mu.Lock()
	for _, c := range n.conns { // those of WebSockets, which the server does not know any more
		_ = c.Close()
	}
	n.mu.Unlock()
	n.done.Wait()
}

func (n *node) target() Target {
	return Target{ARI: "http://" + n.Addr().String(), User: "rtcedge", Password: "secret"}
}

// watch runs a sentinel over nodes and returns what it says.
func watch(t *testing.T, targets ...Target) (deaths chan Death, returns chan Return, s *Sentinel) {
	t.Helper()
	deaths, returns = make(chan Death, 16), make(chan Return, 16)
	s, err := NewSentinel(SentinelConfig{Nodes: targets,
		Dead: func(_ context.Context, d Death) { deaths <- d }, Back: func(_ context.Context, r Return) { returns <- r }})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, s.Run)
	for range targets { // each is seen for the first time
		receive(t, returns)
	}
	return deaths, returns, s
}

func alive(t *testing.T, s *Sentinel, count int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		for _, st := range s.Nodes() {
			if st.Verdict == Alive.String() && st.ID != "" {
				n++
			}
		}
		if n == count {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nodes: %+v", s.Nodes())
		}
	}
}

// TestB44Sentinel: a killed node and a hanging one are said dead, once, with their epoch; a new process under the same name is a return.
func TestB44Sentinel(t *testing.T) {
	a, b := startNode(t, "call1", "127.0.0.1:0", "epoch-1"), startNode(t, "call2", "127.0.0.1:0", "epoch-2")
	at := a.Addr().String()
	deaths, returns, s := watch(t, a.target(), b.target())
	alive(t, s, 2)

	a.kill()
	d := receive(t, deaths)
	if d.Node != "call1" || d.Epoch != "epoch-1" || d.Reason == "" || len(d.Roles) != 2 || !strings.HasPrefix(d.SIP, "udp:127.0.0.1:") || d.At.Before(d.Since) {
		t.Errorf("death of a killed node: %+v", d)
	}
	startNode(t, "call1", at, "epoch-3")
	if r := receive(t, returns); r.Node != "call1" || r.Epoch != "epoch-3" {
		t.Errorf("return: %+v", r)
	}

	b.silent.Store(true)
	if d := receive(t, deaths); d.Node != "call2" || !strings.Contains(d.Reason, "neither ARI nor SIP") {
		t.Errorf("death of a hanging node: %+v", d)
	}
	b.silent.Store(false)
	if r := receive(t, returns); r.Node != "call2" || r.Epoch != "epoch-2" {
		t.Errorf("a node that goes on must be known by its old epoch: %+v", r)
	}
	select {
	case d := <-deaths:
		t.Errorf("a third death: %+v", d)
	default:
	}
}

// TestB44Stream: a node whose event stream answers is asked over no connection beside it; a stream that breaks is looked after at once, and a node that
// only closed it lives on.
func TestB44Stream(t *testing.T) {
	n := startNode(t, "call1", "127.0.0.1:0", "epoch-1")
	deaths, _, s := watch(t, n.target())
	alive(t, s, 1)
	connections := func() int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.conns)
	}
	for end := time.Now().Add(10 * time.Second); s.nodes[0].prober.stream.conn.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no event stream was opened")
		}
	}
	quiet := false // a machine that stands still for pongWait makes it ask in all ways, and tries again
	for range 20 {
		before := connections()
		time.Sleep(3 * probeEvery)
		if quiet = connections() == before; quiet {
			break
		}
	}
	if !quiet {
		t.Error("connections are made beside a stream that answers")
	}
	n.mu.Lock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.mu.Unlock()
	before := n.pings.Load()
	for end := time.Now().Add(10 * time.Second); n.pings.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody looks after a broken stream")
		}
	}
	for end := time.Now().Add(10 * time.Second); s.nodes[0].prober.stream.conn.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the stream is not opened again")
		}
	}
	select {
	case d := <-deaths:
		t.Errorf("a node that closed its stream: %+v", d)
	default:
	}
}

// TestB44InPlace: a process that is replaced between two looks shows nothing but another epoch. It is a death and a return, and at no moment is its node dead:
// the calls of the new process are not those of the old one.
func TestB44InPlace(t *testing.T) {
	for _, stream := range []bool{true, false} {
		n := startNode(t, "call1", "127.0.0.1:0", "epoch-1")
		n.plain.Store(!stream)
		deaths, returns, s := watch(t, n.target())
		seen := make(chan string, 1000)
		s.cfg.Dead = func(_ context.Context, d Death) {
			seen <- fmt.Sprint(s.Nodes()[0].Verdict, " ", s.Nodes()[0].Epoch)
			deaths <- d
		}
		for end := time.Now().Add(10 * time.Second); stream && s.nodes[0].prober.stream.conn.Load() == nil; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no event stream was opened")
			}
		}
		n.epoch.Store("epoch-2")
		n.mu.Lock()
		for _, c := range n.conns {
			_ = c.Close() // the old process's
		}
		n.mu.Unlock()
		d := receive(t, deaths)
		if d.Epoch != "epoch-1" || !d.Gone || d.Node != "call1" || d.Since.After(d.At) {
			t.Errorf("death: %+v", d)
		}
		if r := receive(t, returns); r.Epoch != "epoch-2" {
			t.Errorf("return: %+v", r)
		}
		if at := <-seen; at != "alive epoch-2" {
			t.Errorf("when the death is said the node is %q", at)
		}
		select {
		case d := <-deaths:
			t.Errorf("a second death: %+v", d)
		case <-time.After(2 * epochEvery): // it is asked again meanwhile
		}
	}
}

// TestB44NamelessReturn: a node that answers after its death, and does not say who it is, is dead: nobody knows whether it is the old process.
func TestB44NamelessReturn(t *testing.T) {
	n := startNode(t, "call1", "127.0.0.1:0", "epoch-1")
	deaths, returns, s := watch(t, n.target())
	n.silent.Store(true)
	receive(t, deaths)
	n.mute.Store(true)
	n.silent.Store(false)
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if st := s.Nodes()[0]; st.Lives() {
			t.Fatalf("%+v", st)
		}
	}
	n.mute.Store(false)
	if r := receive(t, returns); r.Epoch != "epoch-1" {
		t.Errorf("%+v", r)
	}
	if st := s.Nodes()[0]; !st.Lives() {
		t.Errorf("when its return is said: %+v", st)
	}
}

// TestB44TCPNode: a node whose SIP is TCP is asked there, and a hang of one without an address to ask is seen, too.
func TestB44TCPNode(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 2048)
			n, _ := c.Read(buf)
			if request, ok := strings.CutPrefix(string(buf[:n]), "OPTIONS "); ok && strings.Contains(request, "Via: SIP/2.0/TCP ") {
				_, header, _ := strings.Cut(request, "\r\n")
				_, _ = c.Write([]byte("SIP/2.0 200 OK\r\n" + header))
			}
			_ = c.Close()
		}
	}()
	p := &prober{}
	for at, want := range map[string]Sign{"tcp:" + l.Addr().String(): Good, "tls:" + l.Addr().String(): Unseen, "": Unseen, "tcp:127.0.0.1:1": Refused} {
		p.sip.Store(sipTarget(at))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if got := p.options(ctx); got != want {
			t.Errorf("%q: %v, want %v", at, got, want)
		}
		cancel()
	}
}

// TestF18BackOneByOne: of two nodes that were silent together the second is not dead because the first one answers again; if it stays silent it is.
func TestF18BackOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		died := 0
		s := &Sentinel{cfg: SentinelConfig{Logger: slog.New(slog.DiscardHandler), Dead: func(context.Context, Death) { died++ }}}
		for range 3 {
			s.nodes = append(s.nodes, &watched{prober: &prober{}, detector: newDetector(Rule{}), known: identity{id: "n"}})
		}
		show := func(n int, sign Sign) {
			for w := range witnesses {
				s.nodes[n].detector.see(time.Now(), w, sign)
			}
			s.judge(t.Context(), s.nodes[n])
		}
		for n := range s.nodes {
			show(n, Good)
		}
		for range 9 {
			time.Sleep(100 * time.Millisecond)
			show(0, Silent)
			show(1, Silent)
			show(2, Good)
		}
		show(0, Good)
		for range 3 {
			show(1, Silent)
			time.Sleep(100 * time.Millisecond)
		}
		if died != 0 {
			t.Error("it is dead in the moment in which the others come back")
		}
		for range 15 {
			show(1, Silent)
			time.Sleep(100 * time.Millisecond)
		}
		if died != 1 {
			t.Errorf("%d deaths of a node that stays silent", died)
		}
	})
}

func receive[T any](t *testing.T, c chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came within 20 s")
	}
	panic("unreachable")
}

// TestProcess: the process's own witness, with a real process: this one, and one that has ended.
func TestProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "asterisk.pid")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &prober{target: Target{PIDFile: file}}
	if s := p.process(); s != Unseen {
		t.Errorf("no file: %v", s)
	}
	write("4194304\n") // beyond pid_max: never a process
	if s := p.process(); s != Unseen {
		t.Errorf("a file of an earlier run: %v", s)
	}
	write(strconv.Itoa(os.Getpid()) + "\n")
	if s := p.process(); s != Good {
		t.Errorf("a process that runs: %v", s)
	}
	p.pid = 4194304
	write("4194304\n")
	if s := p.process(); s != Refused {
		t.Errorf("a process that was seen and is gone: %v", s)
	}
	for stat, want := range map[string]byte{"12 (asterisk) T 1": 'T', "12 (a) b) c) S 1": 'S', "": 0, "12 (x": 0, "12 (x)": 0} {
		if got := processState([]byte(stat)); got != want {
			t.Errorf("state of %q: %q", stat, got)
		}
	}
}

// TestBadTarget: an address that cannot be asked is named.
func TestBadTarget(t *testing.T) {
	for _, ari := range []string{"", "127.0.0.1:8088", "https://x:1", "http://nohost"} {
		if _, err := NewSentinel(SentinelConfig{Nodes: []Target{{ARI: ari}}}); err == nil {
			t.Errorf("%q was taken", ari)
		}
	}
}
