package sip

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rtcedge/internal/testrun"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

// peer is a UDP socket that speaks raw SIP.
type peer struct {
	t *testing.T
	net.PacketConn
}

func newPeer(t *testing.T, ip string) *peer {
	t.Helper()
	pc, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return &peer{t, pc}
}

func (p *peer) addr() netip.AddrPort { return p.LocalAddr().(*net.UDPAddr).AddrPort() }

func (p *peer) send(to netip.AddrPort, s string) {
	p.t.Helper()
	if _, err := p.WriteTo([]byte(s), net.UDPAddrFromAddrPort(to)); err != nil {
		p.t.Fatal(err)
	}
}

// get waits for the next message that is no OPTIONS; those it answers.
func (p *peer) get() string {
	p.t.Helper()
	buf := make([]byte, 65536)
	for {
		if err := p.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			p.t.Fatal(err)
		}
		n, from, err := p.ReadFrom(buf)
		if err != nil {
			p.t.Fatal(err)
		}
		s := string(buf[:n])
		if !strings.HasPrefix(s, "OPTIONS ") {
			return s
		}
		p.send(from.(*net.UDPAddr).AddrPort(), answer(s, 200, "o", ""))
	}
}

// start runs a proxy on real sockets until the test ends.
func start(t *testing.T, cfg Config) *Proxy {
	t.Helper()
	cfg.Secret = []byte("0123456789abcdef0123456789abcdef")
	cfg.Transport.Workers = 1
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, p.Run)
	return p
}

// TestLoopbackCall: B1, B5, B7 and B17 over real UDP and TCP sockets: a TCP phone calls a UDP farm node, with media, and the farm
// hangs up through the phone's connection.
func TestLoopbackCall(t *testing.T) {
	farm := newPeer(t, "127.0.0.1")
	media := &fakeMedia{}
	cfg := Config{Media: media, Transport: transport.Config{Listeners: []transport.ListenerConfig{udpOn("127.0.0.1"), tcpOn("127.0.0.1")}}}
	cfg.Farms.Farms[dispatch.Call] = []dispatch.NodeConfig{{Addr: farm.addr()}}
	p := start(t, cfg)
	udp, tcp := p.Listeners()[0].Addr(), p.Listeners()[1].Addr()

	conn, err := net.Dial("tcp", tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	body := "v=0\r\no=- 1 1 IN IP4 127.0.2.1\r\ns=-\r\n"
	fmt.Fprintf(conn, "INVITE sip:600@%s;transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5070;branch=z9hG4bKa\r\nMax-Forwards: 70\r\nFrom: <sip:1001@x>;tag=f\r\nTo: <sip:600@x>\r\nCall-ID: loop\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@10.1.1.1;transport=tcp>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", tcp, len(body), body)
	inv := farm.get()
	if !strings.HasPrefix(inv, "INVITE sip:600@"+tcp.String()) || !strings.HasSuffix(inv, changed) {
		t.Fatalf("at the farm:\n%s", inv)
	}
	rr := lines(inv, "Record-Route")
	if len(rr) != 2 {
		t.Fatalf("Record-Route %q", rr)
	}
	farm.send(udp, answer(inv, 180, "t", ""))
	farm.send(udp, answer(inv, 200, "t", "Contact: <sip:600@"+farm.addr().String()+">\n"+sdp))
	buf := make([]byte, 65536)
	got := ""
	for !strings.Contains(got, changed) {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("%v after %s", err, got)
		}
		got += string(buf[:n])
	}
	if !strings.HasPrefix(got, "SIP/2.0 180") || strings.Count(got, "SIP/2.0 200") != 1 {
		t.Errorf("at the phone:\n%s", got)
	}
	farm.send(udp, "BYE sip:1001@10.1.1.1;transport=tcp SIP/2.0\r\nVia: SIP/2.0/UDP "+farm.addr().String()+";branch=z9hG4bKb\r\nMax-Forwards: 70\r\nFrom: <sip:600@x>;tag=t\r\nTo: <sip:1001@x>;tag=f\r\nCall-ID: loop\r\nCSeq: 1 BYE\r\nRoute: "+rr[0]+","+rr[1]+"\r\nContent-Length: 0\r\n\r\n")
	n, err := conn.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "BYE sip:1001@10.1.1.1;transport=tcp SIP/2.0\r\n") {
		t.Fatalf("%v:\n%s", err, buf[:n])
	}
	if _, err := conn.Write([]byte(answer(string(buf[:n]), 200, "", ""))); err != nil {
		t.Fatal(err)
	}
	if got := farm.get(); !strings.HasPrefix(got, "SIP/2.0 200") {
		t.Errorf("answer to the BYE:\n%s", got)
	}
}

// TestB11DeadNodeLoopback: of two farm nodes one dies; within 1 s no new call goes to it.
func TestB11DeadNodeLoopback(t *testing.T) {
	a, b := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	dead := newPeer(t, "127.0.0.1")
	cfg := Config{Transport: transport.Config{Listeners: []transport.ListenerConfig{udpOn("127.0.0.1")}}}
	for _, n := range []*peer{a, dead} {
		cfg.Farms.Farms[dispatch.Call] = append(cfg.Farms.Farms[dispatch.Call], dispatch.NodeConfig{Addr: n.addr()})
	}
	p := start(t, cfg)
	go func() { // a answers its probes and calls
		buf := make([]byte, 65536)
		for {
			n, from, err := a.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := a.WriteTo([]byte(answer(string(buf[:n]), 200, "x", "")), from); err != nil {
				return
			}
		}
	}()
	dead.Close()
	since := time.Now()
	down := func() bool {
		for _, n := range p.Farms().Nodes() {
			if n.State == dispatch.Down {
				return true
			}
		}
		return false
	}
	for !down() {
		if time.Since(since) > 2*time.Second {
			t.Fatal("not noticed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(since)
	t.Logf("noticed after %v", took)
	if took > time.Second {
		t.Errorf("noticed after %v", took)
	}
	edge := p.Listeners()[0].Addr()
	for i := range 20 {
		b.send(edge, fmt.Sprintf("INVITE sip:600@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:1001@x>;tag=f\r\nTo: <sip:600@x>\r\nCall-ID: c%d\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@%s>\r\nContent-Length: 0\r\n\r\n", edge, b.addr(), i, i, b.addr()))
		if got := b.get(); !strings.HasPrefix(got, "SIP/2.0 200") {
			t.Fatalf("call %d:\n%s", i, got)
		}
	}
}
