package farm

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
)

// application is the one whose open event socket makes the farm hand its calls over: the contract with the bridge role.
const application = "rtcedge"

// Limits of what ARI can ask for, chosen by us. Channels are limited by Config.MaxCalls.
const (
	maxBridges    = 2000
	maxPlaybacks  = 2000
	maxRecordings = 500
	maxVariables  = 100  // of one channel
	maxMembers    = 1000 // of one bridge
)

// node is the farm as ARI commands it: channels, bridges, playbacks and recordings. Its one lock also orders the events, so
// that a client sees them in the order in which things happened.
type node struct {
	farm  *Farm
	ended chan func() // what the clock and the readers want done under the lock

	// media is what the clock drives; replaced, never changed.
	media atomic.Pointer[nodeMedia]

	mu       sync.Mutex // guards the rest; see the package doc for the order of locks
	channels map[string]*channel
	bridges  map[string]*bridge
	plays    map[string]*playback
	live     map[string]*recording
	globals  map[string]string
	folder   string // of recordings; "" until the first one
	closed   bool   // nothing new is made any more
}

type nodeMedia struct {
	channels []*channel
	bridges  []*bridge
}

func newNode(f *Farm) *node {
	n := &node{
		farm: f, ended: make(chan func(), 1024),
		channels: map[string]*channel{}, bridges: map[string]*bridge{},
		plays: map[string]*playback{}, live: map[string]*recording{},
		folder: f.cfg.RecordingDir,
	}
	n.media.Store(new(nodeMedia))
	return n
}

// name fills in the globals that say what the farm is; its addresses are known by now.
func (n *node) name() {
	roles := make([]string, len(n.farm.cfg.Roles))
	for i, r := range n.farm.cfg.Roles {
		roles[i] = string(r)
	}
	edge := ""
	if n.farm.cfg.Edge.IsValid() {
		edge = n.farm.cfg.Edge.String()
	}
	n.globals = map[string]string{"RTCEDGE_ROLES": strings.Join(roles, ","), "RTCEDGE_SIP": n.farm.Addrs()[0], "RTCEDGE_EDGE": edge}
}

// takes tells if calls are handed to the application.
func (n *node) takes() bool { return n != nil && n.farm.ari.Active(application) }

// run does what clock and readers have left to it.
func (n *node) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case do := <-n.ended:
			n.mu.Lock()
			do()
			n.mu.Unlock()
		}
	}
}

// later asks for something to be done under the lock; false: ask again, too much is waiting.
func (n *node) later(do func()) bool {
	select {
	case n.ended <- do:
		return true
	default:
		return false
	}
}

// tick is 20 ms of all channels and bridges: hear everybody, mix, speak to everybody.
func (n *node) tick(melody [][mixer.FrameSamples]byte) {
	m := n.media.Load()
	for _, ch := range m.channels {
		ch.hear()
	}
	for _, b := range m.bridges {
		b.tick(n, melody)
	}
	for _, ch := range m.channels {
		ch.speak(melody)
	}
	for _, ch := range m.channels {
		ch.listen()
	}
}

// publishMediaLocked shows the clock what is there.
func (n *node) publishMediaLocked() {
	m := &nodeMedia{channels: slices.Collect(maps.Values(n.channels))}
	for _, b := range n.bridges {
		m.bridges = append(m.bridges, b)
	}
	n.media.Store(m)
}

// tell publishes an event of a channel, and of the bridge that it concerns.
func (n *node) tell(kind string, ch *channel, b *bridge, extra map[string]any) {
	fields := map[string]any{}
	maps.Copy(fields, extra)
	var sources []string
	if ch != nil {
		fields["channel"] = ch.shown()
		sources = append(sources, "channel:"+ch.id)
	}
	if b != nil {
		fields["bridge"] = b.shown()
		sources = append(sources, "bridge:"+b.id)
	}
	n.farm.ari.Publish(kind, fields, sources...)
}

// channelOf finds a channel that an application controls, with Asterisk's refusals (find_control in resource_channels.c).
func (n *node) channelOf(id string) (*channel, error) {
	ch := n.channels[id]
	switch {
	case ch == nil:
		return nil, ari.Refuse(http.StatusNotFound, "Channel not found")
	case ch.app == "" || !ch.stasis:
		return nil, ari.Refuse(http.StatusConflict, "Channel not in Stasis application")
	}
	return ch, nil
}

// do runs a command on a channel under the lock.
func (n *node) do(id string, command func(*channel) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	ch, err := n.channelOf(id)
	if err != nil {
		return err
	}
	return command(ch)
}

// ask runs something on the goroutine of the channel's call, without the lock, and waits for it.
func (ch *channel) ask(do func(c *call, l *leg)) error {
	if ch.call == nil {
		return ari.Refuse(http.StatusConflict, "Channel in invalid state")
	}
	done := make(chan struct{})
	if !ch.call.post(event{kind: evDo, do: func() { do(ch.call, ch.leg); close(done) }}) {
		return ari.Refuse(http.StatusNotFound, "Channel not found")
	}
	<-done
	return nil
}

// close ends what no call owns, when Run ends.
func (n *node) close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, ch := range n.sorted() {
		n.loseLocked(ch, causeNormal)
	}
	for _, b := range n.sortedBridges() {
		n.destroy(b)
	}
}
