package media

import (
	"testing"

	"rtcedge/media/ng"
)

// TestB22ViaBranch: an INVITE is forked to a phone with SRTP and to one without; each gets its own profile and ports, and whoever answers is
// heard by its own keys. Branches that nobody answered end with the call, or by themselves.
func TestB22ViaBranch(t *testing.T) {
	r := newRig(t, Config{})
	a, plain, srtp := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	offer := func(branch, transport string) ng.Request {
		req := relayed("c", "a", a.body("RTP/AVP", "0"))
		req.ViaBranch, req.Transport = branch, transport
		return req
	}
	first, second := offer("z9hG4bK.1", "RTP/AVP"), offer("z9hG4bK.2", "RTP/SAVP")
	toPlain := plain.take(r.must(first))
	toSRTP := srtp.take(r.must(second))
	if p, s := toPlain.Media[0], toSRTP.Media[0]; p.Port() == s.Port() || p.Protocol() != "RTP/AVP" || s.Protocol() != "RTP/SAVP" {
		t.Fatalf("%s %d, %s %d", p.Protocol(), p.Port(), s.Protocol(), s.Port())
	}
	if again := plain.take(r.must(first)); again.Media[0].Port() != toPlain.Media[0].Port() {
		t.Error("a retransmission got other ports")
	}
	third := offer("z9hG4bK.3", "RTP/AVP")
	r.must(third)
	used := func() int { return r.Stats().Ports[0].Used }
	if n := used(); n != 6 {
		t.Errorf("%d port pairs of three branches", n)
	}
	// One that is refused is deleted by its branch.
	r.must(ng.Request{Command: ng.CmdDelete, CallID: "c", FromTag: "a", ViaBranch: "z9hG4bK.3"})
	r.barrier()
	if n := used(); n != 4 {
		t.Errorf("%d port pairs of two branches", n)
	}
	// Both answer; the newest offer was not the first one's.
	answer := answered("c", "a", "p", plain.body("RTP/AVP", "0"))
	answer.ViaBranch = "z9hG4bK.1"
	a.take(r.must(answer))
	a.send(a.packet(0, []byte("early")))
	if got := plain.recv(); string(got.Payload) != "early" {
		t.Errorf("%q", got.Payload)
	}
	answer = answered("c", "a", "s", srtp.body("RTP/SAVP", "0", srtp.key(suite80, 9)))
	answer.ViaBranch = "z9hG4bK.2"
	if s := a.take(r.must(answer)); s.Media[0].Protocol() != "RTP/AVP" {
		t.Errorf("%s", s.Bytes())
	}
	a.send(a.packet(0, []byte("there")))
	if got := srtp.recv(); string(got.Payload) != "there" {
		t.Errorf("%q", got.Payload)
	}
	srtp.send(srtp.packet(0, []byte("back")))
	if got := a.recv(); string(got.Payload) != "back" {
		t.Errorf("%q", got.Payload)
	}
	// Taken over, the branches are still what they were.
	record, err := r.Export("c")
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	next := newRig(t, Config{})
	if err := next.Restore(record); err != nil {
		t.Fatal(err)
	}
	if again := plain.take(next.must(first)); again.Media[0].Port() != toPlain.Media[0].Port() {
		t.Error("a branch got other ports at the next node")
	}
	// The end of one dialog leaves the other; the end of the caller's leaves nothing.
	next.must(ng.Request{Command: ng.CmdDelete, CallID: "c", FromTag: "a", ToTag: "p"})
	next.barrier()
	if n := next.Stats().Ports[0].Used; n != 2 {
		t.Errorf("%d port pairs of one dialog", n)
	}
	next.must(offer("z9hG4bK.4", "RTP/AVP"))
	next.must(ng.Request{Command: ng.CmdDelete, CallID: "c", FromTag: "a"})
	next.barrier()
	if st := next.Stats(); st.Calls != 0 || st.Ports[0].Used != 0 {
		t.Errorf("%d calls, %d port pairs", st.Calls, st.Ports[0].Used)
	}
}

// TestB22BranchNobodyAnswered ends with the dialog that was answered, and there are no more branches than dialogs.
func TestB22BranchNobodyAnswered(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	for i := range 2 * maxDialogs {
		req := relayed("c", "a", a.body("RTP/AVP", "0"))
		req.ViaBranch = string(rune('A' + i))
		b.take(r.must(req))
	}
	if n := r.Stats().Ports[0].Used; n != 2*maxDialogs {
		t.Errorf("%d port pairs", n)
	}
	answer := answered("c", "a", "b", b.body("RTP/AVP", "0"))
	answer.ViaBranch = "B"
	a.take(r.must(answer))
	r.must(ng.Request{Command: ng.CmdDelete, CallID: "c", FromTag: "b", ToTag: "a"})
	r.barrier()
	if st := r.Stats(); st.Calls != 0 || st.Ports[0].Used != 0 {
		t.Errorf("%d calls, %d port pairs", st.Calls, st.Ports[0].Used)
	}
}
