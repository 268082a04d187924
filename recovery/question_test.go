package recovery

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rtcedge/internal/testrun"
	"rtcedge/recovery/hep"
	"rtcedge/recovery/homer"
)

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

// TestF13HomerOverHTTP: the real client and the real API, in a batch. A wrong token refuses what only HOMER knows, and nothing else; a HOMER that fails when
// it is asked for the last time is asked once more.
func TestF13HomerOverHTTP(t *testing.T) {
	ev := playOf(t, "testdata/b46.txt", "confirmed, the node called")
	kept := homer.NewStore(homer.StoreConfig{})
	var ids []string
	for i := range 250 {
		id := fmt.Sprint("far", i)
		ids = append(ids, id)
		for _, m := range of(ev, id) {
			kept.Add(hep.Packet{Source: m.Source, Destination: m.Destination, Time: m.Time.Add(time.Since(ev.Messages[0].Time) - time.Minute), Protocol: hep.SIP, Payload: []byte(m.Raw)})
		}
	}
	api, err := homer.NewAPI(homer.APIConfig{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Token: "right", Store: kept})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, api.Run)
	near := &memory{messages: of(ev, "near")}
	for _, token := range []string{"right", "wrong"} {
		client, err := homer.NewClient(homer.ClientConfig{URL: "http://" + api.Addr().String(), Token: token})
		if err != nil {
			t.Fatal(err)
		}
		groups, _ := groupsOf(t, CollectorConfig{Own: near, Homer: client, Lag: -1}, append(ids, "near")...)
		if len(groups) != 2 || len(groups[0].told) != 1 || groups[0].told["near"].Err != nil || len(groups[1].told) != 250 {
			t.Fatalf("%s token: %d groups", token, len(groups))
		}
		for id, b := range groups[1].told {
			if token == "right" && (b.Err != nil || b.Variables["PJSIP_RECOVERY_CALL-ID"] != id) {
				t.Fatalf("%s: %+v", id, b)
			}
			if token == "wrong" && (b.Err == nil || b.Err.Error() != "no_messages: none of the Call-ID is from or to the node; HOMER: "+homer.ErrToken.Error()) {
				t.Fatalf("%s: %+v", id, b)
			}
		}
	}
}

// TestF13HomerFailsOnce in the moment in which its lag is over; a wrong token is not tried again.
func TestF13HomerFailsOnce(t *testing.T) {
	ev := playOf(t, "testdata/b46.txt", "confirmed, the node called")
	synctest.Test(t, func(t *testing.T) {
		h := &memory{messages: remember(ev)}
		for after, away := range map[time.Duration]bool{3900 * time.Millisecond: true, 4200 * time.Millisecond: false} {
			time.AfterFunc(after, func() {
				h.mu.Lock()
				h.away = away
				h.mu.Unlock()
			})
		}
		if r, _ := ask(t, CollectorConfig{Homer: h}); r.Err != nil || h.asked != 2 {
			t.Errorf("%v, asked %d times", r.Err, h.asked)
		}
		h = &memory{stranger: true}
		if r, _ := ask(t, CollectorConfig{Homer: h}); r.Err == nil || h.asked != 1 {
			t.Errorf("a wrong token: %v, asked %d times", r.Err, h.asked)
		}
	})
}

// TestF13WhatHomerToldIsBounded: it is kept for legs that are under way, not for ever.
func TestF13WhatHomerToldIsBounded(t *testing.T) {
	c, err := NewCollector(CollectorConfig{Homer: &memory{}})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1<<20)
	for i := range 200 {
		c.tell(fmt.Sprint(i), []Message{{Raw: long}})
	}
	kept := 0
	for _, k := range c.known {
		kept += len(k.told)
	}
	if kept == 0 || kept > maxTold>>20 || c.told("199") == nil {
		t.Errorf("%d MiB are kept", kept)
	}
}
