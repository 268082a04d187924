package sip

import "testing"

// TestHash: the parts of a hash are told apart, every byte counts at every offset, and purposes and keys differ.
func TestHash(t *testing.T) {
	k := newKey([]byte("0123456789abcdef"))
	seen := map[[2]uint64]string{}
	add := func(name string, k key, purpose byte, parts ...string) {
		h := k.hasher(purpose)
		for _, p := range parts {
			h.part([]byte(p))
		}
		lo, hi := h.sum()
		if other, ok := seen[[2]uint64{lo, hi}]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[[2]uint64{lo, hi}] = name
	}
	text := "abcdefghijklmnopqrstuvwxyz"
	for i := range len(text) + 1 {
		add("split "+text[:i], k, 'x', text[:i], text[i:])
		b := []byte(text)
		if i < len(b) {
			b[i] ^= 0x80
			add("flip "+text[:i], k, 'x', string(b))
		}
		add("short "+text[:i], k, 'x', text[:i])
	}
	add("purpose", k, 'y', text)
	add("key", newKey([]byte("0123456789abcdeg")), 'x', text)
	h := k.hasher('x')
	h.part([]byte(text))
	lo, _ := h.sum()
	g := k.hasher('x')
	g.part([]byte(text))
	if again, _ := g.sum(); again != lo {
		t.Error("the same input has two hashes")
	}
}

// TestCookies: what is written is read back, and one changed character is found.
func TestCookies(t *testing.T) {
	k := newKey([]byte("0123456789abcdef"))
	for _, st := range []routeState{
		{flags: routeFarm, farm: parseAddr(node1)},
		{flags: routeClient | routeFarm, listener: 3, client: parseAddr("[2001:db8::1]:5060"), farm: parseAddr(node1)},
		{flags: routePath | routeClient | routeFlow, client: parseAddr(phone), flow: 1<<63 + 5},
		{flags: routeNoOffer | routeFarm, farm: parseAddr("[::1]:5080")},
	} {
		text := k.appendRoute(nil, &st, []byte("call"))
		var got routeState
		if !k.readRoute(&got, text, []byte("call")) || got.client != st.client || got.farm != st.farm || got.flow != st.flow || got.listener != st.listener {
			t.Errorf("%+v came back as %+v", st, got)
		}
		if ok := k.readRoute(&got, text, []byte("other")); ok != (st.flags&routePath != 0) {
			t.Errorf("%+v in another call: %v", st, ok)
		}
		for i := range text[:len(text)-1] {
			text[i] ^= 1
			if k.readRoute(&got, text, []byte("call")) {
				t.Errorf("a forged cookie is believed (character %d)", i)
			}
			text[i] ^= 1
		}
	}
}
