package media

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"

	"rtcedge/media/ng"
)

// TestB23TakeOver: a call with SRTP outside, converted or relayed, goes on at another engine: same ports, SSRC and keys, rollover
// counters kept, the farm re-invited as before.
func TestB23TakeOver(t *testing.T) {
	for _, codec := range []string{"0", "8", "9"} {
		t.Run(codec, func(t *testing.T) {
			cfg := Config{Interfaces: []Interface{{Name: "pub", Addr: loopback}, {Name: "priv", Addr: mustAddr("127.0.0.2")}}}
			first := newRig(t, cfg)
			client, farm := newPeer(t, 1), newPeerAt(t, "127.0.0.2", 2)
			events := "rtpmap:101 telephone-event/8000"
			offer := toFarm("c", "client", client.body("RTP/SAVP", codec+" 101", events, client.key("AES_CM_128_HMAC_SHA1_80", 3)))
			_, toClient := first.connect(offer, client, farm, farm.body("RTP/AVP", "0 101", events))
			pt := codec[0] - '0'
			say := func(n int) (last *rtp.Packet) {
				t.Helper()
				for range n {
					client.send(client.packet(pt, make([]byte, 160)))
					farm.recv()
					farm.send(farm.packet(0, make([]byte, 160)))
					last = client.recv()
				}
				return last
			}
			// The counters roll over once: of a converted stream only that of the client, as ours has numbers of its own.
			if client.seq = 65530; codec == "0" {
				client.seq, farm.seq = 32000, 32000
				say(2)
				for range 4 {
					client.seq, farm.seq = client.seq+12000, farm.seq+12000
					say(1)
				}
			}
			say(10)
			first.must(ng.Request{Command: "block dtmf", CallID: "c", FromTag: "client"})
			say(2)
			record, err := first.Export("c")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("record of %d bytes", len(record))
			first.clock.advance(time.Second)
			last := say(20) // the record is older than the last packets
			first.stop()

			second := newRig(t, cfg)
			second.clock.advance(2 * time.Second)
			if err := second.Restore(record); err != nil {
				t.Fatal(err)
			}
			if err := second.Restore(record); err == nil || !strings.Contains(err.Error(), "already") {
				t.Errorf("twice: %v", err)
			}
			second.barrier()
			next := say(1)
			if next.SSRC != last.SSRC {
				t.Errorf("SSRC %x became %x", last.SSRC, next.SSRC)
			}
			if d := next.SequenceNumber - last.SequenceNumber; d == 0 || d > 1000 {
				t.Errorf("numbers jump by %d", d)
			}
			if d := next.Timestamp - last.Timestamp; d == 0 || d > 8000*30 {
				t.Errorf("timestamps jump by %d", d)
			}
			client.send(client.packet(101, []byte{1, 10, 0, 160}))
			farm.silence()
			say(10)
			stranger := newPeerAt(t, "127.0.0.9", 9)
			stranger.to = farm.to
			stranger.send(stranger.packet(0, make([]byte, 160)))
			client.silence()
			if n := second.query("c").Tags[0].Medias[0].Streams[0].Stats.Packets; n < 15 {
				t.Errorf("%d packets", n)
			}

			// A re-INVITE keeps what the client sees, as on the first node.
			again := toFarm("c", "client", string(offer.SDP))
			_, after := second.connect(again, client, farm, farm.body("RTP/AVP", "0 101", events))
			was, is := toClient.Media[0], after.Media[0]
			if was.Port() != is.Port() || string(was.Crypto()[0].Keys[0].KeySalt) != string(is.Crypto()[0].Keys[0].KeySalt) {
				t.Errorf("port %d became %d, or the key", was.Port(), is.Port())
			}
		})
	}
}

// TestB23TakeOverBeforeTheAnswer: the record of an offer is enough to answer it elsewhere.
func TestB23TakeOverBeforeTheAnswer(t *testing.T) {
	first := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	b.take(first.must(toFarm("c", "a", a.body("RTP/AVPF", "8 0", "rtcp-mux"))))
	record, err := first.Export("c")
	if err != nil {
		t.Fatal(err)
	}
	first.stop()
	second := newRig(t, Config{})
	if err := second.Restore(record); err != nil {
		t.Fatal(err)
	}
	s := a.take(second.must(answered("c", "a", "b", b.body("RTP/AVP", "0"))))
	if m := s.Media[0]; m.Protocol() != "RTP/AVPF" || !m.RTCPMux() {
		t.Errorf("%s", s.Bytes())
	}
	a.send(a.packet(8, make([]byte, 160)))
	b.recv()
}

// TestB23RecordRefused: what cannot be taken over is said, and no port leaks.
func TestB23RecordRefused(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	r.connect(toFarm("c", "a", a.body("RTP/SAVP", "0", a.key("AES_CM_128_HMAC_SHA1_80", 3))), a, b, b.body("RTP/AVP", "0"))
	record, err := r.Export("c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Export("d"); err == nil {
		t.Error("an unknown call was exported")
	}
	other := strings.Replace(string(record), `"call":"c"`, `"call":"d"`, 1)
	for _, tt := range []struct{ name, record, want string }{
		{"no json", "{", "session record"},
		{"version", strings.Replace(other, `"v":2`, `"v":1`, 1), "version 1"},
		{"empty", `{"v":2,"call":"x"}`, "0 dialogs"},
		{"ports taken", other, "in use"},
		{"interface", strings.ReplaceAll(other, `"if":"default"`, `"if":"other"`), "not here"},
	} {
		used := r.Stats().Ports[0].Used
		if err := r.Restore([]byte(tt.record)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		r.barrier()
		if st := r.Stats(); st.Ports[0].Used != used || st.Calls != 1 {
			t.Errorf("%s: %d pairs and %d calls", tt.name, st.Ports[0].Used, st.Calls)
		}
	}
	r.must(ng.Request{Command: "delete", CallID: "c"})
	r.barrier()
	r.clock.advance(6 * time.Minute)
	if err := r.Restore(record); err == nil || !strings.Contains(err.Error(), "good for 5m") {
		t.Errorf("old record: %v", err)
	}
}

// TestB23EveryChangeIsTold to who stores the records.
func TestB23EveryChangeIsTold(t *testing.T) {
	told := make(chan string, 10)
	r := newRig(t, Config{DeleteDelay: time.Minute, Changed: func(id string) { told <- id }})
	a := newPeer(t, 1)
	r.must(relayed("c", "a", a.body("RTP/AVP", "0")))
	r.must(answered("c", "a", "b", a.body("RTP/AVP", "0")))
	r.must(ng.Request{Command: "block media", CallID: "c"})
	r.must(ng.Request{Command: "delete", CallID: "c"})
	r.do(ng.Request{Command: "query", CallID: "c"})
	r.stop()
	close(told)
	if got := slices.Collect(func(yield func(string) bool) {
		for id := range told {
			yield(id)
		}
	}); fmt.Sprint(got) != "[c c c c]" {
		t.Errorf("told of %v", got)
	}
}

// FuzzRestore: no record breaks the engine or keeps a port.
func FuzzRestore(f *testing.F) {
	r := newRig(f, Config{PortMin: 64700, PortMax: 64799})
	a, b := newPeer(f, 1), newPeer(f, 2)
	r.connect(toFarm("c", "a", a.body("RTP/SAVP", "8", a.key("AES_CM_128_HMAC_SHA1_80", 3))), a, b, b.body("RTP/AVP", "0"))
	record, err := r.Export("c")
	if err != nil {
		f.Fatal(err)
	}
	r.must(ng.Request{Command: "delete", CallID: "c"})
	f.Add(record)
	f.Add([]byte(`{"v":2,"call":"c","dialogs":[{"streams":[null]}]}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		if rec, err := readRecord(record); err == nil && r.Restore(record) == nil {
			r.do(answered(rec.CallID, "a", "b", b.body("RTP/AVP", "0")))
			r.do(ng.Request{Command: "query", CallID: rec.CallID})
			r.do(ng.Request{Command: "delete", CallID: rec.CallID})
		}
		r.barrier()
		if st := r.Stats(); st.Ports[0].Used != 0 || st.Calls != 0 {
			t.Fatalf("%+v", st)
		}
	})
}

// TestB23RecordsAreKept: who stores records gets one after a change and after the handshake, none that a delete has made useless,
// and the last ones at the end of the node; each of them is enough for another node.
func TestB23RecordsAreKept(t *testing.T) {
	type told struct {
		id     string
		record []byte
	}
	all := make(chan told, 1000)
	r := newRig(t, Config{DeleteDelay: time.Minute, OnRecord: func(id string, record []byte) { all <- told{id, record} }})
	next := func() told {
		t.Helper()
		select {
		case got := <-all:
			return got
		case <-time.After(5 * time.Second):
			t.Fatal("no record came")
		}
		return told{}
	}
	web, farm := newRTCPeer(t, 1), newPeer(t, 2)
	r.fromBrowser("c", web, farm)
	if got := next(); got.id != "c" || strings.Contains(string(got.record), `"suite"`) {
		t.Errorf("%s: %s", got.id, got.record)
	}
	web.check(true)
	web.secure(true)
	web.talk(web.pt, web.frame, farm)
	last := next()
	for !strings.Contains(string(last.record), `"suite"`) || !strings.Contains(string(last.record), web.addr().String()) {
		last = next()
	}
	gone := newPeer(t, 1)
	r.must(relayed("gone", "a", gone.body("RTP/AVP", "0")))
	for got := next(); got.id != "gone"; got = next() {
	}
	r.must(ng.Request{Command: "delete", CallID: "gone"})
	for got := next(); got.id != "gone" || got.record != nil; got = next() {
	}
	r.stop()
	close(all)
	for got := range all {
		if got.id != "c" || got.record == nil {
			t.Errorf("at the end: %s, %d bytes", got.id, len(got.record))
		}
		last = got
	}
	second := newRig(t, Config{Certificate: &r.dtls.cert})
	if err := second.Restore(last.record); err != nil {
		t.Fatal(err)
	}
	second.barrier()
	web.hears(0, make([]byte, 160), farm)
}
