package ice

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"rtcedge/nat"
)

// wire carries packets between two agents; what is sent is handed over on a goroutine, as from a socket.
type wire struct {
	mu      sync.Mutex
	to      map[netip.AddrPort]func(b []byte, from netip.AddrPort)
	pending sync.WaitGroup
}

func (w *wire) send(from netip.AddrPort) func([]byte, netip.AddrPort) {
	return func(b []byte, to netip.AddrPort) {
		w.mu.Lock()
		fn := w.to[to]
		w.mu.Unlock()
		if fn != nil {
			data := append([]byte(nil), b...)
			w.pending.Go(func() { fn(data, from) })
		}
	}
}

func (w *wire) at(addr netip.AddrPort, fn func([]byte, netip.AddrPort)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to == nil {
		w.to = make(map[netip.AddrPort]func([]byte, netip.AddrPort))
	}
	w.to[addr] = fn
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

const (
	ufrag1, pwd1 = "abcdefgh", "abcdefghijklmnopqrstuvwx"
	ufrag2, pwd2 = "ijklmnop", "zyxwvutsrqponmlkjihgfedc"
)

// TestB34FullMeetsLite: a full agent finds a lite one, nominates, and has consent; the two take the same pair. Then new credentials.
func TestB34FullMeetsLite(t *testing.T) {
	ours, theirs := netip.MustParseAddrPort("192.0.2.1:4000"), netip.MustParseAddrPort("192.0.2.2:5000")
	var w wire
	a, err := New(Config{Ufrag: ufrag1, Pwd: pwd1, Local: ours, Controlling: true, Send: w.send(ours)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.pending.Wait()
	defer a.Close()
	w.at(ours, func(b []byte, from netip.AddrPort) { a.Handle(b, from, time.Now(), nil) })
	lite := nat.NewICELite(nat.ICEConfig{Ufrag: ufrag2, Pwd: pwd2})
	var mu sync.Mutex
	w.at(theirs, func(b []byte, from netip.AddrPort) {
		mu.Lock()
		answer, _ := lite.Handle(b, from, time.Now(), nil)
		mu.Unlock()
		if answer != nil {
			w.send(theirs)(answer, from)
		}
	})
	if a.Consent(time.Now()) || a.Validated(theirs) {
		t.Fatal("consent before a check")
	}
	// A name in .local, a TCP candidate and nonsense are no hindrance.
	a.Start(ufrag2, pwd2, []string{"1 1 udp 2130706431 x.local 9 typ host", "2 1 tcp 1 192.0.2.2 9 typ host tcptype active", "x",
		"3 1 udp 2130706431 192.0.2.2 5000 typ host"})
	eventually(t, "no pair", func() bool { return a.Consent(time.Now()) && a.Selected() == theirs })
	eventually(t, "not nominated", func() bool { mu.Lock(); defer mu.Unlock(); return lite.Nominated() && lite.Selected() == ours })
	if !a.Validated(theirs) || a.Validated(netip.MustParseAddrPort("192.0.2.2:5001")) {
		t.Error("another source is taken for the pair")
	}
	mu.Lock()
	lite.Restart("qrstuvwx", pwd1)
	mu.Unlock()
	if err := a.Restart("newufrag", pwd2, "qrstuvwx", pwd1, []string{"3 1 udp 2130706431 192.0.2.2 5000 typ host"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no pair after the restart", func() bool { return a.Consent(time.Now()) && a.Selected() == theirs })
}

// TestB34FullMeetsFull: two full agents, one of which only learns the other's address from its checks: its candidate is a name.
func TestB34FullMeetsFull(t *testing.T) {
	ours, theirs := netip.MustParseAddrPort("192.0.2.1:4000"), netip.MustParseAddrPort("192.0.2.2:5000")
	var w wire
	changed := make(chan struct{}, 100)
	a, err := New(Config{Ufrag: ufrag1, Pwd: pwd1, Local: ours, Send: w.send(ours), Changed: func() { changed <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Ufrag: ufrag2, Pwd: pwd2, Local: theirs, Controlling: true, Send: w.send(theirs)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.pending.Wait()
	defer b.Close()
	defer a.Close()
	w.at(ours, func(p []byte, from netip.AddrPort) { a.Handle(p, from, time.Now(), nil) })
	w.at(theirs, func(p []byte, from netip.AddrPort) { b.Handle(p, from, time.Now(), nil) })
	a.Start(ufrag2, pwd2, []string{"1 1 udp 2130706431 7b1cb6c5.local 46243 typ host"})
	b.Start(ufrag1, pwd1, nil)
	b.Add("1 1 udp 2130706431 192.0.2.1 4000 typ host") // trickled
	<-changed
	for name, c := range map[string]*Agent{"a": a, "b": b} {
		eventually(t, name+" has no pair", func() bool { return c.Consent(time.Now()) && c.Selected().IsValid() })
	}
	if a.Selected() != theirs || b.Selected() != ours {
		t.Errorf("%v and %v", a.Selected(), b.Selected())
	}
}
