package media

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"

	"rtcedge/media/ng"
	"rtcedge/media/udp"
	"rtcedge/media/xdp"
)

// steeredTests runs all tests of the package that say nothing of a layer over the steered one: go test ./media -steered.
var steeredTests = flag.Bool("steered", false, "run the package's tests over steered ports (needs root)")

// steering attaches one for the test; where it cannot be had the test is skipped.
func steering(t testing.TB, cfg *Config) udp.Steering {
	t.Helper()
	addrs := []netip.Addr{loopback}
	for _, i := range cfg.Interfaces {
		addrs = append(addrs, i.Addr)
	}
	s, err := xdp.New(xdp.Config{Addrs: addrs, PortMin: cfg.PortMin, PortMax: cfg.PortMax, Lanes: max(cfg.NumThreads, runtime.GOMAXPROCS(0))})
	if errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no steering here:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// layered is the engine's Config of one way to receive and send.
type layered struct {
	name     string
	portable bool
	steered  bool
}

var layers = []layered{{name: "portable", portable: true}, {name: "sockets"}, {name: "steered", steered: true}}

func (l layered) rig(t *testing.T, cfg Config) *rig {
	t.Helper()
	// Above the ephemeral ports: a peer of the test, or the kernel for the socket that asks, would else hold a port that has to refuse.
	cfg.Portable, cfg.PortMin, cfg.PortMax = l.portable, 65000, 65399
	if l.steered {
		cfg.Steering = steering(t, &cfg)
	}
	return newRig(t, cfg)
}

// TestLayersAgree plays the same packets on every layer and compares all that comes out, packet by packet, with what the portable one
// sends: the session table's contract is that nobody can tell the layers apart but by their speed.
func TestLayersAgree(t *testing.T) {
	var want []string
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			got := layerPlay(t, l)
			if want == nil {
				want = got
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("against %s:\n%s", layers[0].name, diff)
			}
		})
	}
}

// layerPlay is relay, SRTP, transcoding, RTCP, a stranger, a source that moves and packets of all sizes.
func layerPlay(t *testing.T, l layered) (seen []string) {
	r := l.rig(t, Config{NumThreads: 2})
	note := func(format string, args ...any) { seen = append(seen, fmt.Sprintf(format, args...)) }
	strange := uint64(0)
	const suite = "AEAD_AES_128_GCM"
	for _, call := range []struct {
		name, proto, codec string
		pt                 uint8
		toFarm             bool
	}{{"relay", "RTP/AVP", "97", 97, false}, {"srtp", "RTP/SAVP", "0", 0, true}, {"pcma", "RTP/AVP", "8", 8, true}} {
		a, b, evil := newPeer(t, 1), newPeer(t, 2), newPeerAt(t, "127.0.0.9", 3)
		var lines []string
		if call.proto == "RTP/SAVP" {
			lines = append(lines, a.key(suite, 7))
		}
		format, pt := "0", uint8(0)
		offer := toFarm(call.name, "a", a.body(call.proto, call.codec, lines...))
		if !call.toFarm {
			format, pt = call.codec, 97
			offer = relayed(call.name, "a", a.body(call.proto, call.codec, "rtpmap:97 speex/16000"))
		}
		r.connect(offer, a, b, b.body("RTP/AVP", format, "rtpmap:97 speex/16000"))
		evil.to = a.to
		sizes := []int{160, 1, 80, 160, 161, 1200, 1240, 1241, 1300, 1460, 1472, 1600}
		if call.toFarm {
			sizes = []int{160, 160, 160, 160}
		}
		for i, size := range sizes {
			a.send(a.packet(call.pt, bytes.Repeat([]byte{byte(i)}, size)))
			p := b.recv()
			note("%s b: pt %d marker %v len %d first %x last %x", call.name, p.PayloadType, p.Marker, len(p.Payload), p.Payload[0], p.Payload[len(p.Payload)-1])
			b.send(b.packet(pt, bytes.Repeat([]byte{byte(i)}, size)))
			p = a.recv()
			note("%s a: pt %d marker %v len %d first %x last %x", call.name, p.PayloadType, p.Marker, len(p.Payload), p.Payload[0], p.Payload[len(p.Payload)-1])
			if i > 0 {
				strange++
				evil.raw([]byte{0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9})
			}
		}
		evil.raw(bytes.Repeat([]byte{7}, 30)) // of no class
		evil.raw(nil)
		strange += 2
		waitFor(t, "the strangers' packets", func() bool { return r.droppedPackets() >= strange })
		in := r.query(call.name)
		for _, tag := range in.Tags {
			s := tag.Medias[0].Streams[0]
			note("%s %s: %d packets, %d lost, latched %v", call.name, tag.Tag, s.Stats.Packets, s.Stats.Lost, s.Latched)
		}
	}
	// RTCP on its own port.
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(relayed("rtcp", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
	a.send(a.packet(0, make([]byte, 160)))
	b.recv()
	raw, err := (&rtcp.SenderReport{SSRC: 1, RTPTime: a.ts}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	a.to = netip.AddrPortFrom(a.to.Addr(), a.to.Port()+1)
	a.raw(raw)
	waitFor(t, "the report", func() bool { return r.legPackets("rtcp") == 2 })
	st := r.Stats()
	reasons := make([]string, 0, len(st.Drops))
	for name, n := range st.Drops {
		if n > 0 {
			reasons = append(reasons, fmt.Sprintf("%s %d", name, n))
		}
	}
	slices.Sort(reasons)
	note("drops: %s", strings.Join(reasons, ", "))
	return seen
}

func (r *rig) droppedPackets() (n uint64) {
	for _, w := range r.workers {
		n += w.drops.total()
	}
	return n
}

// legPackets counts what the first party sent, RTCP on its own port too.
func (r *rig) legPackets(id string) (n int64) {
	for _, s := range r.query(id).Tags[0].Medias[0].Streams {
		n += s.Stats.Packets
	}
	return n
}

// TestLayersTakeAndGivePorts: a port of a call is held, and one that another process has is passed over; after the call it is free and
// refuses as a closed port does.
func TestLayersTakeAndGivePorts(t *testing.T) {
	for _, l := range layers {
		t.Run(l.name, func(t *testing.T) {
			other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 22100})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			r := l.rig(t, Config{NumThreads: 1})
			var ports []netip.AddrPort
			for i := range 50 {
				a, b := newPeer(t, 1), newPeer(t, 2)
				id := fmt.Sprint("c", i)
				r.connect(relayed(id, "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
				ports = append(ports, a.to, b.to)
			}
			if slices.Contains(ports, netip.AddrPortFrom(loopback, 22100)) {
				t.Error("a port of another process was given away")
			}
			// The other process still gets what is sent to it.
			c, err := net.DialUDP("udp", nil, other.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write([]byte("mine"))
			other.SetReadDeadline(time.Now().Add(time.Second))
			if n, _, err := other.ReadFrom(make([]byte, 10)); n != 4 || err != nil {
				t.Errorf("the other process got %d bytes, %v", n, err)
			}
			for i := range 50 {
				r.must(ng.Request{Command: ng.CmdDelete, CallID: fmt.Sprint("c", i)})
			}
			r.barrier()
			for _, at := range ports {
				c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
				if err != nil {
					t.Fatal(err)
				}
				c.Write([]byte("x"))
				c.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s after the call: %v, want connection refused", at, err)
				}
				c.Close()
			}
		})
	}
}
