package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rtcedge/media/ng"
	"rtcedge/media/udp"
	"rtcedge/nat"
)

// TestTableConformance drives the session table by its four calls alone, without NG, SDP or a call, and compares each packet that comes
// out, and what was counted, over the layers: Install, two routes with Update, one with a hold, Remove.
func TestTableConformance(t *testing.T) {
	var want []string
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			got := tablePlay(t, l)
			if want == nil {
				want = got
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("against %s:\n%s", layers[0].name, diff)
			}
		})
	}
}

func tablePlay(t *testing.T, l layered) (seen []string) {
	r := l.rig(t, Config{NumThreads: 1})
	note := func(format string, args ...any) { seen = append(seen, fmt.Sprintf(format, args...)) }
	table, network := &r.workers[0].table, r.networks[0]
	s := &stream{worker: r.workers[0], callID: "c"}
	for i := range s.legs {
		s.legs[i].stream, s.legs[i].side, s.legs[i].network, s.legs[i].ssrc = s, i, network, uint32(100+i)
	}
	if err := table.Install(s, [2]uint16{}); err != nil {
		t.Fatal(err)
	}
	parties := [2]*peer{newPeer(t, 1), newPeer(t, 2)}
	for i, p := range parties {
		p.to = s.legs[i].local()
	}
	counted := func(what string) {
		t.Helper()
		r.barrier() // a packet is counted after it was sent
		for i := range s.legs {
			n := table.Counters(s, i)
			note("%s: leg %d in %v rtcp %v sent %v lost %d drops %d ssrc %d learnt %v", what, i, n.RTP, n.RTCP, n.Sent, n.Lost, n.Drops,
				n.SSRC, n.Source == parties[i].addr())
		}
	}

	// Without a route nothing passes.
	parties[0].send(parties[0].packet(0, []byte("early")))
	waitFor(t, "the early packet", func() bool { return table.Counters(s, 0).Drops == 1 })

	play := func(what string, count int, rt *route) {
		t.Helper()
		table.Update(s, rt)
		for k := range count {
			for i, p := range parties {
				p.send(p.packet(uint8(i*8), fmt.Appendf(nil, "%s %d from %d", what, k, i)))
				if rt.flows[1-i].hold {
					waitFor(t, "the packet to who is on hold", func() bool { return table.Counters(s, 1-i).Drops == uint64(k+1) })
					continue
				}
				got := parties[1-i].recv()
				note("%s: pt %d marker %v seq %d ts %d ssrc %d %q", what, got.PayloadType, got.Marker, got.SequenceNumber, got.Timestamp-rtpOrigin, got.SSRC, got.Payload)
			}
		}
		counted(what)
	}
	play("relay", 20, tableRoute(parties, map[uint8]uint8{0: 0, 8: 8}))
	play("types", 5, tableRoute(parties, map[uint8]uint8{0: 96, 8: 97}))
	held := tableRoute(parties, map[uint8]uint8{0: 0, 8: 8})
	held.flows[1].hold = true
	play("hold", 3, held)

	ports := []uint16{s.legs[0].number, s.legs[0].localRTCP(), s.legs[1].number, s.legs[1].localRTCP()}
	free := network.pool.stats().Free
	table.Remove(s)
	r.barrier()
	if n := network.pool.stats().Free; n != free+2 {
		t.Errorf("%d pairs free after Remove, %d before: want both legs' back", n, free)
	}
	for _, n := range ports {
		note("port closed: %v", refuses(t, netip.AddrPortFrom(network.Addr, n)))
	}
	return seen
}

const rtpOrigin = 50000 // of a peer's timestamps

// tableRoute relays with these payload types and knows the parties' addresses.
func tableRoute(parties [2]*peer, types map[uint8]uint8) *route {
	r := &route{at: time.Now()}
	for i := range r.flows {
		f := &r.flows[i]
		f.source = nat.LatchConfig{Expected: parties[i].addr()}
		f.sourceRTCP = f.source
		f.clock, f.toClock = 8000, 8000
		for k := range f.types {
			f.types[k] = noType
		}
		for from, to := range types {
			f.types[from] = to
		}
	}
	return r
}

// refuses tells if nobody is at the UDP port: ICMP "port unreachable".
func refuses(t *testing.T, at netip.AddrPort) bool {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestTableClosesRTCPUnderMux: a party that agrees to rtcp-mux costs one port, one that takes it back gets the other again (RFC 5761
// section 5.1.1), and RTCP arrives either way.
func TestTableClosesRTCPUnderMux(t *testing.T) {
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			r := l.rig(t, Config{NumThreads: 1})
			a, b := newPeer(t, 1), newPeer(t, 2)
			report := []byte{0x80, rtcpRR, 0, 1, 0, 0, 0, 1}
			for round, lines := range [][]string{{"rtcp-mux"}, nil, {"rtcp-mux"}} {
				offer := relayed("c", "a", a.body("RTP/AVP", "0", lines...))
				offer.RTCPMux = []string{"offer"}
				if lines == nil {
					offer.RTCPMux = nil
				}
				r.connect(offer, a, b, b.body("RTP/AVP", "0", lines...))
				r.barrier()
				a.send(a.packet(0, make([]byte, 160)))
				b.recv()
				at := netip.AddrPortFrom(a.to.Addr(), a.to.Port()+1)
				if mux := strings.Join(lines, "") != ""; mux {
					if !refuses(t, at) {
						t.Errorf("round %d: the RTCP port is open under rtcp-mux", round)
					}
					at = a.to
				}
				if _, err := a.conn.WriteToUDPAddrPort(report, at); err != nil {
					t.Fatal(err)
				}
				waitFor(t, fmt.Sprint("RTCP of round ", round), func() bool {
					return r.query("c").Tags[0].Medias[0].Streams[1].Stats.Packets == int64(round+1)
				})
			}
		})
	}
}

// TestTableSurvivesALostRTCPPort: another process took the RTCP port while rtcp-mux had it closed. Media goes on.
func TestTableSurvivesALostRTCPPort(t *testing.T) {
	r := layers[1].rig(t, Config{NumThreads: 1})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := relayed("c", "a", a.body("RTP/AVP", "0", "rtcp-mux"))
	r.connect(offer, a, b, b.body("RTP/AVP", "0", "rtcp-mux"))
	r.barrier()
	taken, err := udp.Listen(netip.AddrPortFrom(a.to.Addr(), a.to.Port()+1), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r.connect(relayed("c", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	for range 5 {
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
	}
	r.must(ng.Request{Command: "delete", CallID: "c"})
	r.barrier()
}
