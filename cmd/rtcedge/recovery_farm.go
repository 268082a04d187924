package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"rtcedge/bridge"
	"rtcedge/bridge/ari"
	"rtcedge/internal/store"
	"rtcedge/media/ng"
	"rtcedge/recovery"
)

// ariFarm is the farm as recovery wants it, over ARI. What the sentinel knows of a node leads to its client.
type ariFarm struct {
	store    *store.Store
	log      *slog.Logger
	clients  map[string]*ari.Client // by ARI URL without account
	sentinel *recovery.Sentinel

	mu      sync.Mutex
	records map[bridge.NodeID]bridge.Node // as the bridge role has them, or the operator's drain
}

// watch follows what the bridge role says of the nodes. A store that does not answer, a cluster that comes up for instance, is asked again.
func (f *ariFarm) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := f.follow(ctx); err != nil && ctx.Err() == nil {
			f.log.Warn("nodes are not read yet", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	return nil
}

// follow reads until the store says no more.
func (f *ariFarm) follow(ctx context.Context) error {
	nodes, err := f.store.Bucket(ctx, bridge.BucketNodes)
	if err != nil {
		return err
	}
	changes, err := nodes.Watch(ctx, "")
	if err != nil {
		return err
	}
	for entry := range changes {
		var n bridge.Node
		if entry.Key == "" || json.Unmarshal(entry.Value, &n) != nil {
			continue
		}
		f.mu.Lock()
		if f.records == nil {
			f.records = map[bridge.NodeID]bridge.Node{}
		}
		f.records[n.ID] = n
		f.mu.Unlock()
	}
	return nil
}

// Healthy are those that live, are neither drained nor behind a fence, and that the bridge role controls: a channel that is answered before it has the event stream of its
// node (that process's, not the one's before) meets no application, and Asterisk ends it, with a BYE in the dialog.
func (f *ariFarm) Healthy(role string) []bridge.NodeID {
	var out []bridge.NodeID
	f.judge(role, func(node bridge.NodeID, why string) {
		if why == "" {
			out = append(out, node)
		}
	})
	return out
}

func (f *ariFarm) Unfit(role string) map[bridge.NodeID]string {
	out := map[bridge.NodeID]string{}
	f.judge(role, func(node bridge.NodeID, why string) {
		if why != "" {
			out[node] = why
		}
	})
	return out
}

// judge says of each node of a role why it may take no calls; "" if it may.
func (f *ariFarm) judge(role string, say func(node bridge.NodeID, why string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.sentinel.Nodes() {
		rec, known := f.records[n.ID]
		if n.ID == "" || !slices.Contains(n.Roles, role) && !slices.Contains(rec.Roles, role) {
			continue
		}
		switch {
		case n.Verdict != recovery.Alive.String():
			say(n.ID, strings.TrimSuffix(n.Verdict+": "+n.Reason, ": "))
		case rec.Fenced:
			say(n.ID, "fenced")
		case !known, rec.State == bridge.NodeDown, !bridge.SameStart(rec.Epoch, n.Epoch):
			say(n.ID, "the bridge role does not have it yet")
		case rec.State != bridge.NodeUp:
			say(n.ID, rec.State)
		default:
			say(n.ID, "")
		}
	}
}

func (f *ariFarm) Runs(node bridge.NodeID, epoch string) bool {
	return slices.ContainsFunc(f.sentinel.Nodes(), func(n recovery.NodeStatus) bool { return n.ID == node && n.Epoch == epoch && n.Lives() })
}

func (f *ariFarm) Alive(node bridge.NodeID, sip string) bool {
	return slices.ContainsFunc(f.sentinel.Nodes(), func(n recovery.NodeStatus) bool {
		return n.Lives() && (n.ID == node || sip != "" && n.SIP == sip)
	})
}

// Watched goes by the name that a node has told, or by its record in the store, if it was dead when this process started.
func (f *ariFarm) Watched(node bridge.NodeID) bool {
	f.mu.Lock()
	at := f.records[node].ARI
	f.mu.Unlock()
	return f.clients[at] != nil || slices.ContainsFunc(f.sentinel.Nodes(), func(n recovery.NodeStatus) bool { return n.ID == node })
}

func (f *ariFarm) client(node bridge.NodeID) (*ari.Client, error) {
	for _, n := range f.sentinel.Nodes() {
		if n.ID == node {
			return f.clients[n.ARI], nil
		}
	}
	return nil, fmt.Errorf("no node %s", node)
}

func (f *ariFarm) Originate(ctx context.Context, node bridge.NodeID, c recovery.Channel) error {
	client, err := f.client(node)
	if err != nil {
		return err
	}
	_, err = client.Originate(ctx, ari.Originate{Endpoint: c.Endpoint, AppArgs: c.AppArgs, ChannelID: c.ID, Timeout: 30, Variables: c.Variables})
	return err
}

func (f *ariFarm) Exists(ctx context.Context, node bridge.NodeID, channel string) (bool, error) {
	client, err := f.client(node)
	if err != nil {
		return false, err
	}
	_, err = client.Channel(ctx, channel)
	if errors.Is(err, ari.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (f *ariFarm) Hangup(ctx context.Context, node bridge.NodeID, channel string) error {
	client, err := f.client(node)
	if err != nil {
		return err
	}
	if err = client.Hangup(ctx, channel, 16); errors.Is(err, ari.ErrNotFound) {
		return nil
	}
	return err
}

func (f *ariFarm) Clear(ctx context.Context, node bridge.NodeID, kept func(channel string) bool) (ended int, err error) {
	client, err := f.client(node)
	if err != nil {
		return 0, err
	}
	channels, err := client.Channels(ctx)
	if err != nil {
		return 0, err
	}
	for _, ch := range channels {
		if kept(ch.ID) {
			continue
		}
		ended++
		if err := client.Hangup(ctx, ch.ID, 16); err != nil && !errors.Is(err, ari.ErrNotFound) {
			return ended, err
		}
	}
	return ended, nil
}

// ngMedia fills the silence by media's own commands.
type ngMedia struct{ client *ng.Client }

func (m ngMedia) Join(ctx context.Context, one, other recovery.MediaEnd) error {
	return refusal(m.client.Join(ctx, &ng.Request{CallID: one.CallID, FromTag: one.Tag, Answered: one.Answered,
		OtherCallID: other.CallID, OtherTag: other.Tag, OtherAnswered: other.Answered}))
}

func (m ngMedia) Unjoin(ctx context.Context, callID string) error {
	return gone(refusal(m.client.Unjoin(ctx, &ng.Request{CallID: callID})))
}

// gone takes a call that is not there any more for one that needs nothing.
func gone(err error) error {
	if err != nil && strings.Contains(err.Error(), "unknown call-id") {
		return nil
	}
	return err
}

func (m ngMedia) Comfort(ctx context.Context, callID, tag string, on bool) error {
	word := "off"
	if on {
		word = "on"
	}
	err := refusal(m.client.Comfort(ctx, &ng.Request{CallID: callID, FromTag: tag, Comfort: word}))
	if !on {
		err = gone(err)
	}
	return err
}

func (m ngMedia) Heard(ctx context.Context, callID, tag string) (recovery.Heard, error) {
	res, err := m.client.Heard(ctx, &ng.Request{CallID: callID, FromTag: tag})
	if err = refusal(res, err); err != nil {
		return recovery.Heard{}, err
	}
	if res.Heard == nil {
		return recovery.Heard{}, errors.New("the answer to heard is empty")
	}
	return recovery.Heard(*res.Heard), nil
}

func refusal(res *ng.Response, err error) error {
	if err == nil && res.Result != ng.ResultOK {
		return errors.New(cmp.Or(res.ErrorReason, string(res.Result)))
	}
	return err
}

// adminEdge fences by an edge's admin port.
type adminEdge netip.AddrPort

func (a adminEdge) String() string { return netip.AddrPort(a).String() }

func (a adminEdge) Fence(ctx context.Context, sip string) error {
	return post(ctx, netip.AddrPort(a), "/farm/fence", url.Values{"node": {sip}})
}

// Unfence lifts the fence and nothing else: the operator's drain stays. An edge that does not have the node has no fence for it.
func (a adminEdge) Unfence(ctx context.Context, sip string) error {
	if err := post(ctx, netip.AddrPort(a), "/farm/unfence", url.Values{"node": {sip}}); !errors.Is(err, errRefused) {
		return err
	}
	return nil
}

func (a adminEdge) Speak(ctx context.Context, sip string, at netip.AddrPort, message string) error {
	return post(ctx, netip.AddrPort(a), "/farm/speak", url.Values{"node": {sip}, "at": {at.String()}, "message": {message}})
}
