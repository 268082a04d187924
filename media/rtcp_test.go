package media

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
)

// TestB20RTCPForwardedOnRelay: reports speak of the streams that each side sees.
func TestB20RTCPForwardedOnRelay(t *testing.T) {
	for _, mux := range []bool{false, true} {
		t.Run(fmt.Sprintf("mux=%v", mux), func(t *testing.T) {
			r := newRig(t, Config{})
			a, b := newPeer(t, 0xaaaa), newPeer(t, 0xbbbb)
			ra, rb := a, b
			lines := []string{"rtcp-mux"}
			var la, lb []string
			if mux {
				la, lb = lines, lines
			} else {
				ra, rb = newPeer(t, 0), newPeer(t, 0)
				la = []string{fmt.Sprintf("rtcp:%d", ra.addr().Port())}
				lb = []string{fmt.Sprintf("rtcp:%d", rb.addr().Port())}
			}
			toB, toA := r.connect(relayed("c", "a", a.body("RTP/AVP", "0", la...)), a, b, b.body("RTP/AVP", "0", lb...))
			if toA.Media[0].RTCPMux() != mux || toB.Media[0].RTCPMux() != mux {
				t.Error("rtcp-mux lost or invented")
			}
			ra.to, rb.to = toA.Media[0].RTCP(), toB.Media[0].RTCP()
			if mux {
				ra.to, rb.to = a.to, b.to
			}
			a.send(a.packet(0, []byte("x")))
			gotB := b.recv()
			b.send(b.packet(0, []byte("y")))
			gotA := a.recv()

			sr, err := rtcp.Marshal([]rtcp.Packet{
				&rtcp.SenderReport{
					SSRC: 0xaaaa, NTPTime: 0x1122334455667788, RTPTime: a.ts, PacketCount: 1, Reports: []rtcp.ReceptionReport{
						{SSRC: gotA.SSRC, LastSequenceNumber: uint32(gotA.SequenceNumber)},
					},
				},
				rtcp.NewCNAMESourceDescription(0xaaaa, "secret@10.0.0.1"),
				&rtcp.Goodbye{Sources: []uint32{0xaaaa}},
			})
			if err != nil {
				t.Fatal(err)
			}
			ra.raw(sr)
			pkts := rb.recvRTCP()
			got := pkts[0].(*rtcp.SenderReport)
			if got.SSRC != gotB.SSRC || got.RTPTime != gotB.Timestamp || got.Reports[0].SSRC != 0xbbbb ||
				got.Reports[0].LastSequenceNumber != uint32(b.seq) {
				t.Errorf("%v, source %x at %d", got, b.ssrc, b.seq)
			}
			if len(pkts) != 2 {
				t.Fatalf("%d packets, want report and SDES", len(pkts))
			}
			if c := pkts[1].(*rtcp.SourceDescription).Chunks[0]; c.Source != gotB.SSRC || strings.Contains(c.Items[0].Text, "10.0") {
				t.Errorf("%+v", c)
			}
			// The answer of b measures the round trip between b and us.
			time.Sleep(5 * time.Millisecond)
			rr, err := (&rtcp.ReceiverReport{SSRC: 0xbbbb, Reports: []rtcp.ReceptionReport{
				{SSRC: gotB.SSRC, LastSequenceNumber: uint32(gotB.SequenceNumber), LastSenderReport: 0x33445566},
			}}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			rb.raw(rr)
			back := ra.recvRTCP()[0].(*rtcp.ReceiverReport)
			if back.SSRC != gotA.SSRC || back.Reports[0].SSRC != 0xaaaa || back.Reports[0].LastSequenceNumber != uint32(a.seq) {
				t.Errorf("%v", back)
			}
			if trip := r.query("c").Tags[1].Medias[0].Streams[0].Stats.RoundTrip; trip < 5*time.Millisecond || trip > time.Second {
				t.Errorf("round trip %v", trip)
			}
		})
	}
}

// TestB20RTCPGeneratedOnTranscode: a report of one side ends here, ours tell our numbers.
func TestB20RTCPGeneratedOnTranscode(t *testing.T) {
	r := newRig(t, Config{NumThreads: 1})
	a, b := newPeer(t, 0xaaaa), newPeer(t, 0xbbbb)
	rb := newPeer(t, 0)
	r.connect(toFarm("c", "a", a.body("RTP/AVP", "8", "rtcp-mux")), a, b,
		b.body("RTP/AVP", "0", fmt.Sprintf("rtcp:%d", rb.addr().Port())))
	for i := range 10 {
		if i == 5 {
			a.seq += 2 // two lost
		}
		a.send(a.packet(8, make([]byte, 160)))
	}
	var ssrc uint32
	for range 9 { // the pipe may hold the one behind a gap back
		ssrc = b.recv().SSRC
	}
	for {
		if _, ok := b.bytes(50 * time.Millisecond); !ok {
			break
		}
	}
	sr, err := (&rtcp.SenderReport{SSRC: 0xaaaa, NTPTime: 0x1122334455667788, RTPTime: a.ts}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	a.raw(sr)
	rb.silence()
	w := r.workers[0]
	w.loop.Do(func() { w.streams[0].report(r.clock.now()) })
	got := rb.recvRTCP()[0].(*rtcp.SenderReport)
	if got.SSRC != ssrc || got.PacketCount < 10 || got.OctetCount < 1600 {
		t.Errorf("to b: %v", got)
	}
	for {
		buf, ok := a.bytes(time.Second)
		if !ok {
			t.Fatal("no report to a")
		}
		if buf[1] < 192 {
			continue
		}
		pkts, err := rtcp.Unmarshal(buf)
		if err != nil {
			t.Fatal(err)
		}
		rep := pkts[0].(*rtcp.ReceiverReport).Reports[0]
		if rep.SSRC != 0xaaaa || rep.TotalLost != 2 || rep.LastSequenceNumber != uint32(a.seq) || rep.LastSenderReport != 0x33445566 {
			t.Errorf("to a: %+v", rep)
		}
		break
	}
	if lost := r.query("c").Tags[0].Medias[0].Streams[0].Stats.Lost; lost != 2 {
		t.Errorf("query says %d lost", lost)
	}
}
