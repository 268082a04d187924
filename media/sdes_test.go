package media

import (
	"bytes"
	"strings"
	"testing"

	"rtcedge/media/sdp"
)

func sdesLine(t testing.TB, value string) sdp.Crypto {
	t.Helper()
	c, err := sdp.ParseCrypto(value)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	sdesPhone80  = "1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:4"
	sdesPhone32  = "2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj|2^20"
	sdesPhoneNew = "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20"
)

// sdesCross sends a packet from one context to another.
func sdesCross(t *testing.T, from, to *srtpContext, seq uint16) srtpFault {
	t.Helper()
	p := srtpTestRTP(seq, 7, 0, -1, []byte("words"))
	got, fault := srtpTestOpen(to, srtpTestSeal(t, from, p))
	if fault == faultNone && !bytes.Equal(got, p) {
		t.Fatal("opened to something else")
	}
	return fault
}

// TestB21SDESOfferAndAnswer: two of us agree on each suite, and packets pass both ways.
func TestB21SDESOfferAndAnswer(t *testing.T) {
	for _, suite := range srtpSuites {
		var a, b sdesParty
		lines := a.offer(newSDESPolicy([]string{"only-" + strings.ToLower(suite.String())}))
		if len(lines) != 1 || lines[0].Suite != suite.String() {
			t.Fatalf("offer %v", lines)
		}
		if err := b.offered([]sdp.Crypto{sdesLine(t, lines[0].String())}, newSDESPolicy(nil)); err != nil {
			t.Fatal(err)
		}
		if err := a.answered([]sdp.Crypto{sdesLine(t, b.answer().String())}); err != nil {
			t.Fatal(err)
		}
		arx, atx, err := a.contexts()
		if err != nil {
			t.Fatal(err)
		}
		brx, btx, err := b.contexts()
		if err != nil {
			t.Fatal(err)
		}
		if f := sdesCross(t, atx, brx, 1); f != faultNone {
			t.Errorf("%v: fault %d", suite, f)
		}
		if f := sdesCross(t, btx, arx, 1); f != faultNone {
			t.Errorf("%v: fault %d back", suite, f)
		}
		if f := sdesCross(t, atx, arx, 2); f != faultAuth {
			t.Errorf("%v: both directions have one key", suite)
		}
	}
}

// TestB21SDESOrder: what old phones know first, then rtpengine's words.
func TestB21SDESOrder(t *testing.T) {
	for _, tc := range []struct {
		words []string
		want  string
	}{
		{nil, "AES_CM_128_HMAC_SHA1_80 AEAD_AES_128_GCM AEAD_AES_256_GCM AES_256_CM_HMAC_SHA1_80 AES_256_CM_HMAC_SHA1_32 AES_CM_128_HMAC_SHA1_32"},
		{[]string{"no-AEAD_AES_128_GCM", "no-aead_aes_256_gcm", "pad"}, "AES_CM_128_HMAC_SHA1_80 AES_256_CM_HMAC_SHA1_80 AES_256_CM_HMAC_SHA1_32 AES_CM_128_HMAC_SHA1_32"},
		{[]string{"only-AES_CM_128_HMAC_SHA1_32", "only-AEAD_AES_256_GCM"}, "AEAD_AES_256_GCM AES_CM_128_HMAC_SHA1_32"},
		{[]string{"order:AEAD_AES_256_GCM;AES_CM_128_HMAC_SHA1_32;F8_128_HMAC_SHA1_80", "no-AES_256_CM_HMAC_SHA1_32"}, "AEAD_AES_256_GCM AES_CM_128_HMAC_SHA1_32 AES_CM_128_HMAC_SHA1_80 AEAD_AES_128_GCM AES_256_CM_HMAC_SHA1_80"},
		{[]string{"off"}, ""},
	} {
		var p sdesParty
		var got []string
		for i, l := range p.offer(newSDESPolicy(tc.words)) {
			got = append(got, l.Suite)
			if l.Tag != i+1 {
				t.Errorf("%v: line %d has tag %d", tc.words, i, l.Tag)
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%v: %s, want %s", tc.words, s, tc.want)
		}
	}
}

func TestB21SDESChoice(t *testing.T) {
	all := newSDESPolicy(nil)
	for _, tc := range []struct {
		name   string
		lines  []string
		policy sdesPolicy
		tag    int
		suite  srtpSuite
		err    string
	}{
		{"the offerer's order counts", []string{sdesPhone32, sdesPhone80}, all, 2, srtpCM128Tag32, ""},
		{"policy", []string{sdesPhone32, sdesPhone80}, newSDESPolicy([]string{"no-AES_CM_128_HMAC_SHA1_32"}), 1, srtpCM128Tag80, ""},
		{"unknown suites are passed over", []string{"1 F8_128_HMAC_SHA1_80 inline:AAAA", sdesPhone32}, all, 2, srtpCM128Tag32, ""},
		{"so are parameters that ask for what we lack", []string{sdesPhone80 + " UNENCRYPTED_SRTCP", sdesPhone32 + " WSH=128 KDR=0 -NEW=1"}, all, 2, srtpCM128Tag32, ""},
		{"a key of the wrong length", []string{"1 AEAD_AES_128_GCM inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"}, all, 0, 0, "key and salt of 30 bytes, AEAD_AES_128_GCM has 28"},
		{"two master keys", []string{"1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj||1:1;inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj||2:1"}, all, 0, 0, ""},
		{"an MKI that is too long", []string{"1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:128"}, all, 0, 0, "MKI of 128 bytes, at most 32"},
		{"a key derivation rate", []string{sdesPhone80 + " KDR=1"}, all, 0, 0, `session parameter "KDR=1" not supported`},
		{"nothing allowed", []string{sdesPhone80}, newSDESPolicy([]string{"off"}), 0, 0, "AES_CM_128_HMAC_SHA1_80 is not allowed"},
		{"no lines", nil, all, 0, 0, "no crypto line that can be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var lines []sdp.Crypto
			for _, l := range tc.lines {
				if c, err := sdp.ParseCrypto(l); err == nil {
					lines = append(lines, c)
				}
			}
			var p sdesParty
			err := p.offered(lines, tc.policy)
			if tc.suite == srtpPlain {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a := p.answer(); a.Tag != tc.tag || a.Suite != tc.suite.String() || bytes.Equal(a.Keys[0].KeySalt, p.Remote.KeySalt) {
				t.Fatalf("answer %v", a)
			}
		})
	}
}

// TestB21SDESAnswerMustFit: what was not offered is no answer; a wrong tag is forgiven.
func TestB21SDESAnswerMustFit(t *testing.T) {
	var p sdesParty
	p.offer(newSDESPolicy([]string{"no-AES_CM_128_HMAC_SHA1_32"}))
	if err := p.answered([]sdp.Crypto{sdesLine(t, sdesPhone32)}); err == nil || !strings.Contains(err.Error(), "not offered") {
		t.Errorf("error %v", err)
	}
	if err := p.answered(nil); err == nil {
		t.Error("no line is taken as an answer")
	}
	if err := p.answered([]sdp.Crypto{sdesLine(t, strings.Replace(sdesPhone80, "1 AES", "77 AES", 1))}); err != nil {
		t.Error(err)
	}
}

// TestB18SDESReKey: on a re-INVITE with a new key the far end gets a new receive context and ours stays, so that it need not
// know; with the same key both stay, and so do rollover counter and replay window.
func TestB18SDESReKey(t *testing.T) {
	var p sdesParty
	policy := newSDESPolicy(nil)
	offer := func(line string) (rx, tx *srtpContext) {
		t.Helper()
		if err := p.offered([]sdp.Crypto{sdesLine(t, line)}, policy); err != nil {
			t.Fatal(err)
		}
		rx, tx, err := p.contexts()
		if err != nil {
			t.Fatal(err)
		}
		return rx, tx
	}
	rx1, tx1 := offer(sdesPhone80)
	own := p.Local
	if rx, tx := offer(sdesPhone80); rx != rx1 || tx != tx1 {
		t.Error("the same key made new contexts")
	}
	rx2, tx2 := offer(sdesPhoneNew)
	if rx2 == rx1 || tx2 != tx1 || !p.Local.same(own) {
		t.Error("a new key of the far end: want a new receiver and the old sender")
	}
	if len(rx1.mki) != 4 || len(rx2.mki) != 0 || len(tx2.mki) != 0 {
		t.Error("MKI belongs to the key that it came with")
	}
	// Our re-offer names the same key, first.
	if l := p.offer(policy)[0]; l.Suite != own.Suite.String() || !bytes.Equal(l.Keys[0].KeySalt, own.KeySalt) {
		t.Errorf("re-offer %v", l)
	}
	// A suite that went out of use comes back with another key.
	if _, tx := offer(sdesPhone32); tx == tx1 {
		t.Error("another suite kept the sender")
	}
	if _, tx := offer(sdesPhone80); tx == tx1 || p.Local.same(own) {
		t.Error("a key was used again after its context was gone")
	}
	p.forget()
	if _, _, err := p.contexts(); err == nil {
		t.Error("contexts after forget")
	}
}
