package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echo answers every message to where it came from, on the worker.
type echo struct {
	mu       sync.Mutex
	flows    []Flow
	away     chan netip.AddrPort
	messages chan string
}

func newEcho() *echo {
	return &echo{away: make(chan netip.AddrPort, 64), messages: make(chan string, 4096)}
}

func (e *echo) Handle(m *Message) {
	if m.Worker.State == nil {
		m.Worker.State = new(int)
	}
	e.mu.Lock()
	e.flows = append(e.flows, m.Flow)
	e.mu.Unlock()
	select {
	case e.messages <- string(m.Bytes):
	default:
	}
	_ = m.Worker.Send(m.Bytes, Target{Listener: m.Listener, Addr: m.From, Flow: m.Flow})
}

func (e *echo) Unreachable(_ *Listener, peer netip.AddrPort) {
	select {
	case e.away <- peer:
	default:
	}
}

func (e *echo) lastFlow() Flow {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.flows) == 0 {
		return 0
	}
	return e.flows[len(e.flows)-1]
}

// start runs a transport; the cleanup proves that Run ends and leaves no connection.
func start(t testing.TB, cfg Config, h Handler) *Transport {
	t.Helper()
	tr, err := New(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error("run:", err)
			}
		case <-time.After(5 * time.Second):
			buf := make([]byte, 1<<16)
			t.Fatalf("run does not end:\n%s", buf[:runtime.Stack(buf, true)])
		}
		if _, open := tr.conns.count(); open != 0 {
			t.Errorf("%d connections left", open)
		}
	})
	return tr
}

func (ct *connTable) count() (dialing, open int) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	return ct.dialing, len(ct.flows)
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func listen(protos ...Proto) []ListenerConfig {
	var list []ListenerConfig
	for _, p := range protos {
		list = append(list, ListenerConfig{Proto: p, Addr: at("127.0.0.1:0")})
	}
	return list
}

// message is a request of some size, told apart by n.
func message(n, body int) string {
	return fmt.Sprintf("OPTIONS sip:%d@example.com SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK%d\r\nContent-Length: %d\r\n\r\n%s", n, n, body, strings.Repeat("x", body))
}

// authority makes a certificate that signs itself, for 127.0.0.1 and the names.
func authority(t testing.TB, names ...string) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
	for name, data := range map[string][]byte{certFile: certPEM, keyFile: keyPEM} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}

func trust(t testing.TB, cert tls.Certificate) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return pool
}

// dialStream connects to a listener as a phone does.
func dialStream(t testing.TB, l *Listener, cfg *tls.Config) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	if cfg != nil {
		tc := tls.Client(c, cfg)
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		return tc
	}
	return c
}

func dialWS(t testing.TB, l *Listener, cfg *tls.Config) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, wsURL(l, "/ws"), &websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPClient: httpClient(t, cfg)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

func expect(t testing.TB, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("got %d bytes %.80q, %v; want %d bytes %.80q", n, got[:n], err, len(want), want)
	}
}

// expectClosed waits until the peer has closed the connection.
func expectClosed(t testing.TB, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("still open after %d bytes", n)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not seen: ", what)
		}
	}
}

// TestB06EveryProtocolBothFamilies: a message comes in and its answer leaves, over every protocol, IPv4 and IPv6.
func TestB06EveryProtocolBothFamilies(t *testing.T) {
	cert, _, _ := authority(t)
	client := &tls.Config{InsecureSkipVerify: true}
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			if host == "::1" {
				if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
					t.Skip("no IPv6 here")
				} else {
					ln.Close()
				}
			}
			var listeners []ListenerConfig
			for p := range protos {
				listeners = append(listeners, ListenerConfig{Proto: p, Addr: netip.AddrPortFrom(netip.MustParseAddr(host), 0)})
			}
			tr := start(t, Config{Listeners: listeners, TLS: TLSConfig{Certificates: []tls.Certificate{cert}}}, newEcho())
			for _, l := range tr.Listeners() {
				if l.Addr().Port() == 0 {
					t.Fatal("no port for", l)
				}
				want := message(1, 2000)
				switch l.Proto() {
				case UDP:
					c, err := net.Dial("udp", l.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(5 * time.Second))
					if _, err := io.WriteString(c, want); err != nil {
						t.Fatal(err)
					}
					expect(t, c, want)
				case TCP, TLS:
					cfg := client
					if l.Proto() == TCP {
						cfg = nil
					}
					c := dialStream(t, l, cfg)
					_, _ = io.WriteString(c, want)
					expect(t, c, want)
				default:
					ws := dialWS(t, l, client)
					if err := ws.Write(t.Context(), websocket.MessageText, []byte(want)); err != nil {
						t.Fatal(err)
					}
					kind, got, err := ws.Read(t.Context())
					if err != nil || string(got) != want || kind != websocket.MessageText {
						t.Fatalf("%v: %v %q %v", l, kind, got, err)
					}
				}
				if s := l.Stats(); s.MessagesIn != 1 || s.BytesIn != uint64(len(want)) {
					t.Errorf("%v: %+v", l, s)
				}
			}
		})
	}
}

// TestPortInUse: the error names the listener, and the other listeners are closed again.
func TestPortInUse(t *testing.T) {
	for p := range protos {
		cert, _, _ := authority(t)
		first := start(t, Config{Listeners: listen(p), TLS: TLSConfig{Certificates: []tls.Certificate{cert}}}, newEcho())
		taken := first.Listeners()[0].Addr()
		free, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		other := addrPortOf(free.LocalAddr())
		free.Close()
		_, err = New(Config{TLS: TLSConfig{Certificates: []tls.Certificate{cert}},
			Listeners: []ListenerConfig{{Proto: UDP, Addr: other}, {Proto: p, Addr: taken}}}, newEcho())
		want := fmt.Sprintf("listen %v:%v: ", p, taken)
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "address already in use") {
			t.Fatalf("%v; want %q", err, want)
		}
		again, err := New(Config{Listeners: []ListenerConfig{{Proto: UDP, Addr: other}}}, newEcho())
		if err != nil {
			t.Fatal("first listener was not closed:", err)
		}
		again.Close()
		again.Close()
	}
}

func TestConfigErrors(t *testing.T) {
	for want, cfg := range map[string]Config{
		"no listener":              {},
		"needs a certificate":      {Listeners: listen(TLS)},
		"no address":               {Listeners: []ListenerConfig{{}}},
		"is negative":              {Listeners: listen(UDP), Workers: -1},
		"no such file":             {Listeners: listen(WSS), TLS: TLSConfig{Files: []CertificateFile{{"none.pem", "none.key"}}}},
		"smaller than the largest": {Listeners: listen(TCP), ConnQueue: 10},
	} {
		if _, err := New(cfg, newEcho()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, err := New(Config{Listeners: listen(UDP)}, nil); err == nil {
		t.Error("no handler was accepted")
	}
	if p, err := ParseProto("WsS"); err != nil || p != WSS {
		t.Error(p, err)
	}
	if _, err := ParseProto("sctp"); err == nil {
		t.Error("sctp was accepted")
	}
}

// collect reads n datagrams.
func collect(t testing.TB, c net.Conn, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	buf := make([]byte, 65536)
	for range n {
		m, err := c.Read(buf)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(got), n, err)
		}
		got[string(buf[:m])]++
	}
	return got
}

// TestShutdownLeavesNothing: with connections of every kind open, one of them in the middle of a handshake, Run ends at once, and
// no goroutine is left.
func TestShutdownLeavesNothing(t *testing.T) {
	cert, _, _ := authority(t)
	before := runtime.NumGoroutine()
	tr, err := New(Config{Listeners: listen(UDP, TCP, TLS, WS, WSS), TLS: TLSConfig{Certificates: []tls.Certificate{cert}}, PingInterval: 20 * time.Millisecond}, newEcho())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- tr.Run(ctx) }()
	var clients []net.Conn
	for _, l := range tr.Listeners()[1:] {
		silent := dialStream(t, l, nil)
		clients = append(clients, silent)
		var cfg *tls.Config
		if l.Proto().Secure() {
			cfg = &tls.Config{InsecureSkipVerify: true}
		}
		c := dialStream(t, l, cfg)
		clients = append(clients, c)
		if l.Proto() == WS || l.Proto() == WSS {
			_, _ = io.WriteString(c, upgradeWS)
		} else {
			_, _ = io.WriteString(c, message(1, 0))
		}
		if _, err := c.Read(make([]byte, 10)); err != nil {
			t.Fatal(l, err)
		}
	}
	black, err := net.Listen("tcp4", "127.0.0.1:0") // accepts, and never answers a TLS handshake
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Send([]byte("x"), Target{Listener: tr.Listeners()[2], Addr: addrPortOf(black.Addr())}); err != nil {
		t.Error(err)
	}
	begin := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("took %v", d)
	}
	for _, l := range tr.Listeners() {
		if err := tr.Send([]byte("x"), Target{Listener: l, Addr: at("127.0.0.1:5060")}); !errors.Is(err, ErrClosed) && l.Proto().Stream() != errors.Is(err, ErrNoConnection) {
			t.Errorf("%v: %v", l, err)
		}
		if s := l.Stats(); s.Open != 0 {
			t.Errorf("%v: %+v", l, s)
		}
	}
	black.Close()
	for _, c := range clients {
		c.Close()
	}
	for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // the runtime takes a moment to count ended goroutines out
	}
	if n := runtime.NumGoroutine(); n > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines left:\n%s", n-before, buf[:runtime.Stack(buf, true)])
	}
}
