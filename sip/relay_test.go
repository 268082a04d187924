package sip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

// stream is a phone on a connection.
type stream struct {
	read  func() string
	write func(string)
	host  string
}

func tcpPhone(t *testing.T, to netip.AddrPort) stream {
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return stream{host: "TCP 10.1.1.1:5060", read: func() string {
		buf := make([]byte, 65536)
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}, write: func(s string) {
		if _, err := conn.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}}
}

func wsPhone(t *testing.T, to netip.AddrPort) stream {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, "ws://"+to.String()+"/ws", &websocket.DialOptions{Subprotocols: []string{"sip"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return stream{host: "WS abc.invalid", read: func() string {
		_, b, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}, write: func(s string) {
		if err := conn.Write(ctx, websocket.MessageText, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}}
}

// freeUDP finds a port for a listener that must be known before it opens.
func freeUDP(t *testing.T, ip string) netip.AddrPort {
	pc := newPeer(t, ip)
	a := pc.addr()
	pc.Close()
	return a
}

// TestB06FlowOfAnotherNode: a phone is connected to node 1, over TCP or WS; what the farm sends to it through node 2 arrives, and so do the
// answers, for the whole of a dialog. Both nodes stand behind one name.
func TestB06FlowOfAnotherNode(t *testing.T) {
	for name, dial := range map[string]func(*testing.T, netip.AddrPort) stream{"tcp": tcpPhone, "ws": wsPhone} {
		t.Run(name, func(t *testing.T) {
			farm := newPeer(t, "127.0.0.1")
			var edges [2]*Proxy
			media := &fakeMedia{}
			for i := range edges {
				cfg := Config{Media: media, NodeAddr: freeUDP(t, fmt.Sprintf("127.0.0.%d", i+2))}
				cfg.Transport.Listeners = []transport.ListenerConfig{
					{Proto: transport.UDP, Addr: cfg.NodeAddr, Advertise: "edge.test:5060"},
					{Proto: transport.TCP, Addr: netip.MustParseAddrPort("127.0.0.1:0"), Advertise: "edge.test:5060"},
					{Proto: transport.WS, Addr: netip.MustParseAddrPort("127.0.0.1:0"), Advertise: "edge.test:8088"}}
				cfg.Farms.NoProbes = true
				cfg.Farms.Farms[dispatch.Call] = []dispatch.NodeConfig{{Addr: farm.addr()}}
				edges[i] = start(t, cfg)
			}
			at := 1
			if name == "ws" {
				at = 2
			}
			phone := dial(t, edges[0].Listeners()[at].Addr())
			other := edges[1].Listeners()[0].Addr()

			phone.write("REGISTER sip:edge.test SIP/2.0\r\nVia: SIP/2.0/" + phone.host + ";branch=z9hG4bKr\r\nMax-Forwards: 70\r\nFrom: <sip:1001@edge.test>;tag=f\r\nTo: <sip:1001@edge.test>\r\nCall-ID: reg\r\nCSeq: 1 REGISTER\r\nContact: <sip:1001@10.1.1.1;transport=" + name + ">\r\nContent-Length: 0\r\n\r\n")
			reg := farm.get()
			// Also the answer comes to the other node.
			farm.send(other, answer(reg, 200, "r", ""))
			if got := phone.read(); !strings.HasPrefix(got, "SIP/2.0 200") || len(lines(got, "Via")) != 1 {
				t.Fatalf("answer to REGISTER:\n%s", got)
			}
			body := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
			invite := fmt.Sprintf("INVITE sip:1001@10.1.1.1;transport=%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKi\r\nMax-Forwards: 70\r\nFrom: <sip:600@x>;tag=f\r\nTo: <sip:1001@x>\r\nCall-ID: out\r\nCSeq: 1 INVITE\r\nContact: <sip:600@%s>\r\nRoute: %s\r\nVBOUT-Secret: x\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
				name, farm.addr(), farm.addr(), lines(reg, "Path")[0], len(body), body)
			farm.send(other, invite)
			got := phone.read()
			if !strings.HasPrefix(got, "INVITE sip:1001@10.1.1.1;transport="+name+" SIP/2.0\r\n") || len(lines(got, "Via")) != 3 ||
				strings.Contains(got, "\nVB") || len(lines(got, "Route")) != 0 || !strings.HasSuffix(got, changed) {
				t.Fatalf("at the phone:\n%s", got)
			}
			rr := lines(got, "Record-Route")
			phone.write(answer(got, 200, "t", "Contact: <sip:1001@10.1.1.1;transport="+name+">\n"+strings.Replace(sdp, "\n\n", "\n", 1)))
			ok := farm.get()
			if !strings.HasPrefix(ok, "SIP/2.0 200") || len(lines(ok, "Via")) != 1 || !strings.HasSuffix(ok, changed) {
				t.Fatalf("at the farm:\n%s", ok)
			}
			if n := len(media.took()); n != 2 {
				t.Errorf("media was asked %d times, want offer and answer", n)
			}
			for cseq, method := range []string{"", "ACK", "INFO"} {
				if method == "" {
					continue
				}
				farm.send(other, fmt.Sprintf("%s sip:1001@10.1.1.1;transport=%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\nFrom: <sip:600@x>;tag=f\r\nTo: <sip:1001@x>;tag=t\r\nCall-ID: out\r\nCSeq: %d %s\r\nRoute: %s\r\nContent-Length: 0\r\n\r\n",
					method, name, farm.addr(), method, cseq, method, strings.Join(rr, ", ")))
				if got = phone.read(); !strings.HasPrefix(got, method+" ") {
					t.Fatalf("%s at the phone:\n%s", method, got)
				}
			}
			phone.write(answer(got, 200, "", ""))
			if ok := farm.get(); !strings.HasPrefix(ok, "SIP/2.0 200") {
				t.Errorf("answer to INFO:\n%s", ok)
			}
			if n := edges[1].Stats().Relayed; n != 4 {
				t.Errorf("relayed %d messages, want 4", n)
			}
		})
	}
}

// TestB06RelayIsProven: a stranger cannot speak as an edge node, also not with a proof that he saw; and a relayed message is not relayed
// again.
func TestB06RelayIsProven(t *testing.T) {
	self, peer := netip.MustParseAddrPort("127.0.0.1:9001"), netip.MustParseAddrPort("127.0.0.2:9002")
	one, two := newRig(t, Config{NodeAddr: self}), newRig(t, Config{NodeAddr: peer})
	call := strings.Replace(invite(""), "INVITE sip:600@E0", "INVITE sip:1@127.0.2.2:5072", 1)
	st := routeState{flags: routePath | routeClient | routeFlow | routeNode, client: netip.MustParseAddrPort(phone), flow: 7, node: peer}
	path := "Route: <sip:E0;lr;vb=" + string(one.p.key.appendRoute(nil, &st, nil)) + ">\n"
	out := one.put(node1, call+path)
	relayed := one.one(out, peer.String())
	proof := lines(relayed, relayName)
	if len(proof) != 1 || len(lines(relayed, "Route")) != 1 {
		t.Fatalf("relayed:\n%s", relayed)
	}
	// What a farm node would reach from there a stranger does not.
	stranger := func(extra, id string) string {
		out := two.put("127.0.6.6:5060", strings.Replace(call, "call-1@phone", id, 1)+extra)
		if len(out) != 1 {
			return ""
		}
		return out[0].to.Addr.String()
	}
	if to := stranger("VB-Relay: "+proof[0]+"\n", "other"); to != node1 {
		t.Errorf("a proof of another call led to %q", to)
	}
	if to := stranger("VB-Relay: AAAA\n", "call-1@phone"); to != node1 {
		t.Errorf("a forged proof led to %q", to)
	}
	// The owner has another address now: no second relay.
	three := newRig(t, Config{NodeAddr: netip.MustParseAddrPort("127.0.0.3:9003")})
	again := strings.Replace(relayed, one.edge(0)+";lr", three.edge(0)+";lr", 1)
	three.status(three.putOn(0, 0, self.String(), again), 430)
	// Without an address of its own a node relays nothing.
	none := newRig(t, Config{})
	none.status(none.put(node1, call+path), 430)
}
