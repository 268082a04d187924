package media

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/nat"
	"rtcedge/nat/ice"
)

// litePeer is a WebRTC gateway that is a lite agent: it waits for checks, and takes media from the pair that they nominate only.
type litePeer struct {
	*rtcPeer
	agent *nat.ICELite
}

func newLitePeer(t *testing.T, ssrc uint32) *litePeer {
	p := &litePeer{rtcPeer: newRTCPeer(t, ssrc)}
	p.agent = nat.NewICELite(nat.ICEConfig{Ufrag: p.ufrag, Pwd: p.pwd})
	return p
}

// liteBody is its SDP.
func (p *litePeer) liteBody(setup string) string {
	at := p.addr()
	return strings.NewReplacer("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n", "7b1cb6c5-2b0b-4f0a-93c8-6df7c0e3a1f2.local 46243", at.Addr().String()+" "+portText(at)).
		Replace(p.rtcBody(setup))
}

// answerChecks serves the socket until a pair is nominated.
func (p *litePeer) answerChecks(t *testing.T) netip.AddrPort {
	t.Helper()
	buf := make([]byte, 2048)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		p.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, from, err := p.conn.ReadFromUDPAddrPort(buf)
		if err != nil || nat.Classify(buf[:n]) != nat.STUN {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		answer, _ := p.agent.Handle(buf[:n], from, time.Now(), nil)
		if answer != nil {
			p.conn.WriteToUDPAddrPort(answer, from)
		}
		if p.agent.Nominated() {
			return p.agent.Selected()
		}
	}
	t.Fatal("no check came, or none nominated")
	return netip.AddrPort{}
}

// TestB34LitePeerGetsAFullAgent: who is lite itself is checked by us: no a=ice-lite in our answer, checks that nominate the candidate of
// its SDP, then DTLS and media on that pair.
func TestB34LitePeerGetsAFullAgent(t *testing.T) {
	r := newRig(t, Config{})
	web, farm := newLitePeer(t, 1), newPeer(t, 2)
	farm.take(r.must(toFarm("c", "web", web.liteBody("actpass"))))
	s, err := sdp.Parse(r.must(answered("c", "web", "farm", farm.body("RTP/AVP", "0"))))
	if err != nil {
		t.Fatal(err)
	}
	web.far = s
	m := s.Media[0]
	ufrag, _, ok := m.ICE()
	if !ok || s.ICELite() || len(m.Candidates()) != 1 || !m.RTCPMux() {
		t.Fatalf("answered with\n%s", s.Bytes())
	}
	web.to = netip.AddrPortFrom(m.Candidates()[0].Addr, uint16(m.Candidates()[0].Port))
	if got := web.answerChecks(t); got != web.to {
		t.Fatalf("nominated %v, our port is %v", got, web.to)
	}
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	web.hears(0, make([]byte, 160), farm)
	if info := r.query("c").Tags[0].Medias[0].Streams[0]; info.Endpoint != web.addr() || info.Crypto == "" {
		t.Errorf("query: %+v", info)
	}
	// A re-INVITE keeps the agent; new credentials restart it.
	farm.take(r.must(toFarm("c", "web", web.liteBody("actpass"))))
	s, err = sdp.Parse(r.must(answered("c", "web", "farm", farm.body("RTP/AVP", "0"))))
	if err != nil {
		t.Fatal(err)
	}
	if again, _, _ := s.Media[0].ICE(); again != ufrag {
		t.Error("a repeated offer restarts ICE")
	}
	web.ufrag, web.pwd = "NeWu", "anotherPasswordOf24chars"
	web.agent = nat.NewICELite(nat.ICEConfig{Ufrag: web.ufrag, Pwd: web.pwd})
	farm.take(r.must(toFarm("c", "web", web.liteBody("actpass"))))
	s, err = sdp.Parse(r.must(answered("c", "web", "farm", farm.body("RTP/AVP", "0"))))
	if err != nil {
		t.Fatal(err)
	}
	if again, _, _ := s.Media[0].ICE(); again == ufrag {
		t.Error("new credentials do not restart ICE")
	}
	web.answerChecks(t)
	web.hears(0, make([]byte, 160), farm)
	record, err := r.Export("c")
	if err != nil || !strings.Contains(string(record), web.addr().String()) {
		t.Errorf("record: %v", err)
	}
	r.must(ng.Request{Command: "delete", CallID: "c"})
}

// TestB34FullAgentByFlag: ICE-lite=off offers a full agent to a phone that is one too, over plain RTP: both check, and we control.
func TestB34FullAgentByFlag(t *testing.T) {
	r := newRig(t, Config{})
	phone, farm := newPeer(t, 1), newPeer(t, 2)
	req := relayed("c", "farm", farm.body("RTP/AVP", "0"))
	req.ICE, req.ICELite, req.RTCPMux = "force", "off", []string{"offer"}
	s, err := sdp.Parse(r.must(req))
	if err != nil {
		t.Fatal(err)
	}
	ufrag, pwd, _ := s.Media[0].ICE()
	if s.ICELite() || len(s.Media[0].Candidates()) != 1 {
		t.Fatalf("offer\n%s", s.Bytes())
	}
	phone.to = netPort(s.Media[0])
	agent, err := ice.New(ice.Config{Ufrag: "ijklmnop", Pwd: "zyxwvutsrqponmlkjihgfedc", Local: phone.addr(),
		Send: func(b []byte, to netip.AddrPort) { phone.conn.WriteToUDPAddrPort(b, to) }})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var rtp sync.WaitGroup
	got := make(chan []byte, 100)
	rtp.Go(func() {
		for ctx.Err() == nil {
			buf := make([]byte, 2048)
			phone.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, from, err := phone.conn.ReadFromUDPAddrPort(buf)
			switch {
			case err != nil:
			case nat.Classify(buf[:n]) == nat.STUN:
				agent.Handle(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), time.Now(), nil)
			default:
				got <- buf[:n]
			}
		}
	})
	defer rtp.Wait()
	defer cancel()
	answer := phone.body("RTP/AVP", "0", "ice-ufrag:ijklmnop", "ice-pwd:zyxwvutsrqponmlkjihgfedc", "rtcp-mux",
		"candidate:1 1 udp 2130706431 127.0.0.1 "+portText(phone.addr())+" typ host")
	farm.take(r.must(answered("c", "farm", "phone", answer)))
	agent.Start(ufrag, pwd, []string{s.Media[0].Candidates()[0].String()})
	waitFor(t, "the pair", func() bool { return agent.Consent(time.Now()) && agent.Selected() == phone.to })
	waitFor(t, "our pair", func() bool { return r.query("c").Tags[1].Medias[0].Streams[0].Latched })
	farm.send(farm.packet(0, make([]byte, 160)))
	select {
	case b := <-got:
		if b[1]&typeMask != 0 || len(b) != 172 {
			t.Errorf("%x", b)
		}
	case <-time.After(2 * time.Second):
		t.Error("no media")
	}
	phone.send(phone.packet(0, make([]byte, 160)))
	farm.recv()
}
