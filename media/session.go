package media

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"rtcedge/media/sdp"
)

// call is everything under one Call-ID. All its dialogs are on one worker.
type call struct {
	// Constant after newCall.
	id      string
	worker  *worker
	created time.Time

	mu         sync.Mutex // guards what follows, and the parts of streams that say so
	closed     bool
	deleteAt   time.Time // zero: not deleted
	lastSignal time.Time
	dialogs    []*dialog
	recording  *recording // running or paused
	recorded   []string   // names of the recordings of this call
	options    callOptions
	metadata   string // that the controller gave last

	subscriptions []*subscription
}

// dialog is two parties and the streams between them. A call that is forked stays one dialog, and the branch that answers last has the
// media, unless the controller tells the branches apart (via-branch): then each has ports and a profile of its own.
type dialog struct {
	worker  *worker
	callID  string
	branch  string   // that the controller named with the first offer
	parties [2]party // [0] made the first offer
	streams []*stream
	offer   *offer // the last one; it stays for repeated and further answers
	joined  *junction
}

// party is one side of a dialog.
type party struct {
	tags    []string // newest last
	label   string   // that the controller gave it
	network *network
	created time.Time
	absent  bool      // it has no ports: those who are copied to a subscriber, or who hears a publisher
	signed  signature // of the last SDP to the party, where its version is ours
}

// Chosen by us: a stranger who invents tags gets no further.
const (
	maxDialogs = 8
	maxTags    = 16
)

func newCall(id string, w *worker, now time.Time) *call {
	return &call{id: id, worker: w, created: now, lastSignal: now}
}

// find looks for the dialog of an offer: the party with the from-tag makes it. A to-tag decides where the from-tag stands in
// several.
func (c *call) find(from, to string) (d *dialog, side int) {
	for _, candidate := range c.dialogs {
		for i := range candidate.parties {
			if !candidate.parties[i].has(from) {
				continue
			}
			if to != "" && candidate.parties[1-i].has(to) {
				return candidate, i
			}
			if d == nil {
				d, side = candidate, i
			}
		}
	}
	return d, side
}

// offering is find for an offer with a via-branch: of a new INVITE, another branch is another dialog, as long as there is room.
func (c *call) offering(from, to, branch string) (d *dialog, side int) {
	d, side = c.find(from, to)
	if d == nil || branch == "" || to != "" {
		return d, side
	}
	if own := c.forked(from, branch); own != nil {
		return own, 0
	}
	if d.branch != "" && len(c.dialogs) < maxDialogs {
		return nil, 0
	}
	d.branch = branch
	return d, side
}

// forked is the dialog of this branch, which the party with the tag called.
func (c *call) forked(tag, branch string) *dialog {
	i := slices.IndexFunc(c.dialogs, func(d *dialog) bool { return branch != "" && d.branch == branch && d.parties[0].has(tag) })
	if i < 0 {
		return nil
	}
	return c.dialogs[i]
}

// over are the dialogs that a delete with these tags ends: of a branch that one; without a to-tag all of the caller; else the one between
// the two, and with it the branches that nobody answered.
func (c *call) over(from, to, branch string) (ended []*dialog) {
	if d := c.forked(from, branch); d != nil && to == "" {
		return []*dialog{d}
	}
	first, _ := c.find(from, to)
	if first == nil {
		return nil
	}
	for _, d := range c.dialogs {
		unanswered := d.branch != "" && len(d.parties[1].tags) == 0 && d.parties[0].has(first.parties[0].tag())
		if d == first || unanswered || to == "" && d.parties[0].has(from) {
			ended = append(ended, d)
		}
	}
	return ended
}

// open makes a dialog whose first party has this tag.
func (c *call) open(from, to string, networks [2]*network, now time.Time) (*dialog, error) {
	if len(c.dialogs) >= maxDialogs {
		return nil, fmt.Errorf("call has %d dialogs with other tags already", maxDialogs)
	}
	d := &dialog{worker: c.worker, callID: c.id}
	for i, tag := range [2]string{from, to} {
		d.parties[i] = party{network: networks[i], created: now}
		d.parties[i].note(tag)
	}
	c.dialogs = append(c.dialogs, d)
	return d, nil
}

// forget takes a dialog out again.
func (c *call) forget(d *dialog) {
	c.unsubscribe(func(sub *subscription) bool {
		return slices.ContainsFunc(sub.sources, func(src copied) bool { return slices.Contains(d.streams, src.stream) })
	})
	d.release()
	c.dialogs = slices.DeleteFunc(c.dialogs, func(o *dialog) bool { return o == d })
}

func (p *party) has(tag string) bool { return tag != "" && slices.Contains(p.tags, tag) }

// note makes the tag the party's newest.
func (p *party) note(tag string) {
	if tag == "" || len(p.tags) > 0 && p.tags[len(p.tags)-1] == tag {
		return
	}
	p.tags = slices.DeleteFunc(p.tags, func(t string) bool { return t == tag })
	if len(p.tags) == maxTags {
		p.tags = p.tags[1:]
	}
	p.tags = append(p.tags, tag)
}

func (p *party) tag() string {
	if len(p.tags) == 0 {
		return ""
	}
	return p.tags[len(p.tags)-1]
}

// grow makes streams for the m= lines of an offer that have a port; those that exist stay as they are.
func (d *dialog) grow(body *sdp.Session) error {
	for len(d.streams) < len(body.Media) {
		d.streams = append(d.streams, nil)
	}
	for i, m := range body.Media {
		if d.streams[i] != nil || m.Rejected() {
			continue
		}
		s, err := d.newStream(i)
		if err != nil {
			return err
		}
		d.streams[i] = s
	}
	return nil
}

func (d *dialog) newStream(index int) (*stream, error) {
	s := &stream{worker: d.worker, callID: d.callID, index: index}
	// rand.Read never fails (crypto/rand).
	var random [cnameLen + 8]byte
	_, _ = rand.Read(random[:])
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range s.cname {
		s.cname[i] = alphabet[random[i]&63]
	}
	for i := range s.legs {
		l := &s.legs[i]
		l.stream, l.side, l.network, l.absent = s, i, d.parties[i].network, d.parties[i].absent
		l.ssrc = binary.BigEndian.Uint32(random[cnameLen+4*i:])
	}
	if err := d.worker.table.Install(s, [2]uint16{}); err != nil {
		return nil, err
	}
	return s, nil
}

// release gives the ports back.
func (d *dialog) release() {
	d.joined.end()
	for i, s := range d.streams {
		if s != nil {
			d.worker.table.Remove(s)
			d.streams[i] = nil
		}
	}
}

// due is what the sweep does with a call.
type due uint8

const (
	dueNothing due = iota
	dueDelete
	dueTimeout
)

func (c *call) due(now time.Time, timeout, silent time.Duration) due {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return dueNothing
	case !c.deleteAt.IsZero() && !now.Before(c.deleteAt):
		return dueDelete
	}
	limit := timeout
	last := c.lastSignal
	for _, d := range c.dialogs {
		for _, s := range d.streams {
			if s == nil {
				continue
			}
			for i := range s.legs {
				l := &s.legs[i]
				if l.far.silent && !d.published() {
					limit = silent
				}
				if at := c.worker.table.Counters(s, i).Last; at.After(last) {
					last = at
				}
			}
		}
	}
	if limit > 0 && now.Sub(last) >= limit {
		return dueTimeout
	}
	return dueNothing
}

// size counts streams.
func (c *call) size() (streams, transcoded int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.dialogs {
		for _, s := range d.streams {
			if s == nil {
				continue
			}
			streams++
			if r := s.route.Load(); r != nil && r.transcodes() {
				transcoded++
			}
		}
	}
	return streams, transcoded
}
