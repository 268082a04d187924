package media

import (
	"testing"

	"rtcedge/media/sdp"
)

// TestB18FarmMoves: a re-INVITE from another internal address keeps the port, the SSRC and the keys that the client sees.
func TestB18FarmMoves(t *testing.T) {
	r := newRig(t, Config{Interfaces: []Interface{{Name: "pub", Addr: loopback}, {Name: "priv", Addr: mustAddr("127.0.0.2")}}})
	client, farm, next := newPeer(t, 1), newPeerAt(t, "127.0.0.2", 2), newPeerAt(t, "127.0.0.3", 77)
	offer := toFarm("c", "client", client.body("RTP/SAVP", "8 101", append(eventLines, client.key("AES_CM_128_HMAC_SHA1_80", 3))...))
	_, before := r.connect(offer, client, farm, farm.body("RTP/AVP", pcmu, eventLines...))
	farm.send(farm.packet(0, make([]byte, 160)))
	seen := client.recv()
	client.send(client.packet(8, make([]byte, 160)))
	farm.recv()

	// The crash: another node, other address, other SSRC, other numbers, offers in the old dialog.
	req := relayed("c", "b", next.body("RTP/AVP", pcmu, eventLines...))
	req.ToTag, req.Transport, req.Direction = "client", "RTP/SAVP", [2]string{"priv", "pub"}
	req.Codec.Transcode = []string{"PCMA"}
	out := r.must(req)
	after, err := sdp.Parse(out)
	if err != nil {
		t.Fatal(err)
	}
	if after.Media[0].Port() != before.Media[0].Port() {
		t.Errorf("public port %d became %d", before.Media[0].Port(), after.Media[0].Port())
	}
	was, is := before.Media[0].Crypto()[0], after.Media[0].Crypto()[0]
	if string(was.Keys[0].KeySalt) != string(is.Keys[0].KeySalt) || was.Suite != is.Suite {
		t.Errorf("key %v became %v", was, is)
	}
	line := client.key("AES_CM_128_HMAC_SHA1_80", 3) // the same key; pion's context goes on
	back := r.must(answered("c", "b", "client", client.body("RTP/SAVP", "8 101", append(eventLines, line)...)))
	next.take(back)
	// The client keeps its SRTP contexts: a restart of ours would break them.
	next.seq, next.ts = 9, 9
	for i := range 3 {
		next.send(next.packet(0, make([]byte, 160)))
		got := client.recv()
		if got.SSRC != seen.SSRC {
			t.Fatalf("SSRC %x became %x", seen.SSRC, got.SSRC)
		}
		if got.SequenceNumber != seen.SequenceNumber+1+uint16(i) {
			t.Fatalf("sequence %d behind %d", got.SequenceNumber, seen.SequenceNumber)
		}
	}
	client.seq += 100
	client.send(client.packet(8, make([]byte, 160)))
	next.recv()
	farm.silence()
}

// TestSourceChangeIsInvisible: hold music, a transfer: the farm's SSRC changes without any signalling.
func TestSourceChangeIsInvisible(t *testing.T) {
	for _, formats := range []string{"0", "8"} {
		r := newRig(t, Config{})
		client, farm := newPeer(t, 1), newPeer(t, 2)
		r.connect(toFarm("c", "a", client.body("RTP/AVP", formats)), client, farm, farm.body("RTP/AVP", "0"))
		farm.send(farm.packet(0, make([]byte, 160)))
		last := client.recv()
		for i := range 3 {
			farm.ssrc, farm.seq, farm.ts = uint32(100+i), uint16(i*20000), uint32(i*1e9)
			for range 2 {
				farm.send(farm.packet(0, make([]byte, 160)))
				got := client.recv()
				if got.SSRC != last.SSRC || got.SequenceNumber != last.SequenceNumber+1 {
					t.Fatalf("codec %s: %v behind %v", formats, got.Header, last.Header)
				}
				if d := got.Timestamp - last.Timestamp; d < 160 || d > 8000 {
					t.Fatalf("timestamp jumped by %d", int32(d))
				}
				last = got
			}
		}
		r.stop()
	}
}
