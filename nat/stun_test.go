package nat

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/pion/stun/v3"
)

// rfc5769Password is that of the short-term vectors (RFC 5769 section 2).
const rfc5769Password = "VOkJxbRl1RmTxUk/WvJxBt"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRFC5769(t *testing.T) {
	key := newSTUNKey(rfc5769Password)
	for _, tc := range []struct {
		file   string
		kind   stunType
		mapped string
	}{
		{"rfc5769-request.bin", bindingRequest, ""},
		{"rfc5769-response-ipv4.bin", bindingSuccess, "192.0.2.1:32853"},
		{"rfc5769-response-ipv6.bin", bindingSuccess, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"},
	} {
		t.Run(tc.file, func(t *testing.T) {
			b := vector(t, tc.file)
			var m stunMessage
			if !m.parse(b) || m.kind != tc.kind || !m.fingerprint {
				t.Fatalf("parsed %+v", m)
			}
			if !key.verifies(&m) || newSTUNKey("x").verifies(&m) {
				t.Fatal("integrity")
			}
			if tc.mapped != "" && m.mapped != netip.MustParseAddrPort(tc.mapped) {
				t.Fatalf("mapped %v", m.mapped)
			}
			if tc.kind == bindingRequest && (string(m.username) != "evtj:h6vY" || m.priority != 0x6e0001ff || !m.controlled || m.useCandidate) {
				t.Fatalf("read %+v", m)
			}
			// Each bit counts: of the header, of attributes, of integrity and of fingerprint.
			for i := range len(b) * 8 {
				c := append([]byte(nil), b...)
				c[i/8] ^= 1 << (i % 8)
				if m.parse(c) && m.fingerprint {
					t.Fatalf("bit %d of byte %d changed, still taken", i%8, i/8)
				}
			}
		})
	}
}

// TestRFC5769LongTerm: long-term credentials are parsed over, and have no FINGERPRINT.
func TestRFC5769LongTerm(t *testing.T) {
	var m stunMessage
	if !m.parse(vector(t, "rfc5769-request-longterm.bin")) || m.fingerprint || m.integrity == 0 || m.numUnknown != 0 {
		t.Fatalf("parsed %+v", m)
	}
	if newSTUNKey("TheMatrIX").verifies(&m) {
		t.Fatal("the password alone is not the key")
	}
}

func TestSTUNForm(t *testing.T) {
	good := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("a:b"), stun.NewShortTermIntegrity("p"), stun.Fingerprint).Raw
	edit := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), good...)) }
	for _, tc := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"as built", good, true},
		{"empty", nil, false},
		{"header alone", stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw, true},
		{"cut", good[:len(good)-4], false},
		{"a byte more", append(edit(func(b []byte) []byte { return b }), 0), false},
		{"first bits", edit(func(b []byte) []byte { b[0] |= 0x80; return b }), false},
		{"cookie", edit(func(b []byte) []byte { b[4]++; return b }), false},
		{"attribute over the end", edit(func(b []byte) []byte { b[22] = 0x7f; return b }), false},
		{"fingerprint not last", stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint, stun.NewUsername("a:b")).Raw, false},
		{"fingerprint of 8 bytes", stun.MustBuild(stun.TransactionID, stun.BindingRequest, attr(attrFingerprint, 8)).Raw, false},
		{"integrity of 16 bytes", stun.MustBuild(stun.TransactionID, stun.BindingRequest, attr(attrIntegrity, 16)).Raw, false},
		{"priority of 2 bytes", stun.MustBuild(stun.TransactionID, stun.BindingRequest, attr(attrPriority, 2)).Raw, false},
		{"tie-breaker of 4 bytes", stun.MustBuild(stun.TransactionID, stun.BindingRequest, attr(attrControlling, 4)).Raw, false},
		{"error code of 2 bytes", stun.MustBuild(stun.TransactionID, stun.BindingError, attr(attrErrorCode, 2)).Raw, false},
		{"address of 4 bytes", stun.MustBuild(stun.TransactionID, stun.BindingSuccess, attr(attrXORMappedAddress, 4)).Raw, false},
		{"address of no family", stun.MustBuild(stun.TransactionID, stun.BindingSuccess, attr(attrXORMappedAddress, 8)).Raw, false},
	} {
		var m stunMessage
		if got := m.parse(tc.b); got != tc.ok {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.ok)
		}
	}
}

// TestSTUNBehindIntegrity: what stands behind MESSAGE-INTEGRITY is not protected by it and has no effect.
func TestSTUNBehindIntegrity(t *testing.T) {
	b := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("a:b"), stun.NewShortTermIntegrity("p"),
		attr(attrUseCandidate, 0), attr(attrPriority, 4), attr(0x7777, 4), attr(attrIntegrity, 20), stun.Fingerprint).Raw
	var m stunMessage
	if !m.parse(b) || m.useCandidate || m.priority != 0 || m.numUnknown != 0 || !newSTUNKey("p").verifies(&m) {
		t.Fatalf("parsed %+v", m)
	}
}

// attr is an attribute of n bytes.
func attr(kind uint16, n int) stun.RawAttribute {
	return stun.RawAttribute{Type: stun.AttrType(kind), Length: uint16(n), Value: make([]byte, n)}
}

// TestSTUNWritten: pion/stun reads what we write.
func TestSTUNWritten(t *testing.T) {
	id := []byte("0123456789ab")
	for _, from := range []string{"192.0.2.7:4000", "[2001:db8::9]:61000", "[::ffff:192.0.2.7]:4000"} {
		addr := netip.MustParseAddrPort(from)
		b := finish(appendXORMapped(appendSTUNHeader(nil, bindingSuccess, id), addr), newSTUNKey("pass"))
		m := decoded(t, b, "pass")
		var x stun.XORMappedAddress
		if err := x.GetFrom(m); err != nil || !x.IP.Equal(net.IP(addr.Addr().AsSlice())) || x.Port != int(addr.Port()) {
			t.Fatalf("%v: %v, %v", addr, x, err)
		}
		var own stunMessage
		if !own.parse(b) || own.mapped != netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()) {
			t.Fatalf("own reading %v", own.mapped)
		}
	}
	b := appendErrorCode(appendSTUNHeader(nil, bindingFailure, id), errorUnknownAttribute)
	b = finish(appendUnknown(b, []uint16{0x7001, 0x7002, 0x7003}), newSTUNKey("pass"))
	m := decoded(t, b, "pass")
	var code stun.ErrorCodeAttribute
	var unknown stun.UnknownAttributes
	if code.GetFrom(m) != nil || code.Code != 420 || unknown.GetFrom(m) != nil || len(unknown) != 3 || unknown[2] != 0x7003 {
		t.Fatalf("error %v, unknown %v", code, unknown)
	}
	var own stunMessage
	if !own.parse(b) || own.kind != bindingFailure || own.code != 420 {
		t.Fatalf("own reading %+v", own)
	}
}

// decoded reads a message with pion/stun and checks its integrity, if there is a password, and its fingerprint.
func decoded(t testing.TB, b []byte, password string) *stun.Message {
	t.Helper()
	m := &stun.Message{Raw: append([]byte(nil), b...)}
	if err := m.Decode(); err != nil {
		t.Fatal(err)
	}
	if password != "" {
		if err := stun.NewShortTermIntegrity(password).Check(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := stun.Fingerprint.Check(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// FuzzSTUN: no packet makes the parser panic, and what pion/stun refuses by form has no integrity with us.
func FuzzSTUN(f *testing.F) {
	for _, name := range []string{"rfc5769-request.bin", "rfc5769-request-longterm.bin", "rfc5769-response-ipv4.bin", "rfc5769-response-ipv6.bin"} {
		f.Add(vector(f, name))
	}
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, attr(0x7777, 3), attr(attrErrorCode, 4), stun.Fingerprint).Raw)
	key := newSTUNKey(rfc5769Password)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m stunMessage
		ok := m.parse(b)
		p := &stun.Message{Raw: append([]byte(nil), b...)}
		if ok && p.Decode() != nil {
			t.Fatal("taken, and pion/stun does not read it")
		}
		if ok && key.verifies(&m) && stun.NewShortTermIntegrity(rfc5769Password).Check(p) != nil {
			t.Fatal("integrity found right, by pion/stun wrong")
		}
		a := NewICELite(ICEConfig{Ufrag: "evtj", Pwd: rfc5769Password})
		out, ev := a.Handle(b, ap("192.0.2.1:5"), start, nil)
		if ev < ICERefreshed && len(out) > len(b) && ev != ICERefused {
			t.Fatalf("event %d, %d bytes for %d", ev, len(out), len(b))
		}
	})
}
