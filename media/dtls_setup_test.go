package media

import (
	"testing"

	"rtcedge/media/sdp"
)

// TestB18DTLSAssociationGoesOn: a re-INVITE with the same certificate and role keeps the association, and so the SRTP keys.
func TestB18DTLSAssociationGoesOn(t *testing.T) {
	pins := func(der string) dtlsPins {
		p, err := newDTLSPins([]sdp.Fingerprint{{Hash: "sha-256", Sum: dtlsDigest("sha-256", []byte(der))}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	link := newDTLSLink(dtlsLinkConfig{pins: pins("a"), active: true})
	if !link.same(pins("a"), true) || link.same(pins("b"), true) || link.same(pins("a"), false) {
		t.Fatal("same")
	}
}

func TestDTLSSetup(t *testing.T) {
	for _, tc := range []struct {
		offer  string
		prefer bool
		want   string
	}{
		{"actpass", false, "passive"}, {"actpass", true, "active"}, {"active", true, "passive"}, {"passive", false, "active"},
		{"", false, "passive"}, {"holdconn", false, ""},
	} {
		if got, err := answerSetup(tc.offer, tc.prefer); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("offer %q: %q, %v", tc.offer, got, err)
		}
	}
	for answer, active := range map[string]bool{"active": false, "passive": true, "": true, "actpass": false} {
		if got, err := answeredSetup(answer); err != nil || got != active {
			t.Errorf("answer %q: active %v, %v", answer, got, err)
		}
	}
	if _, err := answeredSetup("holdconn"); err == nil {
		t.Error("holdconn is taken")
	}
}

// TestB35Pins: the best hash counts alone, and an unknown one is no fingerprint.
func TestB35Pins(t *testing.T) {
	der, other := []byte("certificate"), []byte("another one")
	fp := func(hash string, der []byte) sdp.Fingerprint {
		return sdp.Fingerprint{Hash: hash, Sum: dtlsDigest(hash, der)}
	}
	pins, err := newDTLSPins([]sdp.Fingerprint{fp("sha-1", other), {Hash: "md5", Sum: make([]byte, 16)}, fp("sha-256", der), fp("sha-256", []byte("x"))})
	if err != nil || len(pins) != 2 || !pins.match(der) || pins.match(other) {
		t.Fatalf("%v, %v", pins, err)
	}
	if !pins.equal(pins) || pins.equal(pins[:1]) {
		t.Fatal("equal")
	}
	for _, bad := range [][]sdp.Fingerprint{nil, {{Hash: "md5", Sum: make([]byte, 16)}}, {{Hash: "sha-256", Sum: make([]byte, 20)}}} {
		if _, err := newDTLSPins(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}
