package media

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/media/udp"
	"rtcedge/transcode"
)

// Chosen by us.
const (
	tickEvery    = 100 * time.Millisecond
	reportTicks  = 50   // a stream's own RTCP report every 5 s (RFC 3550 section 6.2), spread over the ticks
	txBufferSize = 2048 // an outgoing packet of a pipe, or a report
)

// worker owns the packets of its streams: one loop, one goroutine.
type worker struct {
	// Constant after newWorker.
	engine *Engine
	loop   *udp.Loop
	table  table // of the streams whose packets the worker carries
	now    func() time.Time
	ring   *recordRing // to the recorder; nil without one
	tells  bool        // somebody wants to know of keys

	// Counters: written by the worker, read by anybody.
	packets, bytes       atomic.Uint64
	packetsOut, bytesOut atomic.Uint64
	drops                drops

	// Owned by the loop's goroutine.
	streams  []*stream  // of all calls; a stream knows its place
	speakers []*speaker // of our own
	watched  []*stream  // those with ICE or DTLS
	ticks    int
	tx       [txBufferSize + srtpRoom]byte
	room     *transcode.Room               // of the streams' pipes
	copy     [txBufferSize + srtpRoom]byte // of a packet for a subscriber

	ahead ahead     // of the packets of a batch
	beats metronome // of the speakers

	load atomic.Int64 // calls, counted by control: the next call goes to the emptiest worker
}

func newWorker(e *Engine) (*worker, error) {
	w := &worker{engine: e, tells: e.cfg.Digit != nil, now: e.cfg.Now, room: transcode.NewRoom()}
	loop, err := udp.NewLoop(udp.LoopConfig{
		Portable: e.cfg.Portable, Tick: w.tick, Interval: tickEvery, Now: e.cfg.Now, Steering: e.cfg.Steering, Ahead: w.ahead.load,
	})
	if err != nil {
		return nil, err
	}
	w.loop = loop
	w.table = table{worker: w, layer: loop, socket: udp.Options{RecvBuffer: e.cfg.RecvBuffer, TOS: e.cfg.TOS}}
	w.beats.init(loop.Do, func() { w.speak(w.now()) })
	if e.recorder != nil {
		w.ring = newRecordRing()
		e.recorder.rings = append(e.recorder.rings, w.ring)
	}
	return w, nil
}

// run carries packets until ctx ends.
func (w *worker) run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	var clock sync.WaitGroup
	clock.Go(func() { w.beats.run(inner) })
	err := w.loop.Run(ctx)
	cancel()
	clock.Wait()
	return err
}

// add makes the stream known to the worker: it gets reports from now on.
func (w *worker) add(s *stream) {
	s.place = len(w.streams)
	w.streams = append(w.streams, s)
}

// forget is its end.
func (w *worker) forget(s *stream) {
	s.closed = true
	for i := range s.legs {
		s.legs[i].forwardTo(nil)
	}
	last := len(w.streams) - 1
	if s.place > last || w.streams[s.place] != s {
		return
	}
	w.streams[s.place] = w.streams[last]
	w.streams[s.place].place = s.place
	w.streams[last] = nil
	w.streams = w.streams[:last]
}

// tick sends the reports that are due: a fiftieth of the streams each time. ICE and DTLS want every tick.
func (w *worker) tick(now time.Time) {
	w.ticks++
	for i := w.ticks % reportTicks; i < len(w.streams); i += reportTicks {
		w.streams[i].report(now)
	}
	w.watch(now)
}
