package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/bridge"
	"rtcedge/internal/store"
	"rtcedge/internal/testrun"
)

// world is what a recoverer acts on: a real store, and farm nodes whose phones answer as the script of a Call-ID says. It does with a
// StasisStart what the bridge role does: it moves the leg in the record.
type world struct {
	t     *testing.T
	calls *store.Bucket
	store *store.Store

	mu      sync.Mutex
	healthy map[bridge.NodeID]bool
	script  map[string][]int // by Call-ID: the phone's answers, one per INVITE; then 200. 0: never
	cseq    map[string]uint32
	final   map[string]int // by Call-ID and CSeq
	invites map[string][]string
	fenced  []string
	joined  []string
	hungUp  []string
	lost    map[string]error // dialogs that cannot be rebuilt
	onAsk   func(node bridge.NodeID)
	channel map[string]bridge.NodeID
	clear   error
	cleared int
	old     []string               // channels that a node still has when it comes back
	over    []string               // those that were ended
	living  map[string]bool        // SIP addresses
	ended   string                 // epoch of a process that is gone, though its node lives
	slow    time.Duration          // phones answer so much later
	slowly  map[string]bool        // Call-IDs that only HOMER knows
	homer   chan struct{}          // closed when HOMER answers
	stop    func()                 // the recoverer that was started last
	answers map[string][]time.Time // of phones to recovery INVITEs, by Call-ID
	mute    bool                   // the farm says nothing behind them
	deaf    map[string]error       // calls that media does not know
	onJoin  func(context.Context)
	order   []string          // Call-IDs, as they were asked for
	refuses map[string]error  // what nodes say to being asked for a Call-ID
	role    string            // of the legs that put writes; bridge.LegIn if it is ""
	known   bool              // dialogs of lost can be ended
	noise   map[string][]bool // by Call-ID: comfort noise turned on and off
	spoken  []string          // in place of dead nodes
}

func emptyWorld(t *testing.T, nodes ...bridge.NodeID) *world {
	t.Helper()
	w := &world{t: t, healthy: map[bridge.NodeID]bool{}, script: map[string][]int{}, cseq: map[string]uint32{}, final: map[string]int{},
		invites: map[string][]string{}, lost: map[string]error{}, channel: map[string]bridge.NodeID{},
		answers: map[string][]time.Time{}, deaf: map[string]error{}, refuses: map[string]error{}, noise: map[string][]bool{}}
	for _, n := range nodes {
		w.healthy[n] = true
	}
	return w
}

func newWorld(t *testing.T, nodes ...bridge.NodeID) *world {
	t.Helper()
	w := emptyWorld(t, nodes...)
	var err error
	if w.store, err = store.New(store.Config{}); err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, w.store.Run)
	if w.calls, err = w.store.Bucket(t.Context(), bridge.BucketCalls); err != nil {
		t.Fatal(err)
	}
	return w
}

// put writes a call of legs that live on a node; a leg's Call-ID is its own id.
func (w *world) put(call string, node bridge.NodeID, conference string, legs ...string) {
	w.t.Helper()
	c := bridge.Call{ID: call, Node: node, Conference: conference, Created: time.Now()}
	for _, id := range legs {
		c.Legs = append(c.Legs, bridge.Leg{ID: id, Node: node, SIPCallID: "sip-" + id, State: bridge.LegUp, Role: cmp.Or(w.role, bridge.LegIn), Answered: time.Now()})
	}
	value, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.calls.Put(w.t.Context(), call, value); err != nil {
		w.t.Fatal(err)
	}
}

// lookedAfter waits until the one leg of a crash has an entry of its own.
func (w *world) lookedAfter(d Death) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, legs, err := readReport(w.t.Context(), w.bucket(BucketCrashLegs), d.key()); err == nil && len(legs) == 1 {
			return
		}
		if time.Now().After(end) {
			w.t.Fatal("nobody looks after the leg")
		}
	}
}

func (w *world) read(call string) bridge.Call {
	w.t.Helper()
	var c bridge.Call
	e, err := w.calls.Get(w.t.Context(), call)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(e.Value, &c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) Dialogs(ctx context.Context, sip string, legs []Asked) iter.Seq[map[string]Rebuilt] {
	return func(yield func(map[string]Rebuilt) bool) {
		now := w.dialogs(legs)
		late := map[string]Rebuilt{}
		for id := range w.slowly {
			if b, ok := now[id]; ok {
				late[id] = b
				delete(now, id)
			}
		}
		if !yield(now) || len(late) == 0 {
			return
		}
		select {
		case <-w.homer:
		case <-ctx.Done(): // HOMER was not heard to the end
			for id := range late {
				late[id] = Rebuilt{Err: refuse(ReasonNoMessages, "HOMER: %v", ctx.Err())}
			}
		}
		yield(late)
	}
}

func (w *world) dialogs(legs []Asked) map[string]Rebuilt {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]Rebuilt{}
	for _, l := range legs {
		id := l.CallID
		n := w.cseq[id] + 1
		out[id] = Rebuilt{RequestURI: "sip:phone@192.0.2.1", RemoteTag: "far", CSeq: n, Err: w.lost[id], Source: SourceOwn,
			Variables: map[string]string{"PJSIP_RECOVERY_CALL-ID": id, "PJSIP_RECOVERY_CSEQ": fmt.Sprint(n), "PJSIP_RECOVERY_FROM_URI": "sip:farm@192.0.2.9",
				"PJSIP_RECOVERY_FROM_TAG": "near", "PJSIP_RECOVERY_TO_URI": "sip:phone@192.0.2.1", "PJSIP_RECOVERY_TO_TAG": "far", "PJSIP_RECOVERY_ROUTES": "<sip:edge;lr>"}}
		if w.lost[id] != nil && !w.known {
			out[id] = Rebuilt{Err: w.lost[id]}
		}
	}
	return out
}

func (w *world) Fresh(_ context.Context, _ string, leg Asked) (Rebuilt, bool) {
	return w.dialogs([]Asked{leg})[leg.CallID], true
}

func (w *world) Alive(node bridge.NodeID, sip string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.healthy[node] || w.living[sip]
}

func (w *world) Runs(node bridge.NodeID, epoch string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.healthy[node] && epoch != w.ended
}

func (w *world) Watched(node bridge.NodeID) bool { return !strings.HasPrefix(string(node), "foreign") }

// Heard knows one answer before the recovery INVITE's and one per answer, behind each of which the farm speaks, if it does.
func (w *world) Heard(_ context.Context, id, _ string) (Heard, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf[id] != nil {
		return Heard{}, w.deaf[id]
	}
	h := Heard{Answered: int64(len(w.answers[id]) + 1), Age: time.Hour, Since: time.Hour}
	if n := len(w.answers[id]); n > 0 {
		h.Age = time.Since(w.answers[id][n-1])
		if h.Since = h.Age; w.mute {
			h.Since = -1
		}
	}
	return h, nil
}

func (w *world) Final(_ context.Context, id string, cseq uint32) (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	status, ok := w.final[fmt.Sprint(id, " ", cseq)]
	return status, ok
}

func (w *world) Healthy(string) []bridge.NodeID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []bridge.NodeID
	for n, ok := range w.healthy {
		if ok {
			out = append(out, n)
		}
	}
	return out
}

func (w *world) Unfit(string) map[bridge.NodeID]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[bridge.NodeID]string{}
	for n, ok := range w.healthy {
		if !ok {
			out[n] = "dead"
		}
	}
	return out
}

func (w *world) Originate(ctx context.Context, node bridge.NodeID, c Channel) error {
	w.mu.Lock()
	if !w.healthy[node] {
		w.mu.Unlock()
		return errors.New("connection refused")
	}
	id := c.Variables["PJSIP_RECOVERY_CALL-ID"]
	n, _ := strconv.Atoi(c.Variables["PJSIP_RECOVERY_CSEQ"])
	w.cseq[id] = uint32(n)
	w.invites[id] = append(w.invites[id], fmt.Sprintf("%d %s %s", n, c.ID, node))
	w.order = append(w.order, id)
	if err := w.refuses[id]; err != nil {
		w.mu.Unlock()
		return err
	}
	status := 200
	if s := w.script[id]; len(s) > 0 {
		status, w.script[id] = s[0], s[1:]
	}
	w.final[fmt.Sprint(id, " ", n)] = status
	if status == 0 {
		delete(w.final, fmt.Sprint(id, " ", n))
	}
	hook := w.onAsk
	if status < 300 {
		w.channel[c.ID] = node
	}
	w.mu.Unlock()
	if hook != nil {
		hook(node)
	}
	if status != 200 {
		return nil
	}
	if !slices.Contains(w.Healthy(""), node) {
		return nil // it died with the INVITE on its way
	}
	args := strings.Split(c.AppArgs, ",")
	if w.slow > 0 {
		time.AfterFunc(w.slow, func() { _ = w.answer(node, c, args) })
		return nil
	}
	return w.answer(node, c, args)
}

// answer is what the bridge role does with the StasisStart, whether or not the controller lives.
func (w *world) answer(node bridge.NodeID, c Channel, args []string) error {
	w.mu.Lock()
	id := c.Variables["PJSIP_RECOVERY_CALL-ID"]
	w.answers[id] = append(w.answers[id], time.Now())
	w.mu.Unlock()
	return w.calls.Modify(context.WithoutCancel(w.t.Context()), args[1], func(old []byte) ([]byte, error) {
		var call bridge.Call
		if err := json.Unmarshal(old, &call); err != nil {
			return nil, err
		}
		call.Node = node
		for i := range call.Legs {
			if l := &call.Legs[i]; l.ID == args[2] {
				l.ID, l.Node, l.State = c.ID, node, bridge.LegUp
				_, _ = fmt.Sscanf(c.ID, bridge.BaseID(c.ID)+"r%d", &l.Generation)
			}
		}
		return json.Marshal(call)
	})
}

func (w *world) Exists(_ context.Context, node bridge.NodeID, channel string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.healthy[node] {
		return false, errors.New("connection refused")
	}
	return w.channel[channel] == node, nil
}

func (w *world) Hangup(_ context.Context, _ bridge.NodeID, channel string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hungUp = append(w.hungUp, channel)
	return nil
}

func (w *world) Clear(_ context.Context, _ bridge.NodeID, kept func(string) bool) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cleared++
	if w.clear != nil {
		return 0, w.clear
	}
	before := len(w.old)
	w.old = slices.DeleteFunc(w.old, func(id string) bool {
		if !kept(id) {
			w.over = append(w.over, id)
		}
		return !kept(id)
	})
	return before - len(w.old), nil
}

func (w *world) Fence(_ context.Context, sip string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.fenced, sip) {
		w.fenced = append(w.fenced, sip)
	}
	return nil
}

func (w *world) String() string { return "edge" }

func (w *world) Unfence(_ context.Context, sip string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fenced = slices.DeleteFunc(w.fenced, func(s string) bool { return s == sip })
	return nil
}

// Join is refused behind an answer, as media does; onJoin may take its time before.
func (w *world) Join(ctx context.Context, a, b MediaEnd) error {
	if w.onJoin != nil {
		w.onJoin(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, end := range []MediaEnd{a, b} {
		if end.Answered != int64(len(w.answers[end.CallID])+1) {
			return errors.New("another answer")
		}
	}
	w.joined = append(w.joined, a.CallID+" "+b.CallID)
	return ctx.Err()
}

func (w *world) Unjoin(_ context.Context, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joined = slices.DeleteFunc(w.joined, func(pair string) bool { return slices.Contains(strings.Fields(pair), id) })
	return nil
}

func (w *world) Comfort(_ context.Context, id, _ string, on bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noise[id] = append(w.noise[id], on)
	return nil
}

func (w *world) Speak(_ context.Context, sip string, _ netip.AddrPort, message string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoken = append(w.spoken, sip+" "+message)
	return nil
}

// words counts what was said for dead nodes of a method or status, by Call-ID.
func (w *world) words(what string) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, text := range w.spoken {
		_, message, _ := strings.Cut(text, " ")
		if _, id, ok := strings.Cut(message, "Call-ID: "); ok && strings.HasPrefix(message, what+" ") {
			id, _, _ = strings.Cut(id, "\r\n")
			out[id]++
		}
	}
	return out
}

// recoverer runs one over the world.
func (w *world) recoverer(cfg Config) *Recoverer {
	w.t.Helper()
	cfg.Store, cfg.History, cfg.Farm, cfg.Media, cfg.Edges = w.store, w, w, w, append([]Edge{w}, cfg.Edges...)
	r, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	r.byes, r.every, r.blind = 400*time.Millisecond, 50*time.Millisecond, 600*time.Millisecond // nobody waits for half a minute here
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(w.stop)
	return r
}

// eventually waits for what has to come.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		yes := ok()
		w.mu.Unlock()
		if yes {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (w *world) set(node bridge.NodeID, healthy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.healthy[node] = healthy
}

// crash waits until the crash of a node is done, and returns the result of each leg's Call-ID.
func (w *world) crash(r *Recoverer, node bridge.NodeID, epoch string) map[string]LegReport {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		all, err := r.Crashes(w.t.Context(), Query{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, c := range all {
			if c.Node == node && c.Epoch == epoch && !c.Done.IsZero() {
				out := map[string]LegReport{}
				for _, l := range c.Legs {
					out[l.SIPCallID] = l
				}
				return out
			}
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("crash of %s is not done: %+v", node, all)
		}
	}
}

func death(node bridge.NodeID, epoch string) Death {
	return Death{Node: node, Epoch: epoch, SIP: "udp:192.0.2.9:5080", Since: time.Now(), At: time.Now(), Reason: "killed"}
}

// until waits for what w.mu guards.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(end) {
			w.t.Errorf("not so: %s", what)
			return
		}
	}
}
