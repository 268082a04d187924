package farm

import (
	"net/http"
	"os"
	"strings"
	"time"

	"rtcedge/bridge/ari"
)

// bridgeOf finds a bridge that ARI has made.
func (n *node) bridgeOf(r *ari.Request) (*bridge, error) {
	id := r.Name("bridgeId")
	if b := n.bridges[id]; b != nil {
		return b, nil
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
		return nil, ari.Refuse(http.StatusConflict, "Bridge with id '%s' already exists", id)
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
			if n.channels[id] != nil {
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
		ch.absorb = r.Bool("absorbDTMF")
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
