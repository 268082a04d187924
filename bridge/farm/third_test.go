package farm

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
	"rtcedge/media/sdp"
	"rtcedge/transcode/g711"
)

// TestB37ThirdJoins: two parties are relayed; a third joins and leaves. No re-INVITE goes out, and both technologies are told.
func TestB37ThirdJoins(t *testing.T) {
	t.Parallel()
	f, a := runNode(t, Config{})
	freqs := []float64{500, 1100, 1900}
	var phones []*phone
	var ids []string
	var voices []*voice
	for i := range freqs {
		p := newPhone(t, f, fmt.Sprint(1001+i))
		d, id := a.up(p, "7001")
		phones, ids, voices = append(phones, p), append(ids, id), append(voices, p.listen(d.body))
	}
	a.do(200, "POST", "bridges/b1?type=mixing&name=call", "")
	a.do(204, "POST", "bridges/b1/addChannel?channel="+ids[0]+","+ids[1], "")
	a.event("ChannelEnteredBridge")
	if ev := a.event("ChannelEnteredBridge"); at(ev, "bridge.technology") != "native_rtp" {
		t.Errorf("two parties: %v", ev)
	}
	together(50, freqs, voices...)
	a.do(204, "POST", "bridges/b1/addChannel", `{"channel":["`+ids[2]+`"]}`)
	if ev := a.event("ChannelEnteredBridge"); at(ev, "bridge.technology") != "softmix" {
		t.Errorf("three parties: %v", ev)
	}
	together(75, freqs, voices...)
	for i, v := range voices {
		pcm := v.heard()
		tail := pcm[len(pcm)-min(len(pcm), 8000):]
		for j, freq := range freqs {
			if d := level(tail, freq) - level(tail, freqs[i]); j != i && d < 20 {
				t.Errorf("participant %d hears %d only %.1f dB above itself", i, j, d)
			}
		}
	}
	for _, p := range phones[:2] {
		for len(p.in) > 0 {
			if m := <-p.in; strings.HasPrefix(m.String(), "INVITE") {
				t.Errorf("%s got a re-INVITE", p.user)
			}
		}
	}
	a.do(204, "POST", "bridges/b1/removeChannel?channel="+ids[2], "")
	if ev := a.event("ChannelLeftBridge"); at(ev, "bridge.technology") != "native_rtp" || at(ev, "channel.id") != ids[2] {
		t.Errorf("left: %v", ev)
	}
	a.do(204, "DELETE", "bridges/b1", "")
	a.event("BridgeDestroyed")
	a.do(404, "GET", "bridges/b1", "")
	a.do(200, "GET", "channels/"+ids[0], "") // stays
}

// TestB37NoGap: the longest gap that the first two hear while a third joins and leaves is one frame, and sequence numbers
// and SSRC go on. Packets and the clock are driven by hand, so that the machine's load is not measured.
func TestB37NoGap(t *testing.T) {
	t.Parallel()
	f, err := New(Config{Listen: []string{"udp:127.0.0.1:0"}, ARI: netip.MustParseAddrPort("127.0.0.1:0"), ARIPassword: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := f.node
	freqs := []float64{500, 1100, 1900}
	var chs []*channel
	var far []*net.UDPConn
	for i := range freqs {
		s, err := newStream(f.rtpAddr, f.cfg.PortMin, f.cfg.PortMax)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		socket := newPhoneSocket(t)
		far = append(far, socket)
		s.setRemote(remoteMedia{addr: addrPort(socket), dir: sdp.SendRecv})
		ch := &channel{node: n, id: fmt.Sprint(i), stream: s, state: ari.StateUp}
		n.add(ch)
		chs = append(chs, ch)
	}
	b := &bridge{id: "b", kind: "mixing"}
	n.bridges["b"] = b
	n.publishMediaLocked()

	heard := make([][]int16, 3)
	packets := make([][]rtpPacket, 3)
	sample := 0
	step := func(frames int) {
		for range frames {
			for i, ch := range chs {
				var pcm mixer.Frame
				for k := range pcm {
					pcm[k] = int16(6000 * math.Sin(2*math.Pi*freqs[i]*float64(sample+k)/8000))
				}
				payload := make([]byte, len(pcm))
				g711.EncodeULaw(payload, pcm[:])
				at := uint32(sample)
				ch.stream.receive(append(appendRTP(nil, ptPCMU, false, uint16(sample/160), at, uint32(i+1)), payload...), addrPort(far[i]), time.Now())
			}
			n.tick(f.clock.melody)
			sample += mixer.FrameSamples
			for i, socket := range far {
				_ = socket.SetReadDeadline(time.Now().Add(patience))
				for buf := make([]byte, 2048); ; {
					if chs[i].bridge == nil {
						break
					}
					size, err := socket.Read(buf)
					if err != nil {
						t.Fatalf("participant %d hears nothing: %v", i, err)
					}
					pkt, _ := parseRTP(slices.Clone(buf[:size]))
					pcm := make([]int16, len(pkt.payload))
					g711.DecodeULaw(pcm, pkt.payload)
					heard[i], packets[i] = append(heard[i], pcm...), append(packets[i], pkt)
					break // one packet in 20 ms
				}
			}
		}
	}
	n.putIn(chs[0], b)
	n.putIn(chs[1], b)
	step(50)
	n.putIn(chs[2], b)
	if b.technology != ari.TechnologySoftmix {
		t.Errorf("three parties: %s", b.technology)
	}
	step(50)
	n.takeOut(chs[2])
	if b.technology != ari.TechnologyNative {
		t.Errorf("two parties: %s", b.technology)
	}
	step(50)
	for i := range 2 {
		if gap := longestSilence(heard[i]); gap > mixer.FrameSamples {
			t.Errorf("participant %d hears a gap of %d samples", i, gap)
		} else {
			t.Logf("participant %d: longest gap %d samples of %d", i, gap, len(heard[i]))
		}
		for k := 1; k < len(packets[i]); k++ {
			was, is := packets[i][k-1], packets[i][k]
			if is.seq != was.seq+1 || is.ssrc != was.ssrc || int32(is.ts-was.ts) <= 0 {
				t.Fatalf("participant %d: packet %d follows %+v with %+v", i, k, was.seq, is.seq)
			}
		}
	}
	if l := level(heard[2][1600:], 500); l < 40 {
		t.Errorf("the third hears the first at %.0f dB", l)
	}
}

// longestSilence is the longest run of samples that say nothing.
func longestSilence(pcm []int16) int {
	longest, run := 0, 0
	for _, s := range pcm {
		if s > 40 || s < -40 {
			run = 0
		} else if run++; run > longest {
			longest = run
		}
	}
	return longest
}
