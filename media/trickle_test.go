package media

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	pionice "github.com/pion/ice/v4"
	"github.com/pion/rtp"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// TestB34TricklingAgent: pion's full agent, which trickles as a browser does: its offer has no candidate, those that it finds come later in
// fragments (RFC 8840), or never, but for the end of them. It finds the way all the same, as only one of the two must, and speaks.
func TestB34TricklingAgent(t *testing.T) {
	for name, told := range map[string]bool{"fragments": true, "end of candidates only": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Config{})
			farm := newPeer(t, 2)
			agent, err := pionice.NewAgentWithOptions(pionice.WithNetworkTypes([]pionice.NetworkType{pionice.NetworkTypeUDP4}),
				pionice.WithIncludeLoopback(), pionice.WithMulticastDNSMode(pionice.MulticastDNSModeDisabled),
				pionice.WithIPFilter(func(ip net.IP) bool { return ip.IsLoopback() }))
			if err != nil {
				t.Fatal(err)
			}
			defer agent.Close()
			ufrag, pwd, err := agent.GetLocalUserCredentials()
			if err != nil {
				t.Fatal(err)
			}
			body := bodyAt(netip.MustParseAddrPort("0.0.0.0:9"), "RTP/AVP", "0", "mid:0", "rtcp-mux", "ice-options:trickle", "ice-ufrag:"+ufrag, "ice-pwd:"+pwd)
			toBody := r.must(toFarm("c", "web", body))
			if s := string(toBody); strings.Contains(s, "ice-") || strings.Contains(s, "candidate") {
				t.Errorf("ICE reaches the farm:\n%s", s)
			}
			farm.take(toBody)
			s, err := sdp.Parse(r.must(answered("c", "web", "farm", farm.body("RTP/AVP", "0"))))
			if err != nil {
				t.Fatal(err)
			}
			m := s.Media[0]
			fragment := func(lines string) {
				req := ng.Request{Command: ng.CmdOffer, CallID: "c", FromTag: "web", Flags: []string{"fragment"},
					SDP: []byte("a=ice-ufrag:" + ufrag + "\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n" + lines)}
				if got := string(r.must(req)); got != "a=end-of-candidates\r\n" {
					t.Errorf("a fragment is answered with %q", got)
				}
			}
			gathered := make(chan struct{})
			if err := agent.OnCandidate(func(c pionice.Candidate) {
				switch {
				case c == nil:
					fragment("a=end-of-candidates\r\n")
					close(gathered)
				case told:
					fragment("a=candidate:" + c.Marshal() + "\r\n")
				}
			}); err != nil {
				t.Fatal(err)
			}
			if err := agent.GatherCandidates(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-gathered:
			case <-time.After(5 * time.Second):
				t.Fatal("pion gathers for ever")
			}
			for _, c := range m.Candidates() {
				remote, err := pionice.NewCandidateHost(&pionice.CandidateHostConfig{Network: "udp", Address: c.Addr.String(), Port: int(c.Port), Component: 1})
				if err != nil {
					t.Fatal(err)
				}
				if err := agent.AddRemoteCandidate(remote); err != nil {
					t.Fatal(err)
				}
			}
			theirs, theirPwd, _ := m.ICE()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			conn, err := agent.Dial(ctx, theirs, theirPwd) // controlling: the peer of a lite agent
			if err != nil {
				t.Fatal("no pair: ", err)
			}
			pkt, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 1, SequenceNumber: 5}, Payload: make([]byte, 160)}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(pkt); err != nil {
				t.Fatal(err)
			}
			farm.recv()
			farm.send(farm.packet(0, make([]byte, 160)))
			back := make([]byte, 1500)
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(back); err != nil || n != 172 {
				t.Errorf("%d bytes came back, %v", n, err)
			}
			if q := r.query("c").Tags[0].Medias[0].Streams[0]; !q.Endpoint.IsValid() {
				t.Errorf("%+v", q)
			}
		})
	}
}
