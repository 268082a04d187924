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
	stranger bool          // it does not take the token
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
	if m.stranger {
		return nil, fmt.Errorf("ask: %w", homer.ErrToken)
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
