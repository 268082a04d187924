package media

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/media/udp"
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
	socket udp.Options
	now    func() time.Time
	ring   *recordRing // to the recorder; nil without one

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

	beats metronome // of the speakers

	load atomic.Int64 // calls, counted by control: the next call goes to the emptiest worker
}

func newWorker(e *Engine) (*worker, error) {
	w := &worker{engine: e, now: e.cfg.Now, socket: udp.Options{RecvBuffer: e.cfg.RecvBuffer, TOS: e.cfg.TOS}}
	loop, err := udp.NewLoop(udp.LoopConfig{
		Portable: e.cfg.Portable, Tick: w.tick, Interval: tickEvery, Now: e.cfg.Now, Steering: e.cfg.Steering,
	})
	if err != nil {
		return nil, err
	}
	w.loop = loop
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
	w.loop.Do(func() {
		s.place = len(w.streams)
		w.streams = append(w.streams, s)
	})
}

// remove closes the stream's sockets and gives its ports back, on the loop's goroutine or, after the loop has ended and
// closed all sockets, here.
func (w *worker) remove(s *stream) {
	free := func(closeConns bool) {
		for i := range s.legs {
			l := &s.legs[i]
			if l.pool == nil {
				continue
			}
			n := l.rtp.conn.LocalAddr().Port()
			if closeConns {
				_ = l.rtp.conn.Close()
				_ = l.rtcp.conn.Close()
			}
			l.pool.give(n, false)
		}
	}
	for i := range s.legs {
		s.legs[i].dtls.takeAway(w)
		s.legs[i].ice.close()
	}
	done := w.loop.Do(func() {
		s.closed = true
		if last := len(w.streams) - 1; s.place <= last && w.streams[s.place] == s {
			w.streams[s.place] = w.streams[last]
			w.streams[s.place].place = s.place
			w.streams[last] = nil
			w.streams = w.streams[:last]
		}
		free(true)
	})
	if !done {
		free(false)
	}
}

// closeConn closes a socket that no stream uses.
func (w *worker) closeConn(c *udp.Conn) { w.loop.Do(func() { _ = c.Close() }) }

// tick sends the reports that are due: a fiftieth of the streams each time. ICE and DTLS want every tick.
func (w *worker) tick(now time.Time) {
	w.ticks++
	for i := w.ticks % reportTicks; i < len(w.streams); i += reportTicks {
		w.streams[i].report(now)
	}
	w.watch(now)
}
