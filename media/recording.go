package media

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/udp"
)

// Recording of calls (behaviour 24): what each party says, decrypted and before any conversion, as a pcap file and as WAV files per
// direction and mixed. A packet on its way:
//
//  1. The worker finds a tap at the stream and copies the packet into its ring (recordRing): no lock, no allocation,
//     never a wait. A full ring is a counted loss of the recording, not of the call.
//  2. The engine's one writer empties the rings (recording_writer.go), places the audio on the call's timeline and mixes it
//     (recording_track.go).
//  3. Twice a second it appends to the files (recording_wav.go, recording_pcap.go). After each write a file is whole, so
//     one whose process is killed lacks half a second and is valid.

// recording is that of one call, from start to stop.
type recording struct {
	name  string // of its files, without what follows per file
	began time.Time

	paused bool // guarded by call.mu

	// Owned by the writer.
	open     bool
	tracks   []*track
	pcap     *pcapFile
	pausedAt time.Time
	shift    time.Duration // time spent in pauses, which no file shows
	failed   bool
}

// tap is where a stream's packets go while it is recorded. It is constant.
type tap struct {
	rec  *recording
	ring *recordRing
	line int // place of the stream in the call
}

// errNoRecording says that the node was started without a place for files.
var errNoRecording = errors.New("recording: this node has no recording directory, start it with --recording-dir")

// StartRecording records a call from now on, or goes on after a pause.
func (e *Engine) StartRecording(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		if e.recorder == nil {
			return errNoRecording
		}
		e.record(c)
		return nil
	})
}

// StopRecording ends the recording of a call and closes its files. It is no error if there is none.
func (e *Engine) StopRecording(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		e.endRecording(c)
		return nil
	})
}

// PauseRecording leaves a gap that the files do not show: what is said in it is nowhere.
func (e *Engine) PauseRecording(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		rec := c.recording
		if rec == nil || rec.paused {
			return nil
		}
		rec.paused = true
		e.setTaps(c, nil, recordCommand{rec: rec, kind: recordPause, at: e.cfg.Now()})
		return nil
	})
}

// recordAsAsked does what the key record-call of an offer or answer says. c.mu is held.
func (e *Engine) recordAsAsked(c *call, req *ng.Request) (warning string) {
	switch req.RecordCall {
	case "yes", "on":
		if e.recorder == nil {
			return errNoRecording.Error()
		}
		if c.recording == nil {
			e.record(c)
		}
	case "no", "off":
		e.endRecording(c)
	}
	if c.recording != nil && !c.recording.paused {
		e.setTaps(c, c.recording) // streams may be new
	}
	return ""
}

// record starts or resumes. c.mu is held.
func (e *Engine) record(c *call) {
	now := e.cfg.Now()
	switch rec := c.recording; {
	case rec == nil:
		c.recording = &recording{name: recordingName(c.id, now), began: now}
		c.recorded = append(c.recorded, c.recording.name)
		e.setTaps(c, c.recording, recordCommand{rec: c.recording, kind: recordStart, at: now})
	case rec.paused:
		rec.paused = false
		e.setTaps(c, rec, recordCommand{rec: rec, kind: recordResume, at: now})
	}
}

// endRecording stops. c.mu is held.
func (e *Engine) endRecording(c *call) {
	if c.recording == nil {
		return
	}
	rec := c.recording
	c.recording = nil
	e.setTaps(c, nil, recordCommand{rec: rec, kind: recordStop, at: e.cfg.Now()})
}

// setTaps makes all streams of the call feed a recording, or none, and tells the writer. It happens on the worker's goroutine, so
// that commands and packets reach the writer in the order in which they were. c.mu is held.
func (e *Engine) setTaps(c *call, rec *recording, commands ...recordCommand) {
	var streams []*stream
	var taps []*tap
	for _, d := range c.dialogs {
		for _, s := range d.streams {
			if s == nil {
				continue
			}
			var t *tap
			if rec != nil {
				t = &tap{rec: rec, ring: c.worker.ring, line: len(streams)}
			}
			streams, taps = append(streams, s), append(taps, t)
		}
	}
	set := func() {
		for _, cmd := range commands {
			e.recorder.post(cmd)
		}
		for i, s := range streams {
			s.tap.Store(taps[i])
		}
	}
	if !c.worker.loop.Do(set) {
		set()
	}
}

// Chosen by us: what of a Call-ID stands in a file name. The hash keeps long and strange ones apart.
const (
	recordNameLen = 64
	recordHashLen = 4
)

// recordingName makes a file name of a Call-ID, which a stranger chose: no separator, no leading dot, no control character.
func recordingName(callID string, now time.Time) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '@', c == '.':
			return c
		}
		return '_'
	}, callID)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") || name == "" {
		name = "_" + name
	}
	hash := sha256.Sum256([]byte(callID))
	return fmt.Sprintf("%s-%x-%s", name[:min(len(name), recordNameLen)], hash[:recordHashLen],
		now.UTC().Format("20060102T150405.000Z"))
}

// Chosen by us: packets of 20 ms from 1,000 recorded calls fill the ring in a quarter of the writer's longest pause between two
// looks; longer packets than an Ethernet frame are not recorded.
const (
	recordSlots     = 2048
	recordPacketMax = 1600
)

// recordRing takes packets from one worker to the writer: one goroutine puts, one takes.
type recordRing struct {
	head  atomic.Uint64 // of the next packet to put
	tail  atomic.Uint64 // of the next one to take
	lost  atomic.Uint64
	slots []recordSlot
}

// recordSlot is one packet.
type recordSlot struct {
	tap         *tap
	flow        *flow
	side        int
	audio       bool
	at          time.Time
	from, local netip.AddrPort
	hdr, n      int
	data        [recordPacketMax]byte
}

func newRecordRing() *recordRing { return &recordRing{slots: make([]recordSlot, recordSlots)} }

// packet copies an opened RTP packet, on the worker's goroutine.
func (t *tap) packet(l *leg, r *route, b []byte, hdr int, pkt *udp.Packet) {
	t.copy(l, r, b, hdr, pkt.From, pkt.Time)
}

// copy does, of a packet from leg l.
func (t *tap) copy(l *leg, r *route, b []byte, hdr int, from netip.AddrPort, at time.Time) {
	ring := t.ring
	head := ring.head.Load()
	if head-ring.tail.Load() == uint64(len(ring.slots)) || len(b) > recordPacketMax {
		ring.lost.Add(1)
		return
	}
	s := &ring.slots[head%uint64(len(ring.slots))]
	s.tap, s.flow, s.side, s.audio = t, &r.flows[l.side], l.side, !r.plain
	s.at, s.from, s.local, s.hdr = at, from, l.local(), hdr
	s.n = copy(s.data[:], b)
	ring.head.Store(head + 1)
}

// take hands out the packets that are there.
func (ring *recordRing) take(fn func(*recordSlot)) {
	for tail, head := ring.tail.Load(), ring.head.Load(); tail != head; tail++ {
		s := &ring.slots[tail%uint64(len(ring.slots))]
		fn(s)
		s.tap, s.flow = nil, nil
		ring.tail.Store(tail + 1)
	}
}
