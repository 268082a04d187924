package farm

import (
	"net/http"
	"slices"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
)

// on makes a route of a command on a channel that ends with 204.
func (n *node) on(method, path string, command func(r *ari.Request, ch *channel) error) ari.Route {
	return ari.Route{Method: method, Path: "channels/{channelId}/" + path, Do: func(r *ari.Request) (any, error) {
		return nil, n.do(r.Name("channelId"), func(ch *channel) error { return command(r, ch) })
	}}
}

func (n *node) channelRoutes() []ari.Route {
	return []ari.Route{
		{Method: "GET", Path: "channels", Do: func(*ari.Request) (any, error) { return n.allChannels(), nil }},
		{Method: "POST", Path: "channels", Do: n.originate},
		{Method: "POST", Path: "channels/externalMedia", Do: n.externalMedia},
		{Method: "POST", Path: "channels/{channelId}", Do: n.originate},
		{Method: "GET", Path: "channels/{channelId}", Do: func(r *ari.Request) (any, error) {
			for _, ch := range n.allChannels() {
				if ch.ID == r.Name("channelId") {
					return ch, nil
				}
			}
			return nil, ari.Refuse(http.StatusNotFound, "Channel not found")
		}},
		{Method: "DELETE", Path: "channels/{channelId}", Do: n.hangup},
		{Method: "POST", Path: "channels/{channelId}/answer", Do: n.answer},
		{Method: "POST", Path: "channels/{channelId}/ring", Do: func(r *ari.Request) (any, error) { return nil, n.ring(r, true) }},
		{Method: "DELETE", Path: "channels/{channelId}/ring", Do: func(r *ari.Request) (any, error) { return nil, n.ring(r, false) }},
		{Method: "POST", Path: "channels/{channelId}/snoop", Do: n.snoop},
		{Method: "POST", Path: "channels/{channelId}/snoop/{snoopId}", Do: n.snoop},
		{Method: "POST", Path: "channels/{channelId}/redirect", Do: n.redirect},
		{Method: "POST", Path: "channels/{channelId}/transfer_progress", Do: n.transferProgress},
		n.on("POST", "continue", n.goOn),
		{Method: "GET", Path: "channels/{channelId}/variable", Do: n.getVariable},
		n.on("POST", "variable", func(r *ari.Request, ch *channel) error {
			name, value, err := setVariable(ch.vars, r)
			if err == nil {
				n.tell("ChannelVarset", ch, nil, map[string]any{"variable": name, "value": value})
			}
			return err
		}),
		{Method: "GET", Path: "channels/{channelId}/rtp_statistics", Do: func(r *ari.Request) (any, error) {
			var out any
			err := n.do(r.Name("channelId"), func(ch *channel) error {
				out = map[string]any{"txcount": ch.stream.sent.Load(), "rxcount": ch.stream.received.Load(), "local_ssrc": ch.stream.ssrc,
					"rxdropped": ch.stream.dropped.Load(), "channel_uniqueid": ch.id}
				return nil
			})
			return out, err
		}},
	}
}

// hangup ends any channel, also one that no application has.
func (n *node) hangup(r *ari.Request) (any, error) {
	cause, err := ari.HangupCause(r)
	if err != nil {
		return nil, err
	}
	id := r.Name("channelId")
	n.mu.Lock()
	ch := n.channels[id]
	if ch != nil && ch.call == nil {
		n.loseLocked(ch, cause)
		n.mu.Unlock()
		return nil, nil
	}
	n.mu.Unlock()
	if ch != nil {
		n.hangupAsked(ch, cause, map[string]any{"cause": softHangup})
		if ch.call.post(event{kind: evHangup, cause: cause}) {
			return nil, nil
		}
	}
	return nil, ari.Refuse(http.StatusNotFound, "Channel not found")
}

// find is a channel under control, without the lock.
func (n *node) find(r *ari.Request) (*channel, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.channelOf(r.Name("channelId"))
}

func (n *node) answer(r *ari.Request) (any, error) {
	ch, err := n.find(r)
	if err != nil || ch.call == nil {
		return nil, err // external media is up
	}
	return nil, ch.ask(func(c *call, l *leg) {
		if l.incoming && (l.state == legCalling || l.state == legRinging) {
			c.answerCaller()
		}
	})
}

func (n *node) ring(r *ari.Request, on bool) error {
	ch, err := n.find(r)
	if err != nil {
		return err
	}
	if on && ch.call != nil {
		if err := ch.ask(func(c *call, l *leg) {
			if l.incoming && l.state == legCalling {
				l.state = legRinging
				n.farm.respond(l.tx, l.invite, 180, "Ringing", sipmsg.NewHeader("Contact", l.d.contact()), allowHeader())
			}
		}); err != nil {
			return err
		}
	}
	return n.do(ch.id, func(ch *channel) error {
		ch.ringing = on && ch.state == ari.StateUp // before the answer it is the 180, which the answer ends
		n.rewire(ch)
		return nil
	})
}

// goOn hands a channel back to the farm: to the echo or to the music, which are what the dialplan of our nodes has.
func (n *node) goOn(r *ari.Request, ch *channel) error {
	place := strings.ToLower(r.Text("context"))
	switch exten := r.Text("extension"); {
	case strings.Contains(place, placeEcho) || exten == echoNumber:
		place = placeEcho
	case strings.Contains(place, placeMusic) || exten == musicNumber:
		place = placeMusic
	default:
		return ari.Refuse(http.StatusNotFound, "Context or extension not found: contexts echo and music, extensions 600 and 601 are there")
	}
	n.leaveStasis(ch)
	ch.place = place
	n.rewire(ch)
	return nil
}

func (n *node) getVariable(r *ari.Request) (any, error) {
	name := r.Text("variable")
	if name == "" {
		return nil, ari.Refuse(http.StatusBadRequest, "Variable name is required")
	}
	ch, err := n.find(r)
	if err != nil {
		return nil, err
	}
	var fields map[string]string
	if ch.call != nil {
		if err := ch.ask(func(_ *call, l *leg) { fields = l.dialogFields() }); err != nil {
			return nil, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	value, ok := n.variable(ch, fields, name)
	if !ok {
		return nil, ari.Refuse(http.StatusNotFound, "Provided variable was not found")
	}
	return ari.Variable{Value: value}, nil
}

func (n *node) channelMediaRoutes() []ari.Route {
	flag := func(path string, which func(*channel) *bool) []ari.Route {
		set := func(on bool) func(*ari.Request, *channel) error {
			return func(_ *ari.Request, ch *channel) error {
				*which(ch) = on
				n.rewire(ch)
				return nil
			}
		}
		return []ari.Route{n.on("POST", path, set(true)), n.on("DELETE", path, set(false))}
	}
	mute := func(on bool) func(*ari.Request, *channel) error {
		return func(r *ari.Request, ch *channel) error {
			direction := r.Or("direction", "both")
			if !slices.Contains([]string{"in", "out", "both"}, direction) {
				return ari.Refuse(http.StatusBadRequest, "Invalid direction specified")
			}
			if direction != "out" {
				ch.muteIn = on
			}
			if direction != "in" {
				ch.muteOut = on
			}
			n.rewire(ch)
			return nil
		}
	}
	play := func(r *ari.Request) (out any, err error) {
		err = n.do(r.Name("channelId"), func(ch *channel) (err error) { out, err = n.queue(r, ch, nil); return err })
		return out, err
	}
	return slices.Concat(
		flag("hold", func(ch *channel) *bool { return &ch.held }),
		flag("moh", func(ch *channel) *bool { return &ch.moh }),
		flag("silence", func(ch *channel) *bool { return &ch.silent }),
		[]ari.Route{
			n.on("POST", "mute", mute(true)),
			n.on("DELETE", "mute", mute(false)),
			n.on("POST", "dtmf", n.pressKeys),
			{Method: "POST", Path: "channels/{channelId}/play", Do: play},
			{Method: "POST", Path: "channels/{channelId}/play/{playbackId}", Do: play},
			{Method: "POST", Path: "channels/{channelId}/record", Do: func(r *ari.Request) (out any, err error) {
				err = n.do(r.Name("channelId"), func(ch *channel) (err error) { out, err = n.startRecording(r, ch, nil); return err })
				return out, err
			}},
		})
}

// pressKeys is POST dtmf.
func (n *node) pressKeys(r *ari.Request, ch *channel) error {
	keys := strings.ToUpper(r.Text("dtmf"))
	if keys == "" {
		return ari.Refuse(http.StatusBadRequest, "DTMF is required")
	}
	if len(keys) > 64 || strings.Trim(keys, keyNames+"W") != "" {
		return ari.Refuse(http.StatusBadRequest, "DTMF: up to 64 of %sw are allowed", keyNames)
	}
	if ch.keys != nil {
		return ari.Refuse(http.StatusConflict, "Keys are being sent")
	}
	var times [4]time.Duration
	for i, p := range []struct {
		name  string
		other int
	}{{"before", 0}, {"between", 100}, {"duration", 100}, {"after", 0}} {
		ms, err := r.Int(p.name, p.other, 0, 10000)
		if err != nil {
			return err
		}
		times[i] = time.Duration(ms) * time.Millisecond
	}
	ch.keys = newKeySender(keys, times[0], times[1], times[2], times[3])
	n.rewire(ch)
	return nil
}
