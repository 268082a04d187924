package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rtcedge/recovery/homer"
)

// memory is a capture that can be away, lag, lose and reorder, as a HOMER can.
type memory struct {
	mu       sync.Mutex // guards messages
	messages []homer.Message
	away     bool
	lag      time.Duration // a message is visible so long after it was added
	added    time.Time
	lose     int // percent
	asked    int
	since    time.Time
}

// Revision is how many there are: this memory forgets nothing that it was told of.
func (m *memory) Revision(string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.messages))
}

func (m *memory) Messages(_ context.Context, ids []string, since time.Time) ([]homer.Message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	m.since = since
	if m.away {
		return nil, errors.New("connection refused")
	}
	if time.Since(m.added) < m.lag {
		return nil, nil
	}
	rng := rand.New(rand.NewPCG(uint64(m.lose), uint64(len(m.messages))))
	var out []homer.Message
	for _, x := range m.messages {
		if slices.Contains(ids, x.CallID) && rng.IntN(100) >= m.lose {
			out = append(out, x)
		}
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out, nil
}

func (m *memory) set(messages []homer.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = messages
}

func remember(ev Evidence) []homer.Message {
	var out []homer.Message
	for _, m := range ev.Messages {
		out = append(out, homer.Message{CallID: ev.CallID, Raw: m.Raw, Time: m.Time, Source: m.Source, Destination: m.Destination})
	}
	return out
}

func playOf(t *testing.T, file, name string) Evidence {
	t.Helper()
	for _, p := range loadPlays(t, file) {
		if p.name == name {
			return p.ev
		}
	}
	t.Fatalf("no play %q", name)
	return Evidence{}
}

func ask(t *testing.T, cfg CollectorConfig) (Rebuilt, *Collector) {
	t.Helper()
	c, err := NewCollector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Farm(func() []string { return []string{"udp:" + nodeAddr.String(), "udp:" + firstAddr.String()} })
	b, _ := answerOf(c.Dialogs(context.Background(), "udp:"+nodeAddr.String(), []Asked{{CallID: "c1@example"}}), "c1@example")
	return b, c
}

// TestF13OwnCaptureNeedsNoHomer: away, lagging or losing, it is not even asked.
func TestF13OwnCaptureNeedsNoHomer(t *testing.T) {
	ev := playOf(t, "testdata/b46.txt", "confirmed, the node called")
	away := &memory{away: true}
	r, c := ask(t, CollectorConfig{Own: &memory{messages: remember(ev)}, Homer: away})
	if r.Err != nil || r.CSeq != 7001 || away.asked != 0 || r.Variables["PJSIP_RECOVERY_FROM_TAG"] != "node" || r.RequestURI != "sip:1001@192.0.2.7:5060" {
		t.Fatalf("%+v, HOMER asked %d times", r, away.asked)
	}
	if _, ok := c.Final(context.Background(), "c1@example", 7001); ok {
		t.Error("there is no answer to the recovery INVITE")
	}
	if status, ok := c.Final(context.Background(), "c1@example", 7000); !ok || status != 200 {
		t.Errorf("final %d %v", status, ok)
	}
}

// TestF13HomerOnly: a lag of 4 s is waited for, what is away is a refusal, and a BYE that shows up late is seen.
func TestF13HomerOnly(t *testing.T) {
	up := playOf(t, "testdata/b46.txt", "confirmed, the node called")
	over := playOf(t, "testdata/b46.txt", "BYE by the far end")
	synctest.Test(t, func(t *testing.T) {
		r, _ := ask(t, CollectorConfig{Homer: &memory{messages: remember(up), lag: 3600 * time.Millisecond, added: time.Now()}})
		if r.Err != nil || r.CSeq != 7101 {
			t.Errorf("lagging: %+v", r)
		}
		late := &memory{messages: remember(over)[:4], added: time.Now()}
		time.AfterFunc(3*time.Second, func() { late.set(remember(over)) })
		if r, _ = ask(t, CollectorConfig{Homer: late}); r.Err == nil || !strings.HasPrefix(r.Err.Error(), "ended") {
			t.Errorf("a late BYE: %+v", r)
		}
		begin := time.Now()
		if r, _ = ask(t, CollectorConfig{Homer: &memory{away: true}}); r.Err == nil || time.Since(begin) > 7*time.Second {
			t.Errorf("away: %+v after %v", r, time.Since(begin))
		}
	})
}

// TestF13LossMakesNoWrongDialog: of 60 % lost and the rest reordered there is the right dialog or none, also of a play that has none.
func TestF13LossMakesNoWrongDialog(t *testing.T) {
	rebuilt, refused := 0, 0
	for _, file := range []string{"testdata/b46.txt", "testdata/b47.txt", "testdata/b48.txt", "testdata/f34.txt"} {
		for _, p := range loadPlays(t, file) {
			for lose := 1; lose <= 60; lose++ {
				m := &memory{messages: remember(p.ev), lose: lose}
				left, _ := m.Messages(t.Context(), []string{p.ev.CallID}, time.Time{})
				ev := p.ev
				ev.Messages, ev.Lossy = nil, true
				for _, x := range left {
					ev.Messages = append(ev.Messages, Message{Time: x.Time, Source: x.Source, Destination: x.Destination, Raw: x.Raw})
				}
				d, err := Rebuild(ev)
				judge(t, p, ev.Messages, d, err, true)
				if p.ev.Node[0] == nodeAddr && p.ev.Role == "" && p.ev.URI == "" { // what the leg is told is that
					r, _ := ask(t, CollectorConfig{Homer: m, Lag: -1})
					if (r.Err == nil) != (err == nil) || err == nil && (r.CSeq != d.CSeq || r.RequestURI != d.Target || !maps.Equal(r.Variables, d.Variables())) {
						t.Fatalf("%s, %d %% lost: the leg gets %+v, want %s", p.name, lose, r, describe(d, err))
					}
				}
				if err != nil {
					refused++
				} else {
					rebuilt++
				}
			}
		}
	}
	if rebuilt < 100 || refused < 100 {
		t.Errorf("%d rebuilt, %d refused: the test says nothing", rebuilt, refused)
	}
}

// TestB46AckOnItsWay: the 2xx is there and the ACK comes a moment later.
func TestB46AckOnItsWay(t *testing.T) {
	ev := playOf(t, "testdata/b46.txt", "confirmed, the node called")
	synctest.Test(t, func(t *testing.T) {
		own := &memory{messages: remember(ev)[:4]}
		time.AfterFunc(100*time.Millisecond, func() { own.set(remember(ev)) })
		if r, _ := ask(t, CollectorConfig{Own: own}); r.Err != nil {
			t.Error(r.Err)
		}
		if r, _ := ask(t, CollectorConfig{Own: &memory{messages: remember(ev)[:4]}}); r.Err == nil || !strings.HasPrefix(r.Err.Error(), "unconfirmed") {
			t.Errorf("no ACK: %+v", r)
		}
	})
}

// of is a play's messages under another Call-ID.
func of(ev Evidence, id string) []homer.Message {
	list := remember(ev)
	for i := range list {
		list[i].CallID, list[i].Raw = id, strings.ReplaceAll(list[i].Raw, ev.CallID, id)
	}
	return list
}

// group is what Dialogs told at once, and when.
type group struct {
	after time.Duration
	told  map[string]Rebuilt
}

func groupsOf(t *testing.T, cfg CollectorConfig, ids ...string) (out []group, c *Collector) {
	t.Helper()
	c, err := NewCollector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Farm(func() []string { return []string{"udp:" + nodeAddr.String(), "udp:" + firstAddr.String()} })
	var legs []Asked
	for _, id := range ids {
		legs = append(legs, Asked{CallID: id, Since: time.Unix(1_800_000_000, 0)})
	}
	begin := time.Now()
	for told := range c.Dialogs(context.Background(), "udp:"+nodeAddr.String(), legs) {
		out = append(out, group{time.Since(begin), told})
	}
	return out, c
}

// TestF13OneCallDelaysNoOther: what the own capture knows is told at once, an ACK that comes a moment later when it is there, and what only HOMER knows
// behind its lag.
func TestF13OneCallDelaysNoOther(t *testing.T) {
	ev := playOf(t, "testdata/b46.txt", "confirmed, the node called")
	synctest.Test(t, func(t *testing.T) {
		own := &memory{messages: append(of(ev, "near"), of(ev, "soon")[:4]...)}
		time.AfterFunc(60*time.Millisecond, func() { own.set(append(of(ev, "near"), of(ev, "soon")...)) })
		groups, _ := groupsOf(t, CollectorConfig{Own: own, Homer: &memory{messages: of(ev, "far")}}, "far", "near", "soon")
		var ids []string
		for _, g := range groups {
			for id, b := range g.told {
				if b.Err != nil {
					t.Errorf("%s: %v", id, b.Err)
				}
				ids = append(ids, fmt.Sprint(id, " ", g.after))
			}
		}
		if want := []string{"near 0s", "soon 80ms", "far 4s"}; !slices.Equal(ids, want) {
			t.Errorf("told %v, want %v", ids, want)
		}
	})
}

// TestF13HomerHelpsWhereTheOwnCaptureLost: the record says that the leg is up, so a missing 2xx or ACK or INVITE is a loss and no call that rings. Not so
// a BYE, which no other message undoes.
func TestF13HomerHelpsWhereTheOwnCaptureLost(t *testing.T) {
	ev := playOf(t, "testdata/b46.txt", "confirmed, the node called")
	whole := remember(ev)
	synctest.Test(t, func(t *testing.T) {
		for lost := range whole {
			kept := slices.Delete(slices.Clone(whole), lost, lost+1)
			full := &memory{messages: whole}
			r, _ := ask(t, CollectorConfig{Own: &memory{messages: kept}, Homer: full})
			needed := lost == 0 || lost == 3 || lost == 4 // INVITE, 2xx, ACK
			if r.Err != nil || (full.asked > 0) != needed {
				t.Errorf("without %.12q: %v, HOMER asked %d times", whole[lost].Raw, r.Err, full.asked)
			}
		}
		r, _ := ask(t, CollectorConfig{Own: &memory{messages: whole[:3]}, Homer: &memory{away: true}})
		if r.Err == nil || !strings.HasPrefix(r.Err.Error(), "unanswered") || !strings.Contains(r.Err.Error(), "connection refused") {
			t.Errorf("HOMER is away: %v", r.Err)
		}
		over := &memory{messages: remember(playOf(t, "testdata/b46.txt", "BYE by the far end"))}
		homer := &memory{messages: whole}
		if r, _ = ask(t, CollectorConfig{Own: over, Homer: homer}); r.Err == nil || homer.asked != 0 {
			t.Errorf("a BYE is on the wire: %v, HOMER asked %d times", r.Err, homer.asked)
		}
	})
}

// TestB46ByeDuringTheLag: the far end hangs up while HOMER is waited for, and after it, when the leg waits for its turn. The edges tell the own capture.
func TestB46ByeDuringTheLag(t *testing.T) {
	over := remember(playOf(t, "testdata/b46.txt", "BYE that reached only the edge"))
	begin, bye := over[:len(over)-1], over[len(over)-1:]
	synctest.Test(t, func(t *testing.T) {
		own := &memory{}
		time.AfterFunc(time.Second, func() { own.set(bye) })
		if r, _ := ask(t, CollectorConfig{Own: own, Homer: &memory{messages: begin}}); r.Err == nil || !strings.HasPrefix(r.Err.Error(), "ended") {
			t.Errorf("during the lag: %+v", r)
		}

		own = &memory{}
		r, c := ask(t, CollectorConfig{Own: own, Homer: &memory{messages: begin}})
		fresh := func() (Rebuilt, bool) {
			return c.Fresh(t.Context(), "udp:"+nodeAddr.String(), Asked{CallID: "c1@example"})
		}
		if b, ok := fresh(); r.Err != nil || !ok || b.Err != nil || b.CSeq != r.CSeq || b.RequestURI != r.RequestURI {
			t.Errorf("HOMER's dialog stands: %+v, then %+v %v", r, b, ok)
		}
		own.set(bye)
		if b, ok := fresh(); !ok || b.Err == nil || !strings.HasPrefix(b.Err.Error(), "ended") {
			t.Errorf("the BYE is not seen: %+v %v", b, ok)
		}
		clear(c.known) // what HOMER told is forgotten
		if b, ok := fresh(); !ok || b.Err == nil || !strings.HasPrefix(b.Err.Error(), "ended") {
			t.Errorf("the BYE alone is not seen: %+v %v", b, ok)
		}
		own.set(nil)
		if b, ok := fresh(); ok {
			t.Errorf("nothing is at hand, and Fresh says %+v", b)
		}
	})
}

// TestB46FreshReadsOnlyWhatIsNew: nothing is parsed again as long as nothing came; a BYE is seen, a record that says otherwise as well.
func TestB46FreshReadsOnlyWhatIsNew(t *testing.T) {
	over := remember(playOf(t, "testdata/b46.txt", "BYE that reached only the edge"))
	own := &memory{messages: over[:len(over)-1]}
	r, c := ask(t, CollectorConfig{Own: own})
	fresh := func(role string) Rebuilt {
		b, ok := c.Fresh(t.Context(), "udp:"+nodeAddr.String(), Asked{CallID: "c1@example", Role: role, Since: time.Now()})
		if !ok {
			t.Fatal("nothing is at hand")
		}
		return b
	}
	asked := own.asked
	if b := fresh(""); b.Err != nil || b.CSeq != r.CSeq || !maps.Equal(b.Variables, r.Variables) || own.asked != asked {
		t.Errorf("%+v, the capture was read %d times more", b, own.asked-asked)
	}
	if b := fresh("out"); b.Err == nil || !strings.HasPrefix(b.Err.Error(), "other_record") {
		t.Errorf("the record says that the node called: %+v", b)
	}
	own.set(over)
	if b := fresh(""); b.Err == nil || !strings.HasPrefix(b.Err.Error(), "ended") {
		t.Errorf("the BYE is not seen: %+v", b)
	}
}

// TestF13HomerIsAskedSinceTheCallBegan: as far back as the oldest of the batch, and by its own window where that is not known.
func TestF13HomerIsAskedSinceTheCallBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &memory{}
		groupsOf(t, CollectorConfig{Homer: h}, "a", "b")
		if h.since.Unix() != 1_800_000_000 {
			t.Errorf("asked since %v", h.since)
		}
		if ask(t, CollectorConfig{Homer: h}); !h.since.IsZero() {
			t.Errorf("asked since %v, and nothing is known of the call's age", h.since)
		}
	})
}
