//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
)

// The network of these tests. Both homes use the same private addresses, as homes do.
//
//	phone 10.0.0.2 -- 10.0.0.1 NAT 192.0.2.101 --+
//	                                             |-- 192.0.2.1 edge
//	phone 10.0.0.2 -- 10.0.0.1 NAT 192.0.2.102 --+
var (
	natEdge  = netip.MustParseAddr("192.0.2.1")
	natPhone = netip.MustParseAddrPort("10.0.0.2:5060")
)

// natKinds are the two NATs that phones have most trouble with. The first keeps a phone's port towards everybody and
// lets in only those whom the phone wrote to; the second takes another port for every far end.
var natKinds = []struct{ name, statement string }{
	{"port-restricted", "masquerade"},
	{"symmetric", "masquerade random,fully-random"},
}

type natWorld struct {
	edge  *namespace
	homes []*namespace // of the phones
	kind  string
}

func newNATWorld(t *testing.T, kind, statement string) *natWorld {
	t.Helper()
	needNamespaces(t)
	public := newSegment(t, "public")
	w := &natWorld{edge: newNamespace(t, "edge"), kind: kind}
	public.attach(w.edge, "eth0", natEdge.String()+"/24", "")
	for _, address := range []string{"192.0.2.101/24", "192.0.2.102/24"} {
		home, router, phone := newSegment(t, "home"), newNamespace(t, "nat"), newNamespace(t, "phone")
		public.attach(router, "public", address, "")
		home.attach(router, "home", "10.0.0.1/24", "")
		home.attach(phone, "eth0", "10.0.0.2/24", "10.0.0.1")
		router.router()
		router.filter("table ip nat {\n\tchain out {\n\t\ttype nat hook postrouting priority srcnat\n\t\toifname \"public\" " + statement +
			"\n\t}\n\tchain through {\n\t\ttype filter hook forward priority filter; policy drop\n\t\tiifname \"home\" accept\n" +
			"\t\tct state established,related accept\n\t}\n}\n")
		w.homes = append(w.homes, phone)
	}
	w.checkKind(t)
	return w
}

// checkKind shows that the NAT is what the test says: which ports two far ends see, and that a third one is not let in.
func (w *natWorld) checkKind(t *testing.T) {
	t.Helper()
	var far []*net.UDPConn
	w.edge.inside(func() {
		for range 3 {
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(natEdge, 0)))
			if err != nil {
				t.Fatal(err)
			}
			far = append(far, c)
		}
	})
	var phone *net.UDPConn
	w.homes[0].inside(func() {
		var err error
		if phone, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(natPhone.Addr(), 7000))); err != nil {
			t.Fatal(err)
		}
	})
	defer phone.Close()
	var seen []netip.AddrPort
	b := make([]byte, 100)
	for _, c := range far[:2] {
		if _, err := phone.WriteTo([]byte("hello"), c.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, from)
	}
	if _, err := far[2].WriteToUDPAddrPort([]byte("stranger"), seen[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := far[0].WriteToUDPAddrPort([]byte("friend"), seen[0]); err != nil {
		t.Fatal(err)
	}
	phone.SetReadDeadline(time.Now().Add(2 * time.Second))
	n, _, err := phone.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != "friend" {
		t.Fatalf("%s NAT: got %q, %v: want only what the phone asked for", w.kind, b[:n], err)
	}
	if symmetric := seen[0] != seen[1]; symmetric != (w.kind == "symmetric") {
		t.Fatalf("%s NAT: two far ends saw %v", w.kind, seen)
	}
	t.Logf("%s NAT: %s:7000 is seen as %v by two far ends, a third one is not let in", w.kind, natPhone.Addr(), seen)
	for _, c := range far {
		c.Close()
	}
}

// TestB32PhonesBehindNAT registers a phone in each of two homes, calls the echo, and calls from one home to the other:
// the INVITE, the BYE and the media that the farm sends reach a phone that only its NAT can be written to (B32, B33).
func TestB32PhonesBehindNAT(t *testing.T) {
	for _, nat := range natKinds {
		t.Run(nat.name, func(t *testing.T) {
			w, m := newNATWorld(t, nat.name, nat.statement), watchMachine(t)
			e := startUpIn(t, w.edge)
			ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
			defer stop()
			answered := make(chan *siptest.Call, 1)
			called := make(chan *mediatest.Peer, 1)
			phone := func(i int, cfg siptest.Config) *agent {
				cfg.User, cfg.Password, cfg.Proxy, cfg.Local = e.Accounts[i].User, e.Accounts[i].Password, e.SIP, natPhone
				a := startAgent(t, w.homes[i], cfg)
				if _, err := a.Register(ctx, time.Hour); err != nil {
					t.Fatal(err)
				}
				return a
			}
			a := phone(0, siptest.Config{})
			b := phone(1, siptest.Config{OnCall: func(ctx context.Context, in *siptest.Incoming) {
				p := <-called
				answer, err := p.Answer(in.Offer())
				if err != nil {
					t.Errorf("answer: %v", err)
					return
				}
				if err := in.Ring(); err != nil {
					t.Errorf("ring: %v", err)
				}
				c, err := in.Answer(ctx, answer)
				if err != nil {
					t.Errorf("answer: %v", err)
					return
				}
				answered <- c
			}})

			audio := mediatest.Speech(3 * time.Second)
			p := a.peer(t, mediatest.Config{Audio: audio, Codecs: []string{"PCMU"}})
			c := a.call(t, ctx, "600", p)
			if err := p.Run(ctx); err != nil {
				t.Fatal(err)
			}
			r := p.Report()
			echo := r.Echo(audio)
			t.Logf("echo: set up in %v, SNR %.1f dB", c.SetupTime().Round(time.Millisecond), echo.SNR)
			heard(t, "echo 600", r, r.Sent, 0.95, m.gap(200*time.Millisecond))
			if !echo.Found || echo.SNR < 30 {
				t.Errorf("echo: SNR %.1f dB, want 30", echo.SNR)
			}
			if err := c.Hangup(ctx); err != nil {
				t.Errorf("hang up the echo: %v", err)
			}

			pa := a.peer(t, mediatest.Config{Audio: audio, Codecs: []string{"PCMU"}})
			pb := b.peer(t, mediatest.Config{Audio: audio, Codecs: []string{"PCMU"}})
			called <- pb
			c = a.call(t, ctx, e.Accounts[1].User, pa)
			other := <-answered
			runBoth(t, ctx, pa, pb)
			ra, rb := pa.Report(), pb.Report()
			heard(t, "caller", ra, rb.Sent, 0.93, m.gap(200*time.Millisecond))
			heard(t, "called", rb, ra.Sent, 0.93, m.gap(200*time.Millisecond))
			if err := c.Hangup(ctx); err != nil {
				t.Errorf("hang up: %v", err)
			}
			select {
			case <-other.Done():
				if !other.EndedByPeer() {
					t.Error("the called phone ended by itself")
				}
				t.Log("the farm's BYE reached the called phone")
			case <-time.After(5 * time.Second):
				t.Error("the farm's BYE did not reach the phone behind the NAT")
			}
			endsWell(t, e.proc)
		})
	}
}

func runBoth(t *testing.T, ctx context.Context, peers ...*mediatest.Peer) {
	t.Helper()
	done := make(chan error, len(peers))
	for _, p := range peers {
		go func() { done <- p.Run(ctx) }()
	}
	for range peers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// startUpIn runs `rtcedge up` in the edge's namespace.
func startUpIn(t *testing.T, in *namespace) *edge {
	t.Helper()
	state := filepath.Join(t.TempDir(), "up.json")
	e := &edge{}
	e.proc = in.startRole(t, netip.MustParseAddrPort("127.0.0.1:8080"), "up", "--listen-ip", natEdge.String(), "--state-file", state)
	eventually(t, "state file of rtcedge up", 5*time.Second, func() bool {
		data, err := os.ReadFile(state)
		return err == nil && json.Unmarshal(data, e) == nil && e.SIP.IsValid()
	})
	return e
}

// TestB32FarmReinvites lets a phone behind each NAT call a farm node that offers new media in the call and hangs up:
// re-INVITE, its ACK and BYE from inside reach the phone, media goes on both ways, and the farm never sees the phone's
// private address (B17, B32).
func TestB32FarmReinvites(t *testing.T) {
	const inside, farmAddr = "10.3.0.1", "10.3.0.2"
	for _, nat := range natKinds {
		t.Run(nat.name, func(t *testing.T) {
			w, m := newNATWorld(t, nat.name, nat.statement), watchMachine(t)
			for _, a := range []string{inside, farmAddr} {
				w.edge.run("ip", "address", "add", a+"/32", "dev", "lo")
			}
			w.edge.startRole(t, netip.MustParseAddrPort("127.0.0.1:8081"), "media", "--listen-ng", "127.0.0.1:2223",
				"--interface", "pub/"+natEdge.String(), "--interface", "priv/"+inside)
			w.edge.startRole(t, netip.MustParseAddrPort("127.0.0.1:8080"), "sip", "--listen", "udp:"+natEdge.String()+":5060",
				"--internal", "udp:"+inside+":5060", "--farm", "call=udp:"+farmAddr+":5080", "--media", "ng:127.0.0.1:2223")

			ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
			defer stop()
			calls := make(chan *siptest.Call, 1)
			var fp *mediatest.Peer
			farm := startAgent(t, w.edge, siptest.Config{User: "farm", Local: netip.MustParseAddrPort(farmAddr + ":5080"),
				OnCall: func(ctx context.Context, in *siptest.Incoming) {
					if strings.Contains(string(in.Offer()), natPhone.Addr().String()) {
						t.Errorf("the farm was offered the phone's private address:\n%s", in.Offer())
					}
					answer, err := fp.Answer(in.Offer())
					if err != nil {
						t.Errorf("farm: %v", err)
						return
					}
					c, err := in.Answer(ctx, answer)
					if err != nil {
						t.Errorf("farm: %v", err)
						return
					}
					calls <- c
				}})
			fp = farm.peer(t, mediatest.Config{Codecs: []string{"PCMU"}, Echo: true})
			reinvited := make(chan []byte, 1)
			phone := startAgent(t, w.homes[0], siptest.Config{User: "1001", Proxy: netip.AddrPortFrom(natEdge, 5060), Local: natPhone,
				OnReinvite: func(c *siptest.Call, offer []byte) []byte {
					reinvited <- slices.Clone(offer)
					return c.LocalSDP()
				}})
			p := phone.peer(t, mediatest.Config{Codecs: []string{"PCMU"}, Audio: mediatest.Speech(4 * time.Second)})
			c := phone.call(t, ctx, "600", p)
			fc := <-calls
			runUntilEnd(t, "farm's media", fp.Run)
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			time.Sleep(1500 * time.Millisecond) // of media, so that the re-INVITE meets a call that has learnt its sources
			offer, err := fp.Offer()
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			answer, err := fc.Reinvite(ctx, offer)
			if err != nil {
				t.Fatalf("re-INVITE from the farm: %v", err)
			}
			took := time.Since(start)
			if err := fp.SetAnswer(answer); err != nil {
				t.Fatalf("re-INVITE from the farm: %v", err)
			}
			if seen := string(<-reinvited); strings.Contains(seen, "10.3.0.") {
				t.Errorf("the phone was offered an inside address:\n%s", seen)
			}
			if strings.Contains(string(answer), natPhone.Addr().String()) {
				t.Errorf("the farm got the phone's private address:\n%s", answer)
			}
			t.Logf("the farm's re-INVITE was answered in %v", took.Round(time.Millisecond))
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			r, fr := p.Report(), fp.Report()
			heard(t, "phone", r, r.Sent, 0.95, m.gap(200*time.Millisecond))
			heard(t, "farm", fr, r.Sent, 0.95, m.gap(200*time.Millisecond))
			if len(r.SSRCs) != 1 {
				t.Errorf("the phone saw SSRCs %x, want one", r.SSRCs)
			}
			if err := fc.Hangup(ctx); err != nil {
				t.Errorf("BYE from the farm: %v", err)
			}
			select {
			case <-c.Done():
			case <-time.After(5 * time.Second):
				t.Error("the farm's BYE did not end the phone's call")
			}
		})
	}
}
