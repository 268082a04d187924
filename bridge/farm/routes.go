package farm

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
)

// Where continue can send a channel, as in the dialplan of our Asterisk nodes.
const (
	placeEcho  = "echo"
	placeMusic = "music"
)

// softHangup is AST_SOFTHANGUP_EXPLICIT, which Asterisk's ChannelHangupRequest shows as cause when ARI hangs up.
const softHangup = 32

// routes is what the farm answers under /ari, by resource.
func (n *node) routes() []ari.Route {
	return slices.Concat(n.infoRoutes(), n.channelRoutes(), n.channelMediaRoutes(), n.bridgeRoutes(), n.playRoutes())
}

func (n *node) infoRoutes() []ari.Route {
	view := control{n.farm}
	return []ari.Route{
		{Method: "GET", Path: "asterisk/info", Do: func(*ari.Request) (any, error) { return view.Info(), nil }},
		{Method: "GET", Path: "asterisk/ping", Do: func(*ari.Request) (any, error) {
			return map[string]any{"asterisk_id": n.farm.nodeID(), "ping": "pong", "timestamp": ari.Time{Time: time.Now()}}, nil
		}},
		{Method: "GET", Path: "asterisk/variable", Do: func(r *ari.Request) (any, error) {
			name := r.Text("variable")
			if name == "" {
				return nil, ari.Refuse(http.StatusBadRequest, "Variable name is required")
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			function, arg, ok := strings.Cut(strings.TrimSuffix(name, ")"), "(")
			value := n.globals[name]
			if ok {
				value, _ = n.function(function, arg)
			}
			return ari.Variable{Value: value}, nil // Asterisk answers with an empty value, too, if there is none
		}},
		{Method: "POST", Path: "asterisk/variable", Do: func(r *ari.Request) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			_, _, err := setVariable(n.globals, r)
			return nil, err
		}},
		{Method: "GET", Path: "asterisk/config/dynamic/{configClass}/{objectType}/{id}", Do: n.configObject},
		{Method: "GET", Path: "endpoints", Do: func(*ari.Request) (any, error) { return n.endpoints(), nil }},
		{Method: "GET", Path: "endpoints/{tech}", Do: func(r *ari.Request) (any, error) {
			if !strings.EqualFold(r.Name("tech"), "PJSIP") {
				return nil, ari.Refuse(http.StatusNotFound, "No Endpoints found - invalid tech")
			}
			return n.endpoints(), nil
		}},
		{Method: "GET", Path: "endpoints/{tech}/{resource}", Do: func(r *ari.Request) (any, error) {
			for _, e := range n.endpoints() {
				if strings.EqualFold(r.Name("tech"), e.Technology) && e.Resource == r.Name("resource") {
					return e, nil
				}
			}
			return nil, ari.Refuse(http.StatusNotFound, "Endpoint not found")
		}},
	}
}

// endpoints are the registered users and the edge.
func (n *node) endpoints() []ari.Endpoint {
	out := control{n.farm}.Endpoints(n.allChannels())
	edge := ari.Endpoint{Technology: "PJSIP", Resource: edgeEndpoint, State: ari.EndpointOnline, ChannelIDs: []string{}}
	return append(out, edge)
}

// allChannels are those of applications, then those of the farm's own calls.
func (n *node) allChannels() []ari.Channel {
	out := []ari.Channel{}
	n.mu.Lock()
	for _, ch := range n.sorted() {
		out = append(out, ch.shown())
	}
	n.mu.Unlock()
	return append(out, control{n.farm}.Channels()...)
}

func (n *node) allBridges() []ari.Bridge {
	out := []ari.Bridge{}
	n.mu.Lock()
	for _, b := range n.sortedBridges() {
		out = append(out, b.shown())
	}
	n.mu.Unlock()
	return append(out, control{n.farm}.Bridges()...)
}

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

// hangup ends any channel, also one of the farm's own calls: a call ends at one participant.
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
	switch {
	case ch != nil:
		n.hangupAsked(ch, cause, map[string]any{"cause": softHangup})
		if ch.call.post(event{kind: evHangup, leg: ch.leg, cause: cause}) {
			return nil, nil
		}
	case control{n.farm}.Hangup(id, cause):
		return nil, nil
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
		if l.incoming && (l.state == legCalling || l.state == legRinging) && c.answerCaller() {
			n.mu.Lock()
			n.become(ch, ari.StateUp)
			n.rewire(ch)
			n.mu.Unlock()
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
		ch.ringing = on
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

// bridgeOf finds a bridge that ARI has made.
func (n *node) bridgeOf(r *ari.Request) (*bridge, error) {
	id := r.Name("bridgeId")
	if b := n.bridges[id]; b != nil {
		return b, nil
	}
	for _, b := range (control{n.farm}).Bridges() {
		if b.ID == id {
			return nil, ari.Refuse(http.StatusConflict, "Bridge not in Stasis application")
		}
	}
	return nil, ari.Refuse(http.StatusNotFound, "Bridge not found")
}

func (n *node) bridgeRoutes() []ari.Route {
	on := func(method, path string, command func(r *ari.Request, b *bridge) (any, error)) ari.Route {
		return ari.Route{Method: method, Path: "bridges/{bridgeId}" + path, Do: func(r *ari.Request) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			b, err := n.bridgeOf(r)
			if err != nil {
				return nil, err
			}
			return command(r, b)
		}}
	}
	moh := func(on bool) func(*ari.Request, *bridge) (any, error) {
		return func(_ *ari.Request, b *bridge) (any, error) {
			b.moh = on
			b.rewire()
			return nil, nil
		}
	}
	play := func(r *ari.Request, b *bridge) (any, error) { return n.queue(r, nil, b) }
	return []ari.Route{
		{Method: "GET", Path: "bridges", Do: func(*ari.Request) (any, error) { return n.allBridges(), nil }},
		{Method: "POST", Path: "bridges", Do: n.createBridge},
		{Method: "POST", Path: "bridges/{bridgeId}", Do: n.createBridge},
		{Method: "GET", Path: "bridges/{bridgeId}", Do: func(r *ari.Request) (any, error) {
			for _, b := range n.allBridges() {
				if b.ID == r.Name("bridgeId") {
					return b, nil
				}
			}
			return nil, ari.Refuse(http.StatusNotFound, "Bridge not found")
		}},
		on("DELETE", "", func(_ *ari.Request, b *bridge) (any, error) { n.destroy(b); return nil, nil }),
		on("POST", "/addChannel", n.addChannel),
		on("POST", "/removeChannel", n.removeChannel),
		on("POST", "/moh", moh(true)),
		on("DELETE", "/moh", moh(false)),
		on("POST", "/play", play),
		on("POST", "/play/{playbackId}", play),
		on("POST", "/record", func(r *ari.Request, b *bridge) (any, error) { return n.startRecording(r, nil, b) }),
	}
}

// createBridge is POST /bridges; with the name of a bridge that is there it is that one.
func (n *node) createBridge(r *ari.Request) (any, error) {
	id := r.Name("bridgeId")
	if id == "" {
		id = r.Text("bridgeId")
	}
	kinds := strings.Split(r.Or("type", "mixing"), ",")
	kind := "mixing"
	for _, k := range kinds {
		switch k {
		case "holding":
			kind = k
		case "mixing", "dtmf_events", "proxy_media":
		default:
			return nil, ari.Refuse(http.StatusBadRequest, "Invalid bridge type %q: mixing, holding, dtmf_events and proxy_media are allowed", k)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case id != "" && n.bridges[id] != nil:
		return n.bridges[id].shown(), nil
	case len(n.bridges) >= maxBridges || n.closed:
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Too many bridges: %d are allowed", maxBridges)
	case id == "":
		id = n.farm.newID()
	}
	b := &bridge{id: id, name: r.Text("name"), kind: kind, created: time.Now()}
	b.rewire()
	n.bridges[id] = b
	n.publishMediaLocked()
	n.tell("BridgeCreated", nil, b, nil)
	return b.shown(), nil
}

// membersOf finds all channels of a request, or none.
func (n *node) membersOf(r *ari.Request) ([]*channel, error) {
	ids := r.List("channel")
	if len(ids) == 0 {
		return nil, ari.Refuse(http.StatusBadRequest, "Missing parameter channel")
	}
	out := make([]*channel, len(ids))
	for i, id := range ids {
		ch, err := n.channelOf(id)
		if err != nil {
			status, message := http.StatusBadRequest, "Channel not found"
			if n.legacy(id) || n.channels[id] != nil {
				status, message = http.StatusUnprocessableEntity, "Channel not in Stasis application"
			}
			return nil, ari.Refuse(status, "%s", message)
		}
		out[i] = ch
	}
	return out, nil
}

func (n *node) addChannel(r *ari.Request, b *bridge) (any, error) {
	chs, err := n.membersOf(r)
	if err != nil {
		return nil, err
	}
	if len(b.members)+len(chs) > maxMembers {
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Too many channels in the bridge: %d are allowed", maxMembers)
	}
	for _, ch := range chs {
		if r.Bool("mute") {
			ch.muteIn = true
		}
		n.putIn(ch, b)
	}
	return nil, nil
}

func (n *node) removeChannel(r *ari.Request, b *bridge) (any, error) {
	chs, err := n.membersOf(r)
	if err != nil {
		return nil, err
	}
	for _, ch := range chs {
		if ch.bridge != b {
			return nil, ari.Refuse(http.StatusUnprocessableEntity, "Channel not in this bridge")
		}
	}
	for _, ch := range chs {
		n.takeOut(ch)
	}
	return nil, nil
}

func (n *node) playRoutes() []ari.Route {
	played := func(method, path string, command func(r *ari.Request, p *playback) (any, error)) ari.Route {
		return ari.Route{Method: method, Path: "playbacks/{playbackId}" + path, Do: func(r *ari.Request) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			p := n.plays[r.Name("playbackId")]
			if p == nil {
				return nil, ari.Refuse(http.StatusNotFound, "Playback not found")
			}
			return command(r, p)
		}}
	}
	// A recording is over when its file is complete: that is waited for without the lock.
	live := func(method, path string, command func(rec *recording) (wait bool)) ari.Route {
		return ari.Route{Method: method, Path: "recordings/live/{recordingName}" + path, Do: func(r *ari.Request) (any, error) {
			n.mu.Lock()
			rec := n.live[r.Name("recordingName")]
			if rec == nil {
				n.mu.Unlock()
				return nil, ari.Refuse(http.StatusNotFound, "Recording not found")
			}
			wait := command(rec)
			shown := rec.shown()
			n.mu.Unlock()
			if wait {
				<-rec.finished
			}
			if method == "GET" {
				return shown, nil
			}
			return nil, nil
		}}
	}
	finish := func(state string) func(*recording) bool {
		return func(rec *recording) bool { n.finishRecording(rec, state); return true }
	}
	pause := func(on bool, state string) func(*recording) bool {
		return func(rec *recording) bool {
			rec.paused.Store(on)
			rec.state = state
			return false
		}
	}
	mute := func(on bool) func(*recording) bool {
		return func(rec *recording) bool { rec.muted.Store(on); return false }
	}
	stored := func(method, path string, command func(name, file string) (any, error)) ari.Route {
		return ari.Route{Method: method, Path: "recordings/stored/{recordingName}" + path, Do: func(r *ari.Request) (any, error) {
			n.mu.Lock()
			file, err := n.storedPath(r.Name("recordingName"))
			n.mu.Unlock()
			if err != nil {
				return nil, err
			}
			return command(r.Name("recordingName"), file)
		}}
	}
	return []ari.Route{
		played("GET", "", func(_ *ari.Request, p *playback) (any, error) { return p.shown(), nil }),
		played("DELETE", "", func(_ *ari.Request, p *playback) (any, error) { n.finishPlayback(p, ari.PlaybackDone); return nil, nil }),
		played("POST", "/control", func(r *ari.Request, p *playback) (any, error) { return nil, n.control(p, r.Text("operation")) }),
		live("GET", "", func(*recording) bool { return false }),
		live("DELETE", "", finish(ari.RecordingCanceled)),
		live("POST", "/stop", finish(ari.RecordingDone)),
		live("POST", "/pause", pause(true, ari.RecordingPaused)),
		live("DELETE", "/pause", pause(false, ari.RecordingRecording)),
		live("POST", "/mute", mute(true)),
		live("DELETE", "/mute", mute(false)),
		{Method: "GET", Path: "recordings/stored", Do: func(*ari.Request) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.storedRecordings(), nil
		}},
		stored("GET", "", func(name, _ string) (any, error) { return ari.StoredRecording{Name: name, Format: "wav"}, nil }),
		stored("DELETE", "", func(_, file string) (any, error) {
			if err := os.Remove(file); err != nil {
				return nil, ari.Refuse(http.StatusNotFound, "Recording not found")
			}
			return nil, nil
		}),
		stored("GET", "/file", func(_, file string) (any, error) {
			f, err := os.Open(file)
			if err != nil {
				return nil, ari.Refuse(http.StatusNotFound, "Recording not found")
			}
			info, err := f.Stat()
			if err != nil {
				_ = f.Close() // only read
				return nil, ari.Refuse(http.StatusNotFound, "Recording not found")
			}
			return &ari.File{Type: "audio/wav", Size: info.Size(), Body: f}, nil
		}),
	}
}
