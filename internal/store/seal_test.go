package store

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestF34Seal: what was written with the key is read with it, and by nobody else; what somebody without it writes is not there, whatever he copies, and gives way
// to what is written with the key.
func TestF34Seal(t *testing.T) {
	at := netip.MustParseAddrPort(freeAddr(t))
	key := KeyOf([]byte("secret"))
	ours := open(t, Config{Listen: at, Key: key})
	friend := open(t, Config{URL: "nats://" + at.String(), Key: key})
	thief := open(t, Config{URL: "nats://" + at.String()})
	wrong := open(t, Config{URL: "nats://" + at.String(), Key: KeyOf([]byte("guess"))})
	ctx := t.Context()
	calls, media := bucket(t, ours, "calls"), bucket(t, ours, "media")
	his, hers := bucket(t, thief, "calls"), bucket(t, wrong, "calls")

	rev, err := calls.Create(ctx, "a", []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	if rev, err = calls.Update(ctx, "a", []byte("plain words"), rev); err != nil {
		t.Fatal(err)
	}
	if _, err := media.Put(ctx, "a", []byte("plain words")); err != nil {
		t.Fatal(err)
	}
	if err := calls.PutLater("later", []byte("plain words")); err != nil || ours.Flush(ctx) != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"a", "later"} {
		e, err := bucket(t, friend, "calls").Get(ctx, k)
		if err != nil || string(e.Value) != "plain words" || k == "a" && e.Revision != rev {
			t.Errorf("with the key: %+v, %v", e, err)
		}
		if e, err = his.Get(ctx, k); err != nil || bytes.Contains(e.Value, []byte("words")) || len(e.Value) != len("plain words")+24+16 {
			t.Errorf("without a key: %q, %v", e.Value, err)
		}
		if _, err = hers.Get(ctx, k); !errors.Is(err, ErrForged) || !errors.Is(err, ErrNotFound) {
			t.Errorf("with another key: %v", err)
		}
	}

	changes, err := calls.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for e := range changes {
		if e.Key == "" {
			break
		}
	}
	sealed, err := bucket(t, thief, "media").Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string][]byte{"plain": []byte("{}"), "empty": {}, "short": sealed.Value[:20], "copy": sealed.Value, "cut": sealed.Value[:len(sealed.Value)-1]} {
		if _, err := his.Put(ctx, k, v); err != nil {
			t.Fatal(err)
		}
		if _, err := calls.Get(ctx, k); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", k, err)
		}
	}
	if _, err := his.Put(ctx, "a", sealed.Value); err != nil { // the value of the same key of another bucket
		t.Fatal(err)
	}
	if list, err := calls.List(ctx, ""); err != nil || len(list) != 1 || list[0].Key != "later" {
		t.Errorf("the list is %+v, %v", list, err)
	}
	// In the place of what is forged stands nothing.
	if _, err := calls.Create(ctx, "plain", []byte("true")); err != nil {
		t.Errorf("create over what is forged: %v", err)
	}
	err = calls.Modify(ctx, "copy", func(old []byte) ([]byte, error) {
		if old != nil {
			t.Errorf("modify is given %q", old)
		}
		return []byte("true"), nil
	})
	if err != nil {
		t.Errorf("modify of what is forged: %v", err)
	}
	var seen []string
	for len(seen) < 2 {
		e := <-changes
		seen = append(seen, e.Key+" "+string(e.Value))
	}
	if got := strings.Join(seen, ", "); got != "plain true, copy true" {
		t.Errorf("a watcher was told of %s", got)
	}
	if n := ours.Stats().Forged; n < 10 {
		t.Errorf("%d were counted", n)
	}
	if _, err := New(Config{Key: []byte("short")}); err == nil {
		t.Error("a key of 5 bytes is taken")
	}
}

// TestF34SealedLease: leases are sealed as all else.
func TestF34SealedLease(t *testing.T) {
	at := netip.MustParseAddrPort(freeAddr(t))
	key := KeyOf([]byte("secret"))
	ours := open(t, Config{Listen: at, Key: key})
	friend := open(t, Config{URL: "nats://" + at.String(), Key: key})
	thief := open(t, Config{URL: "nats://" + at.String()})
	if _, err := bucket(t, thief, leaseBucket).Put(t.Context(), "crash", []byte(`{"owner":"evil","ttl_ns":1000000000000,"id":"x"}`)); err != nil {
		t.Fatal(err)
	}
	l, err := ours.Lease(t.Context(), "crash", "a", time.Minute)
	if err != nil {
		t.Fatalf("a forged lease keeps us out: %v", err)
	}
	if _, err := friend.Lease(t.Context(), "crash", "b", time.Minute); !errors.Is(err, ErrHeld) {
		t.Errorf("a second holder: %v", err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
