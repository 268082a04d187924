package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// TestDial: a target without a flow opens one connection, uses it again, and gets answers over it; TLS peers prove themselves.
func TestDial(t *testing.T) {
	cert, certFile, _ := authority(t, "farm.example.com")
	server := start(t, Config{Listeners: listen(TCP, TLS), TLS: TLSConfig{Certificates: []tls.Certificate{cert}}}, newEcho())
	h := &recorder{messages: make(chan string, 1000), away: make(chan netip.AddrPort, 10)}
	tr := start(t, Config{Listeners: listen(TCP, TLS), TLS: TLSConfig{Certificates: []tls.Certificate{cert}, RootCAs: certFile}}, h)
	for i, l := range tr.Listeners() {
		for _, host := range []string{"", "farm.example.com"} {
			to := Target{Listener: l, Addr: server.Listeners()[i].Addr(), Host: host}
			for n := range 50 {
				if err := tr.Send([]byte(message(n, 100)), to); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 50 {
				if got := h.next(t); got != message(n, 100) {
					t.Fatalf("%v %q: %.40q", l, host, got)
				}
			}
		}
	}
	if s := tr.Listeners()[0].Stats(); s.Dialled != 1 || s.Open != 1 {
		t.Errorf("tcp: %+v", s)
	}
	if s := tr.Listeners()[1].Stats(); s.Dialled != 2 || s.Open != 2 {
		t.Errorf("tls, with a name and without: %+v", s)
	}
	// Another name than the certificate's.
	bad := Target{Listener: tr.Listeners()[1], Addr: server.Listeners()[1].Addr(), Host: "bank.example.com"}
	if err := tr.Send([]byte(message(1, 0)), bad); err != nil {
		t.Fatal(err)
	}
	if got := <-h.away; got != bad.Addr {
		t.Error(got)
	}
	eventually(t, "reason", func() bool { return tr.Listeners()[1].Stats().Closed[CloseDial] == 1 })
	if n := tr.Listeners()[1].Stats().Drops[DropConnClosed]; n != 1 {
		t.Errorf("%d drops counted", n)
	}
}

// TestDialRefused: the caller learns that nobody is there, and what waited is counted.
func TestDialRefused(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := addrPortOf(ln.Addr())
	ln.Close()
	e := newEcho()
	tr := start(t, Config{Listeners: listen(TCP, WS)}, e)
	l := tr.Listeners()[0]
	if err := tr.Send([]byte(message(1, 0)), Target{Listener: l, Addr: dead}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-e.away:
		if got != dead {
			t.Error(got)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("no notice")
	}
	eventually(t, "drop", func() bool {
		s := l.Stats()
		return s.Drops[DropConnClosed] == 1 && s.Closed[CloseDial] == 1 && s.Open == 0
	})
	if err := tr.Send([]byte("x"), Target{Listener: tr.Listeners()[1], Addr: dead}); !errors.Is(err, ErrNoConnection) {
		t.Error("a WebSocket was dialled:", err)
	}
}

// recorder keeps what it gets.
type recorder struct {
	messages chan string
	away     chan netip.AddrPort
}

func (r *recorder) Handle(m *Message)                            { r.messages <- string(m.Bytes) }
func (r *recorder) Unreachable(_ *Listener, peer netip.AddrPort) { r.away <- peer }

func (r *recorder) next(t testing.TB) string {
	t.Helper()
	select {
	case m := <-r.messages:
		return m
	case <-time.After(5 * time.Second):
		t.Fatal("no message")
	}
	return ""
}

// TestTLSCertificates: the one that suits the name, client certificates, and files that change while it runs.
func TestTLSCertificates(t *testing.T) {
	one, oneCert, oneKey := authority(t, "one.example.com")
	two, twoCert, twoKey := authority(t, "two.example.com")
	phone, phoneCert, _ := authority(t)
	e := newEcho()
	tr := start(t, Config{Listeners: listen(TLS), TLS: TLSConfig{Files: []CertificateFile{{oneCert, oneKey}, {twoCert, twoKey}},
		ClientCAs: phoneCert, CheckInterval: 20 * time.Millisecond}}, e)
	l := tr.Listeners()[0]
	serial := func(name string) string {
		c := dialStream(t, l, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	for name, want := range map[string]tls.Certificate{"one.example.com": one, "two.example.com": two, "other.example.com": one} {
		if got := serial(name); got != want.Leaf.SerialNumber.String() {
			t.Errorf("%s got another certificate", name)
		}
	}
	c := dialStream(t, l, &tls.Config{RootCAs: trust(t, one), ServerName: "one.example.com", Certificates: []tls.Certificate{phone}})
	_, _ = io.WriteString(c, message(1, 0))
	expect(t, c, message(1, 0))
	if p, ok := tr.Peer(e.lastFlow()); !ok || p.TLS == nil || len(p.TLS.VerifiedChains) == 0 {
		t.Error("the client's certificate is not known")
	}
	three, threeCert, threeKey := authority(t, "one.example.com")
	if err := os.WriteFile(oneCert, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if tr.ReloadCertificates() == nil {
		t.Error("a broken file was taken")
	}
	if got := serial("one.example.com"); got != one.Leaf.SerialNumber.String() {
		t.Error("a broken file replaced the certificate")
	}
	for from, to := range map[string]string{threeCert: oneCert, threeKey: oneKey} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the new certificate", func() bool { return serial("one.example.com") == three.Leaf.SerialNumber.String() })
	_, _ = io.WriteString(c, message(2, 0))
	expect(t, c, message(2, 0))
}
