package media

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// joinable is a call of a phone with a farm, which both have spoken in.
type joinable struct {
	id          string
	phone, farm *peer
	port        int    // that the phone sends to
	ssrc        uint32 // that the phone hears
	seq         uint16 // last that the phone heard
	voice       uint8
}

func newJoinable(r *rig, id, proto, formats string, voice uint8, lines ...string) *joinable {
	r.t.Helper()
	return newJoinableAt(r, 1000, id, proto, formats, voice, lines...)
}

// newJoinableAt is one whose parties begin to count there.
func newJoinableAt(r *rig, seq uint16, id, proto, formats string, voice uint8, lines ...string) *joinable {
	r.t.Helper()
	j := &joinable{id: id, phone: newPeer(r.t, 1), farm: newPeer(r.t, 2), voice: voice}
	j.phone.seq, j.farm.seq = seq, seq
	all := append([]string{"rtpmap:101 telephone-event/8000"}, lines...)
	if proto == "RTP/SAVP" {
		all = append(all, j.phone.key("AES_CM_128_HMAC_SHA1_80", byte(len(id))))
	}
	_, toA := r.connect(toFarm(id, "phone", j.phone.body(proto, formats, all...)), j.phone, j.farm,
		j.farm.body("RTP/AVP", pcmu, eventLines...))
	j.port = toA.Media[0].Port()
	j.phone.send(j.phone.packet(voice, make([]byte, 160)))
	j.farm.recv()
	j.farm.send(j.farm.packet(0, frameOf(0)))
	got := j.phone.recv()
	j.ssrc, j.seq = got.SSRC, got.SequenceNumber
	return j
}

// frameOf is a frame that survives mu-law and A-law.
func frameOf(n byte) []byte { return bytes.Repeat([]byte{0x10 + n, 0x90 + n}, 80) }

// heard takes what the phone hears next: one stream, without a gap.
func (j *joinable) heard(t *testing.T) []byte {
	t.Helper()
	got := j.phone.recv()
	if got.SSRC != j.ssrc || got.SequenceNumber != j.seq+1 || got.PayloadType != j.voice {
		t.Fatalf("%s: heard %v, want SSRC %x and sequence %d of type %d", j.id, got.Header, j.ssrc, j.seq+1, j.voice)
	}
	j.seq = got.SequenceNumber
	return got.Payload
}

// back is a re-INVITE from another farm node, with the phone's answer. The phone's address and keys stay.
func (j *joinable) back(r *rig, farm *peer, proto, formats string, lines ...string) {
	r.t.Helper()
	req := relayed(j.id, "b", farm.body("RTP/AVP", pcmu, eventLines...))
	req.ToTag, req.Transport = "phone", proto
	req.Codec.Transcode = []string{"G722", "PCMA", "PCMU"}
	out, err := sdp.Parse(r.must(req))
	if err != nil {
		r.t.Fatal(err)
	}
	if out.Media[0].Port() != j.port {
		r.t.Errorf("the phone's port %d became %d", j.port, out.Media[0].Port())
	}
	seal := j.phone.seal // with its rollover counter
	all := append([]string{"rtpmap:101 telephone-event/8000"}, lines...)
	if proto == "RTP/SAVP" {
		all = append(all, j.phone.key("AES_CM_128_HMAC_SHA1_80", byte(len(j.id))))
	}
	farm.take(r.must(answered(j.id, "b", "phone", j.phone.body(proto, formats, all...))))
	j.phone.seal = seal
}

// TestB18Join: two calls lose their farm; the phones hear each other through ports, SSRCs, numbering and SRTP contexts that they
// know, in the codecs that they have, until the farm is back and speaks. On one worker and on two, and with a farm node that comes
// back on its own.
func TestB18Join(t *testing.T) {
	for _, tt := range []struct {
		threads     int
		proto       [2]string
		voice       [2]uint8
		wantBetween string
	}{
		{1, [2]string{"RTP/AVP", "RTP/AVP"}, [2]uint8{0, 0}, "relay"},
		{2, [2]string{"RTP/AVP", "RTP/AVP"}, [2]uint8{0, 0}, "relay"},
		{1, [2]string{"RTP/SAVP", "RTP/AVP"}, [2]uint8{8, 0}, "convert"},
		{2, [2]string{"RTP/SAVP", "RTP/SAVP"}, [2]uint8{8, 9}, "convert"},
	} {
		t.Run(fmt.Sprintf("%d-%s-%d-%d", tt.threads, tt.proto[0], tt.voice[0], tt.voice[1]), func(t *testing.T) {
			r := newRig(t, Config{NumThreads: tt.threads})
			formats := [2]string{fmt.Sprintf("%d 101", tt.voice[0]), fmt.Sprintf("%d 101", tt.voice[1])}
			a := newJoinable(r, "call-a", tt.proto[0], formats[0], tt.voice[0])
			b := newJoinable(r, "call-bb", tt.proto[1], formats[1], tt.voice[1])
			r.must(ng.Request{Command: ng.CmdJoin, CallID: "call-a", FromTag: "phone", OtherCallID: "call-bb", OtherTag: "phone"})
			r.barrier()
			if got := r.query("call-bb").Joined; got != "call-a" {
				t.Errorf("query says joined with %q", got)
			}
			for i := range 5 {
				a.phone.send(a.phone.packet(tt.voice[0], frameOf(byte(i))))
				got := b.heard(t)
				if tt.voice == [2]uint8{0, 0} && !bytes.Equal(got, frameOf(byte(i))) {
					t.Fatalf("b hears %x", got[:4])
				}
				b.phone.send(b.phone.packet(tt.voice[1], frameOf(byte(i))))
				a.heard(t)
			}
			a.phone.send(a.phone.packet(101, []byte{5, 10, 0, 160}))
			if got := b.phone.recv(); got.PayloadType != 101 || got.SequenceNumber != b.seq+1 {
				t.Fatalf("event %v", got.Header)
			}
			b.seq++
			// The old node was only asleep: too late.
			a.farm.send(a.farm.packet(0, frameOf(9)))
			a.phone.silence()
			a.farm.silence()
			b.farm.silence()

			// A new node re-INVITES a; until it speaks, the two still hear each other, and it hears a: it may have nothing to say but what it is told.
			next := newPeerAt(t, "127.0.0.3", 77)
			a.back(r, next, tt.proto[0], formats[0])
			a.phone.send(a.phone.packet(tt.voice[0], frameOf(4)))
			if got := next.recv(); tt.voice[0] == 0 && !bytes.Equal(got.Payload, frameOf(4)) {
				t.Fatalf("the new node hears %x", got.Payload[:4])
			}
			b.heard(t)
			b.phone.send(b.phone.packet(tt.voice[1], frameOf(1)))
			a.heard(t)
			a.farm.send(a.farm.packet(0, frameOf(9)))
			a.phone.silence()
			next.send(next.packet(0, frameOf(3)))
			a.heard(t)
			b.phone.send(b.phone.packet(tt.voice[1], frameOf(1)))
			a.phone.silence()
			b.farm.recv() // its absent party may be there again, who knows
			a.phone.send(a.phone.packet(tt.voice[0], frameOf(2)))
			next.recv()
			b.phone.silence()
			if got := r.query("call-a").Joined; got != "" {
				t.Errorf("still joined with %q", got)
			}
			if n := r.Stats().Drops["joined"]; n != 2 {
				t.Errorf("%d packets of the old farm dropped, want 2", n)
			}
		})
	}
}

// TestB18JoinRollsOver: sequence numbers go over their end in both directions while two phones are joined, and SRTP's rollover counters with them: each
// phone's own SRTP takes what comes, also from the new node afterwards.
func TestB18JoinRollsOver(t *testing.T) {
	r := newRig(t, Config{})
	a := newJoinableAt(r, 65531, "call-a", "RTP/SAVP", "0 101", 0)
	b := newJoinableAt(r, 65531, "call-bb", "RTP/SAVP", "0 101", 0)
	for a.seq < 65530 { // what we number begins in the lower half (RFC 3711 section 3.3.1)
		a.farm.send(a.farm.packet(0, frameOf(0)))
		a.heard(t)
	}
	r.must(ng.Request{Command: ng.CmdJoin, CallID: "call-a", FromTag: "phone", OtherCallID: "call-bb", OtherTag: "phone"})
	r.barrier()
	for i := range 10 {
		a.phone.send(a.phone.packet(0, frameOf(byte(i))))
		if got := b.heard(t); !bytes.Equal(got, frameOf(byte(i))) {
			t.Fatalf("b hears %x", got[:4])
		}
		b.phone.send(b.phone.packet(0, frameOf(byte(i))))
		a.heard(t)
	}
	if a.seq > 100 || a.phone.seq > 100 || b.phone.seq > 100 {
		t.Fatalf("nobody rolled over: heard %d, sent %d and %d", a.seq, a.phone.seq, b.phone.seq)
	}
	next := newPeerAt(t, "127.0.0.3", 77)
	a.back(r, next, "RTP/SAVP", "0 101")
	next.send(next.packet(0, frameOf(3)))
	if got := a.heard(t); !bytes.Equal(got, frameOf(3)) {
		t.Fatalf("a hears %x of the new node", got[:4])
	}
	a.phone.send(a.phone.packet(0, frameOf(4)))
	if got := next.recv(); !bytes.Equal(got.Payload, frameOf(4)) {
		t.Fatalf("the new node hears %x", got.Payload[:4])
	}
}

// TestB18Unjoin ends it by command; a join again, and the end of the other call, work too.
func TestB18Unjoin(t *testing.T) {
	r := newRig(t, Config{NumThreads: 2})
	a := newJoinable(r, "call-a", "RTP/AVP", "0 101", 0)
	b := newJoinable(r, "call-bb", "RTP/AVP", "8 101", 8)
	join := ng.Request{Command: ng.CmdJoin, CallID: "call-a", FromTag: "phone", OtherCallID: "call-bb", OtherTag: "phone"}
	for _, id := range []string{"call-a", "call-bb"} {
		r.must(join)
		r.barrier()
		a.phone.send(a.phone.packet(0, frameOf(1)))
		b.heard(t)
		r.must(ng.Request{Command: ng.CmdUnjoin, CallID: id})
		a.phone.send(a.phone.packet(0, frameOf(1)))
		a.farm.recv()
		b.farm.send(b.farm.packet(0, frameOf(1)))
		b.heard(t)
	}
	if resp := r.do(ng.Request{Command: ng.CmdUnjoin, CallID: "call-a"}); resp.Result != ng.ResultOK || resp.Warning == "" {
		t.Errorf("a second unjoin: %+v", resp)
	}
	r.must(join)
	r.barrier()
	r.must(ng.Request{Command: "delete", CallID: "call-bb"})
	a.phone.send(a.phone.packet(0, frameOf(1)))
	a.farm.recv()
}

// TestB18JoinRelayedCodecs: calls that are relayed as they are, in different codecs, get a conversion of their own.
func TestB18JoinRelayedCodecs(t *testing.T) {
	r := newRig(t, Config{NumThreads: 1})
	var calls [2]*joinable
	for i, format := range []string{"0", "8"} {
		j := &joinable{id: "call-" + format, phone: newPeer(t, 1), farm: newPeer(t, 2), voice: format[0] - '0'}
		lines := []string{"rtpmap:101 telephone-event/8000"}
		if i == 1 {
			lines[0] = "rtpmap:96 telephone-event/8000"
		}
		formats := format + " " + []string{"101", "96"}[i]
		r.connect(relayed(j.id, "phone", j.phone.body("RTP/AVP", formats, lines...)), j.phone, j.farm, j.farm.body("RTP/AVP", formats, lines...))
		j.farm.send(j.farm.packet(j.voice, frameOf(0)))
		got := j.phone.recv()
		j.ssrc, j.seq = got.SSRC, got.SequenceNumber
		calls[i] = j
	}
	r.must(ng.Request{Command: ng.CmdJoin, CallID: "call-0", FromTag: "phone", OtherCallID: "call-8", OtherTag: "phone"})
	r.barrier()
	for i := range 4 {
		calls[0].phone.send(calls[0].phone.packet(0, frameOf(byte(i))))
		calls[1].heard(t)
		calls[1].phone.send(calls[1].phone.packet(8, frameOf(byte(i))))
		calls[0].heard(t)
	}
	calls[0].phone.send(calls[0].phone.packet(101, []byte{5, 10, 0, 160}))
	if got := calls[1].phone.recv(); got.PayloadType != 96 {
		t.Errorf("the event came as type %d", got.PayloadType)
	}
}

// TestB18JoinWhoStays: without tags it is the party that was heard last; what cannot be joined says why.
func TestB18JoinWhoStays(t *testing.T) {
	r := newRig(t, Config{})
	a := newJoinable(r, "call-a", "RTP/AVP", "0 101", 0)
	b := newJoinable(r, "call-bb", "RTP/AVP", "0 101", 0)
	for _, j := range []*joinable{a, b} {
		j.phone.send(j.phone.packet(0, frameOf(0)))
		j.farm.recv()
	}
	r.must(ng.Request{Command: ng.CmdJoin, CallID: "call-a", OtherCallID: "call-bb"})
	r.barrier()
	a.phone.send(a.phone.packet(0, frameOf(1)))
	b.heard(t)

	p := newPeer(t, 9)
	r.must(toFarm("unanswered", "x", p.body("RTP/AVP", "0")))
	g := newPeer(t, 9)
	r.connect(relayed("g729", "x", p.body("RTP/AVP", "18")), p, g, g.body("RTP/AVP", "18"))
	for other, want := range map[string]string{
		"nobody": "unknown call-id", "unanswered": "no party was heard", "g729": "no party was heard", "call-a": "the same", "": "needed",
	} {
		resp := r.do(ng.Request{Command: ng.CmdJoin, CallID: "call-a", FromTag: "phone", OtherCallID: other})
		if resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, want) {
			t.Errorf("with %q: %+v, want %q", other, resp, want)
		}
	}
	resp := r.do(ng.Request{Command: ng.CmdJoin, CallID: "call-a", FromTag: "phone", OtherCallID: "g729", OtherTag: "x"})
	if resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "no common codec") {
		t.Errorf("with G.729: %+v", resp)
	}
}

// TestB24JoinIsRecorded: the recording of a call goes on with who is heard in place of the absent party.
func TestB24JoinIsRecorded(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, Config{RecordingDir: dir, NumThreads: 2})
	a := newJoinable(r, "call-a", "RTP/AVP", "0 101", 0)
	b := newJoinable(r, "call-bb", "RTP/AVP", "8 101", 8)
	r.must(ng.Request{Command: "start recording", CallID: "call-bb"})
	r.must(ng.Request{Command: ng.CmdJoin, CallID: "call-a", FromTag: "phone", OtherCallID: "call-bb", OtherTag: "phone"})
	r.barrier()
	for i := range 10 {
		a.phone.send(a.phone.packet(0, frameOf(byte(i))))
		b.heard(t)
	}
	r.must(ng.Request{Command: "stop recording", CallID: "call-bb"})
	r.must(ng.Request{Command: "delete", CallID: "call-bb"})
	end := <-r.ended
	r.stop()
	if len(end.Recordings) != 1 {
		t.Fatalf("recordings %v", end.Recordings)
	}
	loudest := slices.Max(readWav(t, dir+"/"+end.Recordings[0]+"-callee.wav"))
	if loudest < 1000 {
		t.Errorf("loudest sample of the callee's side is %v", loudest)
	}
}

// TestB50JoinIsNotLate: a join that names the answers that it was meant for is refused once a call has had another one, whenever it comes: it would take the
// new farm node for the one that has gone, and keep it out. Heard tells the number of the answer, and when the farm was heard first after it.
func TestB50JoinIsNotLate(t *testing.T) {
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprint(threads), func(t *testing.T) {
			r := newRig(t, Config{NumThreads: threads})
			a := newJoinable(r, "call-a", "RTP/AVP", "0 101", 0)
			b := newJoinable(r, "call-bb", "RTP/AVP", "0 101", 0)
			heard := func(id string) ng.Heard {
				t.Helper()
				resp := r.do(ng.Request{Command: ng.CmdHeard, CallID: id, FromTag: "phone"})
				if resp.Result != ng.ResultOK || resp.Heard == nil {
					t.Fatalf("%+v", resp)
				}
				return *resp.Heard
			}
			r.clock.advance(time.Minute)
			wasA, wasB := heard("call-a"), heard("call-bb")
			if wasA.Since < time.Minute || wasB.Since < time.Minute || wasA.Age < wasA.Since {
				t.Errorf("the farm has spoken: %+v, %+v", wasA, wasB)
			}
			join := ng.Request{Command: ng.CmdJoin, CallID: "call-a", FromTag: "phone", Answered: wasA.Answered,
				OtherCallID: "call-bb", OtherTag: "phone", OtherAnswered: wasB.Answered}
			late := func() {
				t.Helper()
				if resp := r.do(join); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, "another answer") {
					t.Errorf("a late join: %+v", resp)
				}
			}

			next := newPeerAt(t, "127.0.0.3", 77)
			b.back(r, next, "RTP/AVP", "0 101")
			if now := heard("call-bb"); now.Answered == wasB.Answered || now.Since >= 0 || now.Age >= time.Minute {
				t.Errorf("after a new answer: %+v, before %+v", now, wasB)
			}
			late()
			next.send(next.packet(0, frameOf(3)))
			b.heard(t)
			if now := heard("call-bb"); now.Since < 0 {
				t.Errorf("the new node has spoken: %+v", now)
			}
			late()
			b.phone.send(b.phone.packet(0, frameOf(1)))
			next.recv()
			if got := r.query("call-a").Joined; got != "" {
				t.Errorf("joined with %q", got)
			}

			join.OtherAnswered = heard("call-bb").Answered
			r.must(join)
			r.barrier()
			a.phone.send(a.phone.packet(0, frameOf(1)))
			b.heard(t)
			for _, id := range []string{"", "nobody"} {
				if resp := r.do(ng.Request{Command: ng.CmdHeard, CallID: id}); resp.Result != ng.ResultError {
					t.Errorf("heard of call %q: %+v", id, resp)
				}
			}
		})
	}
}
