package farm

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// room is one conference. It is made by the first who dials its number and goes with the last.
type room struct {
	id      string
	number  string
	created time.Time

	// members is replaced, never changed: the clock reads it without the lock.
	members atomic.Pointer[[]*member]
	mu      sync.Mutex // of those who replace it, and of sound
	sound   []mixer.Frame

	// Owned by the clock.
	mix mixer.Mix
	sum mixer.Frame
}

// member is a leg in a room.
type member struct {
	leg    *leg
	stream *stream

	mu     sync.Mutex // guards jitter: the reader fills it, the clock empties it
	jitter jitterBuffer

	// Owned by the clock.
	coded   [mixer.FrameSamples]byte
	frame   mixer.Frame
	talking bool
}

// receive takes a packet of the member. Events stay with whoever pressed the key.
func (m *member) receive(p rtpPacket, event bool) {
	if event {
		return
	}
	m.mu.Lock()
	m.jitter.push(p.ssrc, p.ts, p.payload)
	m.mu.Unlock()
}

// tick mixes 20 ms: everybody hears the sum of the others.
func (r *room) tick([][mixer.FrameSamples]byte) {
	members := *r.members.Load()
	r.mix.Reset()
	for _, m := range members {
		m.mu.Lock()
		m.talking = m.jitter.pop(&m.coded)
		m.mu.Unlock()
		if m.talking {
			g711.DecodeULaw(m.frame[:], m.coded[:])
			r.mix.Add(&m.frame)
		}
	}
	if sound := r.nextSound(); sound != nil {
		r.mix.Add(sound)
	}
	// Whoever is silent hears the whole sum, so it is coded once for all of them.
	var all [mixer.FrameSamples]byte
	r.mix.All(&r.sum)
	g711.EncodeULaw(all[:], r.sum[:])
	for _, m := range members {
		if !m.talking {
			m.stream.play(&all)
			continue
		}
		r.mix.Without(&m.frame, &m.frame)
		g711.EncodeULaw(m.coded[:], m.frame[:])
		m.stream.play(&m.coded)
	}
}

func (r *room) nextSound() *mixer.Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sound) == 0 {
		return nil
	}
	f := &r.sound[0]
	r.sound = r.sound[1:]
	return f
}

// join puts a leg into the conference of that number.
func (f *Farm) join(number string, l *leg) *room {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rooms[number]
	if r == nil {
		r = &room{id: f.newID(), number: number, created: time.Now()}
		r.members.Store(new([]*member))
		f.rooms[number] = r
		f.clock.add(r)
	}
	m := &member{leg: l, stream: l.stream}
	r.mu.Lock()
	list := append(slices.Clone(*r.members.Load()), m)
	r.members.Store(&list)
	if f.cfg.ConferenceTones {
		r.sound = tone(400, 800)
	}
	r.mu.Unlock()
	l.stream.setSink(m.receive)
	return r
}

// leave takes a leg out; the conference ends with the last one.
func (f *Farm) leave(r *room, l *leg) {
	l.stream.setSink(nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	r.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(*r.members.Load()), func(m *member) bool { return m.leg == l })
	r.members.Store(&list)
	if f.cfg.ConferenceTones {
		r.sound = tone(800, 400)
	}
	r.mu.Unlock()
	if len(list) == 0 {
		delete(f.rooms, r.number)
		f.clock.remove(r)
	}
}
