package media

import (
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// TestB22ReplaceWords: the words of replace that are more than ours by nature. The version rises with each change, and only then, also
// where another user agent takes over with numbers of its own.
func TestB22ReplaceWords(t *testing.T) {
	r := newRig(t, Config{})
	a := newPeer(t, 1)
	offer := func(body string, words ...string) *sdp.Session {
		t.Helper()
		req := relayed("c", "a", body)
		req.Replace = words
		s, err := sdp.Parse(r.must(req))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	body := a.body("RTP/AVP", "0 8")
	first := offer(body, "username", "session-name", "sdp-version")
	if o := first.Origin(); o.Username != "-" || first.Name() != "-" || o.ID != "7" || o.Version != "1" {
		t.Errorf("%s", first.Bytes())
	}
	same := offer(strings.Replace(body, "o=peer 7 1 ", "o=other 99 1234 ", 1), "username", "sdp-version")
	if o := same.Origin(); o.ID != "7" || o.Version != "1" {
		t.Errorf("the same from another agent: %+v", o)
	}
	if o := offer(a.body("RTP/AVP", "8"), "username", "sdp-version").Origin(); o.ID != "7" || o.Version != "2" {
		t.Errorf("a change: %+v", o)
	}
	if o := offer(a.body("RTP/AVP", "8"), "username", "force-increment-sdp-ver").Origin(); o.Version != "3" {
		t.Errorf("forced: %+v", o)
	}
	hold := strings.Replace(body, "c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0", 1)
	if got := offer(hold, "origin").Media[0].Connection(); !got.IsUnspecified() {
		t.Errorf("hold became %v", got)
	}
	if got := offer(hold, "zero-address").Media[0].Connection(); got != loopback {
		t.Errorf("zero-address left %v", got)
	}
}

// TestB22OfferFlags: further flags, and the combinations that cannot be.
func TestB22OfferFlags(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	// single-codec of a relayed answer.
	r.must(relayed("single", "a", a.body("RTP/AVP", "0 8 101", eventLines...)))
	req := answered("single", "a", "b", b.body("RTP/AVP", "8 0 101", eventLines...))
	req.Flags = []string{"single-codec"}
	if s := a.take(r.must(req)); names(s.Media[0].Codecs()) != "PCMA, telephone-event" {
		t.Errorf("single-codec: %s", s.Bytes())
	}
	// A body that comes back is left alone; the next node's is not.
	req = relayed("loop", "a", a.body("RTP/AVP", "0"))
	req.Flags = []string{"loop-protect"}
	once := r.must(req)
	req.CallID, req.SDP = "loop2", once
	if twice := r.must(req); string(twice) != string(once) {
		t.Errorf("changed again:\n%s", twice)
	}
	if n := r.Stats().Calls; n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	// The address of the SIP message instead of that in the SDP.
	lying := strings.ReplaceAll(a.body("RTP/AVP", "0"), "127.0.0.1", "10.9.9.9")
	req = relayed("source", "a", lying)
	req.Flags, req.ReceivedFrom = []string{"sip-source-address"}, loopback
	b.take(r.must(req))
	r.must(answered("source", "a", "b", b.body("RTP/AVP", "0")))
	b.send(b.packet(0, make([]byte, 160)))
	a.recv()
	// A packet that means nothing opens the NAT.
	c, d := newPeer(t, 1), newPeer(t, 2)
	r.must(relayed("nat", "c", c.body("RTP/AVP", "0")))
	req = answered("nat", "c", "d", d.body("RTP/AVP", "0"))
	req.Flags = []string{"pierce-nat"}
	r.must(req)
	for _, p := range []*peer{c, d} {
		if got, ok := p.bytes(time.Second); !ok || len(got) != 20 || got[0] != 0 {
			t.Errorf("%d bytes, %v", len(got), ok)
		}
	}
	// DTLS.
	web := relayed("dtls", "a", a.body("RTP/AVP", "0"))
	web.Transport, web.DTLSFingerprint = "UDP/TLS/RTP/SAVPF", "sha-512"
	s, err := sdp.Parse(r.must(web))
	if err != nil {
		t.Fatal(err)
	}
	if f := s.Media[0].Fingerprints(); len(f) != 1 || f[0].Hash != "sha-512" || len(f[0].Sum) != 64 {
		t.Errorf("fingerprint %v", f)
	}
	for want, change := range map[string]func(*ng.Request){
		"exclude each other": func(q *ng.Request) { q.DTLS = "off" },
		"want sha-256":       func(q *ng.Request) { q.DTLSFingerprint = "sha-224" },
	} {
		bad := web
		change(&bad)
		if resp := r.do(bad); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, want) {
			t.Errorf("%+v, want %q", resp, want)
		}
	}
}
