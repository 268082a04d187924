package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/auth"
	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

// TestReloadUnderLoad: rules, farms, domains and limits change over and over while calls flow over real sockets; none is lost, none is
// refused.
func TestReloadUnderLoad(t *testing.T) {
	farm, spare, phone := newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1"), newPeer(t, "127.0.0.1")
	cfg := Config{Transport: transport.Config{Listeners: []transport.ListenerConfig{udpOn("127.0.0.1")}}}
	cfg.Farms.NoProbes = true
	cfg.Farms.Farms[dispatch.Call] = []dispatch.NodeConfig{{Addr: farm.addr()}}
	p := start(t, cfg)
	edge := p.Listeners()[0].Addr()
	go func() { // the farm answers
		buf := make([]byte, 65536)
		for {
			n, from, err := farm.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := farm.WriteTo([]byte(answer(string(buf[:n]), 200, "x", "")), from); err != nil {
				return
			}
		}
	}()
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		reloads := 0
		defer func() { done <- reloads }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			r := cfg.Reloadable()
			if reloads%2 == 0 {
				r.Domains = []string{"127.0.0.1", "example.com"}
				r.Rules = []Rule{{User: "~^9", Farm: dispatch.Conference}, {Farm: dispatch.Call}}
				r.RateLimit = auth.RateConfig{PerSecond: 1e6}
				r.Farms.Farms[dispatch.Conference] = []dispatch.NodeConfig{{Addr: spare.addr()}}
			}
			if err := p.Reload(r); err != nil {
				t.Error(err)
			}
			reloads++
			time.Sleep(50 * time.Microsecond)
		}
	}()
	const calls, window = 4000, 32
	got := 0
	for i := range calls {
		phone.send(edge, fmt.Sprintf("INVITE sip:600@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:1001@x>;tag=f\r\nTo: <sip:600@x>\r\nCall-ID: c%d\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@%s>\r\nContent-Length: 0\r\n\r\n", edge, phone.addr(), i, i, phone.addr()))
		for i-got >= window || i == calls-1 && got < calls {
			if s := phone.get(); !strings.HasPrefix(s, "SIP/2.0 200") {
				t.Fatalf("call refused:\n%s", s)
			}
			got++
		}
	}
	close(stop)
	reloads := <-done
	t.Logf("%d calls, %d reloads", got, reloads)
	if reloads < 10 {
		t.Errorf("%d reloads only", reloads)
	}
}

// TestReload: what was reloaded counts, a mistake changes nothing, and what is known of sources stays where its limits do.
func TestReload(t *testing.T) {
	cfg := Config{Farms: farms(node1), RateLimit: auth.RateConfig{PerSecond: 1, Burst: 1}}
	r := newRig(t, cfg)
	r.one(r.put(phone, invite("")), node1)
	next := cfg.Reloadable()
	next.Farms, next.Domains = farms(node2), []string{"Example.com"}
	if err := r.p.Reload(next); err != nil {
		t.Fatal(err)
	}
	if out := r.put(phone, invite("")); len(out) != 0 {
		t.Errorf("a reload forgave a flood: %v", out)
	}
	other := "127.0.3.1:5060"
	r.one(r.put(other, strings.Replace(invite(""), "INVITE sip:600@E0", "INVITE sip:600@a.example.com", 1)), node2)
	bad := next
	bad.Rules = []Rule{{User: "~("}}
	if r.p.Reload(bad) == nil {
		t.Error("a broken rule was taken")
	}
	bad = next
	bad.Farms.Farms[dispatch.Call] = []dispatch.NodeConfig{{Addr: netip.AddrPort{}}}
	bad.Domains = nil
	if r.p.Reload(bad) == nil {
		t.Error("a node without an address was taken")
	}
	r.status(r.put("127.0.3.2:5060", strings.Replace(longInvite(), "INVITE sip:600@E0", "INVITE sip:600@elsewhere.org", 1)), 404)
	next.RateLimit = auth.RateConfig{}
	if err := r.p.Reload(next); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r.one(r.put(phone, invite("")), node2)
	}
}
