package farm

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
)

// TestB32QualifierAsks runs the qualifier on a fake clock: who answers, who does not, who leaves and who moves; it ends with
// all its goroutines.
func TestB32QualifierAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const interval = 12 * time.Second
		table := newLocations()
		table.maxUsers = 10
		var mu sync.Mutex
		asked := map[string]int{}
		q := newQualifier(interval, table, func(ctx context.Context, b binding) bool {
			mu.Lock()
			asked[b.uri]++
			mu.Unlock()
			select {
			case <-time.After(70 * time.Millisecond):
				return b.uri != "gone"
			case <-ctx.Done():
				return false
			}
		})
		ask := q.ask
		q.ask = func(ctx context.Context, b binding) bool {
			if b.uri != "silent" {
				return ask(ctx, b)
			}
			mu.Lock()
			asked[b.uri]++
			mu.Unlock()
			<-ctx.Done()
			return false
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { q.run(ctx); close(done) }()

		seq := uint32(0)
		register := func(user, uri string, expires int, path ...string) {
			seq++
			w := wish(uri, expires)
			w.key = "instance"
			if _, no := table.register(registration{user: user, callID: "c", seq: seq, expires: -1, contacts: []contactWish{w}, path: path}, time.Now()); no.status != 0 {
				t.Fatalf("%+v", no)
			}
			q.watch(contactID{user, "instance"})
		}
		state := func(user string) reach {
			b, _ := table.find(contactID{user, "instance"}, time.Now())
			return b.reach
		}
		register("a", "alive", 3600)
		register("b", "silent", 60)
		if s := state("a"); s != (reach{}) {
			t.Errorf("before the first question: %+v", s)
		}
		time.Sleep(5*interval - time.Second)
		synctest.Wait()
		if s := state("a"); s.state != Reachable || s.rtt != 70*time.Millisecond || s.missed != 0 {
			t.Errorf("the one that answers: %+v", s)
		}
		// Its last question may still be open.
		if s := state("b"); s.state != Unreachable || s.rtt != 0 || s.missed < 4 {
			t.Errorf("the silent one: %+v", s)
		}
		mu.Lock()
		if asked["alive"] < 4 || asked["alive"] > 5 || asked["silent"] < 4 || asked["silent"] > 5 {
			t.Errorf("asked %v in less than 5 intervals", asked)
		}
		mu.Unlock()

		// The silent one has expired and is forgotten. The other refreshes and keeps its state, moves and loses it.
		time.Sleep(2 * interval)
		synctest.Wait()
		register("a", "alive", 3600)
		if s := state("a"); s.state != Reachable {
			t.Errorf("after a refresh: %+v", s)
		}
		register("a", "gone", 3600, "<sip:edge;lr>")
		if s := state("a"); s.state != ReachUnknown {
			t.Errorf("after a move: %+v", s)
		}
		time.Sleep(2 * interval)
		synctest.Wait()
		if s := state("a"); s.state != Unreachable || s.missed == 0 {
			t.Errorf("at its new place: %+v", s)
		}
		mu.Lock()
		if asked["silent"] > 5 {
			t.Errorf("asked %v: one of them had expired", asked)
		}
		mu.Unlock()

		register("b", "silent", 60) // is being asked at the end
		time.Sleep(interval - time.Millisecond)
		cancel()
		<-done
		q.watch(contactID{"z", "instance"}) // does not block
		if len(q.schedule.watched) != 2 {
			t.Errorf("%d contacts are watched", len(q.schedule.watched))
		}
	})
}

// TestB32QualifierTenThousand runs ten thousand contacts through the real loop on a fake clock.
func TestB32QualifierTenThousand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const contacts, interval = 10000, 12 * time.Second
		table := newLocations()
		table.maxUsers = contacts
		var asked, open, most atomic.Int64
		q := newQualifier(interval, table, func(context.Context, binding) bool {
			asked.Add(1)
			if n := open.Add(1); n > most.Load() {
				most.Store(n) // at worst a little too small
			}
			time.Sleep(50 * time.Millisecond)
			open.Add(-1)
			return true
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { q.run(ctx); close(done) }()
		for i := range contacts {
			user := fmt.Sprint(i)
			table.register(registration{user: user, callID: "c", seq: 1, expires: -1, contacts: []contactWish{wish("x", 3600)}}, time.Now())
			q.watch(contactID{user, "x"})
		}
		time.Sleep(interval + time.Second)
		synctest.Wait()
		reachable := 0
		table.walk(time.Now(), func(_ string, b binding) {
			if b.reach.state == Reachable {
				reachable++
			}
		})
		if reachable != contacts || asked.Load() > contacts+1000 {
			t.Errorf("%d of %d are reachable after %d questions", reachable, contacts, asked.Load())
		}
		if most.Load() > 100 { // 42 in the mean
			t.Errorf("%d questions at a time", most.Load())
		}
		cancel()
		<-done
	})
}

// TestB32Qualify: over loopback, a phone that answers, one that is silent and one whose edge says that its flow is gone.
func TestB32Qualify(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{Qualify: 200 * time.Millisecond})
	edge := newPhone(t, f, "edge")
	alive, silent, gone := newPhone(t, f, "1001"), newPhone(t, f, "1002"), newPhone(t, f, "1003")
	path := "Path: <sip:" + edge.addr() + ";lr;cookie=AbC>"
	for _, p := range []*phone{alive, gone} {
		p.register(200, "Contact: <sip:"+p.user+"@192.0.2.7>", "Expires: 600", "Supported: path", path)
	}
	silent.register(200)

	// The edge stands for the phones behind it. What it is asked leaves the farm's listener, on the way of the Path.
	asked := map[string]int{}
	branches := map[string]bool{}
	var contacts []ContactInfo
	var stats Stats
	want := []Reachability{Reachable, Unreachable, Unreachable}
	seen := func() bool {
		contacts, stats = f.Contacts(), f.Stats()
		return asked["1001"] >= 3 && asked["1003"] >= 3 && contacts[1].Missed >= 3 &&
			slices.Equal(want, []Reachability{contacts[0].State, contacts[1].State, contacts[2].State})
	}
	for limit := time.Now().Add(patience); !seen(); {
		if time.Now().After(limit) {
			t.Fatalf("asked %v, contacts %+v", asked, contacts)
		}
		req := edge.request("OPTIONS")
		asked[req.Recipient.User]++
		if via := req.Via(); fmt.Sprintf("%s:%d", via.Host, via.Port) != edge.farm.String() {
			t.Fatalf("Via %s", via.Value())
		}
		branch, _ := req.Via().Params.Get("branch")
		if branches[branch] {
			t.Errorf("a question that was answered came again")
		}
		branches[branch] = true
		if got := req.GetHeader("Route").Value(); got != strings.TrimPrefix(path, "Path: ") || req.Recipient.Host != "192.0.2.7" {
			t.Fatalf("to %s by %s", req.Recipient.String(), got)
		}
		if req.Recipient.User == "1001" {
			edge.reply(req, 486, "x", "") // any answer is one
		} else {
			edge.reply(req, 430, "x", "")
		}
	}
	if c := contacts[0]; c.User != "1001" || c.RoundTrip <= 0 || c.RoundTrip > time.Second || c.Missed != 0 || c.URI != "sip:1001@192.0.2.7" {
		t.Errorf("the one that answers: %+v", c)
	}
	if c := contacts[1]; c.RoundTrip != 0 || time.Until(c.Expires) < 9*time.Minute {
		t.Errorf("the silent one: %+v", c)
	}
	if stats.Registrations != 3 || stats.Reachable+stats.Unreachable != 3 || stats.Reachable == 1 && stats.RoundTripMax <= 0 {
		t.Errorf("stats: %+v", stats)
	}
	for _, e := range f.endpoints(nil) {
		if e.Resource != "1001" && e.State != ari.EndpointOffline {
			t.Errorf("endpoint %s is %s", e.Resource, e.State)
		}
	}

	// A contact that answers no OPTIONS is called like any other.
	a := appOf(t, f)
	a.do(200, "POST", "channels/out?app=rtcedge&endpoint=PJSIP/1002", "")
	in := silent.ringing().accept()
	a.do(204, "DELETE", "channels/out", "")
	in.hungUp()
}

// TestB32QualifySource: the question comes from the listener's own socket, which the edge knows the farm by.
func TestB32QualifySource(t *testing.T) {
	t.Parallel()
	f := runFarm(t, Config{Qualify: 50 * time.Millisecond})
	phone := newPhoneSocket(t)
	a := newPhone(t, f, "1001")
	a.register(200, "Contact: <sip:1001@"+addrPort(phone).String()+">", "Expires: 600")
	buf := make([]byte, 65536)
	_ = phone.SetReadDeadline(time.Now().Add(patience))
	n, from, err := phone.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if from != f.listeners[0].addr || !strings.HasPrefix(string(buf[:n]), "OPTIONS sip:1001@") {
		t.Errorf("from %v, the listener is %v:\n%s", from, f.listeners[0].addr, buf[:n])
	}
}

// TestQualifyOff: a negative interval asks nobody, and so does a farm that is no registrar.
func TestQualifyOff(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Qualify: -1}, {Roles: []Role{RoleCall}}} {
		f := runFarm(t, cfg)
		if f.qualifier != nil {
			t.Errorf("%+v qualifies", cfg)
		}
	}
	if f := runFarm(t, Config{}); f.qualifier.schedule.interval != defaultQualify {
		t.Errorf("every %v", f.qualifier.schedule.interval)
	}
	f := runFarm(t, Config{Qualify: -1})
	newPhone(t, f, "1001").register(200)
	if c := f.Contacts(); len(c) != 1 || c[0].State != ReachUnknown {
		t.Errorf("%+v", c)
	}
	if e := f.endpoints(nil); len(e) != 1 || e[0].State != ari.EndpointOnline {
		t.Errorf("%+v", e)
	}
}

// TestQualifyLeavesNothing: neither goroutines nor transactions stay, whether answers are open or were given.
func TestQualifyLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	f, err := New(withARI(Config{Qualify: 20 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Run("contacts", func(t *testing.T) {
		edge := newPhone(t, f, "edge")
		for i := range 20 {
			newPhone(t, f, fmt.Sprint(2000+i)).register(200)
			p := newPhone(t, f, fmt.Sprint(1000+i))
			p.register(200, "Contact: <sip:"+p.user+"@"+edge.addr()+">", "Expires: 600")
		}
		for range 100 {
			req := edge.request("OPTIONS")
			edge.reply(req, 200, "x", "")
		}
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("Run took %v to end", took)
		}
	})
	for limit := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestQualifyEdge: a contact without Path is asked by the edge of the configuration.
func TestQualifyEdge(t *testing.T) {
	t.Parallel()
	edge := newPhoneSocket(t)
	f := runFarm(t, Config{Qualify: 50 * time.Millisecond, Edge: netip.MustParseAddrPort(edge.LocalAddr().String())})
	newPhone(t, f, "1001").register(200, "Contact: <sip:1001@192.0.2.9>", "Expires: 600")
	buf := make([]byte, 65536)
	_ = edge.SetReadDeadline(time.Now().Add(patience))
	n, err := edge.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sipmsg.ParseMessage(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	if r := m.(*sipmsg.Request); r.Method != sipmsg.OPTIONS || r.GetHeader("Route") == nil || r.Recipient.Host != "192.0.2.9" {
		t.Errorf("%s", buf[:n])
	}
}
