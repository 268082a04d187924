package farm

import (
	"net/http"
	"slices"
	"sync"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
)

// playback is one or several media that a channel or a bridge hears, one playback after the other.
type playback struct {
	// Constant.
	id     string
	media  []string
	ch     *channel // or
	bridge *bridge
	skip   int // samples of forward and reverse
	offset int // samples at the start

	// Guarded by node.mu.
	state string
	index int

	mu     sync.Mutex // guards the rest: the clock plays, ARI winds
	clip   clip
	paused bool
}

// next is 20 ms of the playback.
func (p *playback) next(out *mixer.Frame, melody [][mixer.FrameSamples]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clip == nil || p.paused {
		*out = mixer.Frame{}
		return true
	}
	return p.clip.next(out, melody) // at its end it stays there, silent, until the next one is put in its place
}

func (p *playback) target() string {
	if p.ch != nil {
		return "channel:" + p.ch.id
	}
	return "bridge:" + p.bridge.id
}

// shown is the playback in Asterisk's shape.
func (p *playback) shown() ari.Playback {
	out := ari.Playback{ID: p.id, MediaURI: p.media[p.index], TargetURI: p.target(), Language: "en", State: p.state}
	if p.index+1 < len(p.media) {
		out.NextMediaURI = p.media[p.index+1]
	}
	return out
}

func (n *node) tellPlayback(kind string, p *playback) {
	sources := []string{p.target()}
	if p.ch != nil && p.ch.bridge != nil {
		sources = append(sources, "bridge:"+p.ch.bridge.id)
	}
	n.farm.ari.Publish(kind, map[string]any{"playback": p.shown()}, sources...)
}

// queue enters a playback behind those that its target hears already.
func (n *node) queue(r *ari.Request, ch *channel, b *bridge) (any, error) {
	id := r.Name("playbackId")
	if id == "" {
		id = r.Text("playbackId")
	}
	if id == "" {
		id = n.farm.newID()
	}
	media := r.List("media")
	switch {
	case len(media) == 0:
		return nil, ari.Refuse(http.StatusInternalServerError, "Failed to queue media for playback")
	case n.plays[id] != nil:
		return nil, ari.Refuse(http.StatusInternalServerError, "Failed to queue media for playback: the playback %s exists", id)
	case len(n.plays) >= maxPlaybacks:
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Too many playbacks: %d are allowed", maxPlaybacks)
	}
	for _, uri := range media {
		if !knownScheme(uri) {
			return nil, ari.Refuse(http.StatusInternalServerError, "Failed to queue media for playback: %s is none of sound:, recording:, tone:", uri)
		}
	}
	skip, err := r.Int("skipms", 3000, 0, 3600000)
	if err != nil {
		return nil, err
	}
	offset, err := r.Int("offsetms", 0, 0, 36000000)
	if err != nil {
		return nil, err
	}
	p := &playback{id: id, media: media, ch: ch, bridge: b, state: ari.PlaybackQueued, skip: skip * 8, offset: offset * 8}
	n.plays[id] = p
	answer := &ari.Created{Body: p.shown()}
	if ch != nil {
		ch.plays = append(slices.Clone(ch.plays), p)
	} else {
		b.plays = append(slices.Clone(b.plays), p)
	}
	n.startPlayback(ch, b)
	return answer, nil
}

// startPlayback starts the first playback of a target, if it has one that waits.
func (n *node) startPlayback(ch *channel, b *bridge) {
	var first *playback
	switch {
	case ch != nil && len(ch.plays) > 0:
		first = ch.plays[0]
	case b != nil && len(b.plays) > 0:
		first = b.plays[0]
	}
	if first != nil && first.state == ari.PlaybackQueued {
		first.state = ari.PlaybackPlaying
		n.tellPlayback("PlaybackStarted", first)
		if !n.load(first) {
			n.finishPlayback(first, ari.PlaybackFailed)
			return
		}
	}
	if ch != nil {
		n.rewire(ch)
	} else {
		b.rewire()
	}
}

// load opens the playback's medium.
func (n *node) load(p *playback) bool {
	c, err := n.open(p.media[p.index])
	if err != nil {
		n.farm.cfg.Logger.Warn("play", "media", p.media[p.index], "error", err)
		return false
	}
	if p.index == 0 && p.offset > 0 {
		c.wind(p.offset)
	}
	p.mu.Lock()
	p.clip = c
	p.mu.Unlock()
	return true
}

// sourceEnded goes on with the next medium, or ends the playback. The clock calls it until that has happened.
func (n *node) sourceEnded(s source) {
	p, ok := s.(*playback)
	if !ok {
		return
	}
	p.mu.Lock()
	ended := p.clip
	p.mu.Unlock()
	n.later(func() {
		switch {
		case n.plays[p.id] != p || p.clip != ended: // the clip changes under node.mu only
		case p.index+1 < len(p.media):
			p.index++
			n.tellPlayback("PlaybackContinuing", p)
			if !n.load(p) {
				n.finishPlayback(p, ari.PlaybackFailed)
			}
		default:
			n.finishPlayback(p, ari.PlaybackDone)
		}
	})
}

// finishPlayback ends a playback and starts the one behind it.
func (n *node) finishPlayback(p *playback, state string) {
	if n.plays[p.id] != p {
		return
	}
	delete(n.plays, p.id)
	started := p.state != ari.PlaybackQueued
	p.state = state
	others := func(list []*playback) []*playback {
		return slices.DeleteFunc(slices.Clone(list), func(o *playback) bool { return o == p })
	}
	if p.ch != nil {
		p.ch.plays = others(p.ch.plays)
	} else {
		p.bridge.plays = others(p.bridge.plays)
	}
	if started {
		n.tellPlayback("PlaybackFinished", p)
	}
	n.startPlayback(p.ch, p.bridge)
}

// control winds, pauses and goes on (operation of POST playbacks/{id}/control).
func (n *node) control(p *playback, operation string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == ari.PlaybackQueued || p.clip == nil {
		return ari.Refuse(http.StatusConflict, "Unable to control playback: it is not playing")
	}
	switch operation {
	case "restart":
		c, err := n.open(p.media[p.index])
		if err != nil {
			return ari.Refuse(http.StatusConflict, "Unable to restart playback")
		}
		p.clip = c
	case "pause":
		p.paused, p.state = true, ari.PlaybackPaused
	case "unpause":
		p.paused, p.state = false, ari.PlaybackPlaying
	case "reverse":
		p.clip.wind(-p.skip)
	case "forward":
		p.clip.wind(p.skip)
	default:
		return ari.Refuse(http.StatusBadRequest, "Invalid control operation")
	}
	return nil
}
