package media

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// recorder is the writer of all recordings of an engine.
type recorder struct {
	// Constant.
	root  *os.Root // no file name leaves this directory, whatever links lie in it
	log   *slog.Logger
	now   func() time.Time
	rings []*recordRing
	wake  chan struct{}

	mu       sync.Mutex // guards commands
	commands []recordCommand

	active atomic.Int64 // recordings
	failed atomic.Uint64

	// Owned by the writer.
	open  []*recording
	spare []recordCommand
}

// recordCommand is what control wants.
type recordCommand struct {
	rec  *recording
	kind recordKind
	at   time.Time
}

type recordKind uint8

const (
	recordStart recordKind = iota
	recordResume
	recordPause
	recordStop
)

// Chosen by us.
const (
	recordLook  = 20 * time.Millisecond  // between two looks into the rings
	recordFlush = 500 * time.Millisecond // between two writes to a file
)

func newRecorder(cfg *Config) (*recorder, error) {
	root, err := os.OpenRoot(cfg.RecordingDir)
	if err != nil {
		return nil, fmt.Errorf("recording dir: %w", err)
	}
	return &recorder{root: root, log: cfg.Logger, now: cfg.Now, wake: make(chan struct{}, 1)}, nil
}

// post gives a command; any goroutine may.
func (w *recorder) post(cmd recordCommand) {
	w.mu.Lock()
	w.commands = append(w.commands, cmd)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, then closes what is open.
func (w *recorder) run(ctx context.Context) {
	ticker := time.NewTicker(recordLook)
	defer ticker.Stop()
	flushed := w.now()
	for ctx.Err() == nil {
		look := ticker.C
		if len(w.open) == 0 {
			look = nil
		}
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-look:
		}
		w.round()
		if now := w.now(); now.Sub(flushed) >= recordFlush {
			flushed = now
			for _, rec := range w.open {
				w.flush(rec, now)
			}
		}
	}
	w.round()
	for _, rec := range slices.Clone(w.open) {
		w.close(rec)
	}
	_ = w.root.Close()
}

// round does what was asked for. Beginnings go before the packets of the rings and ends behind them.
func (w *recorder) round() {
	w.mu.Lock()
	commands := w.commands
	w.commands = w.spare[:0]
	w.mu.Unlock()
	for _, c := range commands {
		switch c.kind {
		case recordStart:
			w.open, c.rec.open = append(w.open, c.rec), true
			w.active.Add(1)
		case recordResume:
			if !c.rec.pausedAt.IsZero() {
				c.rec.shift += c.at.Sub(c.rec.pausedAt)
				c.rec.pausedAt = time.Time{}
			}
		}
	}
	for _, ring := range w.rings {
		ring.take(w.packet)
	}
	for i, c := range commands {
		switch c.kind {
		case recordPause:
			w.flush(c.rec, c.at)
			c.rec.pausedAt = c.at
		case recordStop:
			w.close(c.rec)
		}
		commands[i] = recordCommand{}
	}
	w.spare = commands
}

// packet writes one packet of a ring to where it belongs.
func (w *recorder) packet(s *recordSlot) {
	rec := s.tap.rec
	if rec.failed || !rec.open {
		return
	}
	err := w.dump(rec, s)
	if err == nil && s.audio {
		err = w.hear(rec, s)
	}
	w.check(rec, err)
}

// dump adds the packet to the pcap file.
func (w *recorder) dump(rec *recording, s *recordSlot) error {
	if rec.pcap == nil {
		f, err := w.create(rec.name + ".pcap")
		if err != nil {
			return err
		}
		rec.pcap = newPcapFile(f)
	}
	rec.pcap.add(s.at, s.from, s.local, s.data[:s.n])
	return nil
}

// hear adds its audio to the track of its stream.
func (w *recorder) hear(rec *recording, s *recordSlot) error {
	for len(rec.tracks) <= s.tap.line {
		rec.tracks = append(rec.tracks, nil)
	}
	t := rec.tracks[s.tap.line]
	if t == nil {
		name := rec.name
		if s.tap.line > 0 {
			name = fmt.Sprintf("%s-%d", name, s.tap.line+1)
		}
		t = &track{}
		for i, part := range [...]string{"caller", "callee", "mixed"} {
			f, err := w.create(name + "-" + part + ".wav")
			if err != nil {
				t.close()
				return err
			}
			t.files[i] = newWavFile(f)
		}
		rec.tracks[s.tap.line] = t
	}
	return t.packet(s, rec.position(s.at))
}

// position is a time as a sample of the files.
func (rec *recording) position(at time.Time) int64 {
	return int64(max(at.Sub(rec.began)-rec.shift, 0)) * wavRate / int64(time.Second)
}

// create makes a file that did not exist.
func (w *recorder) create(name string) (*os.File, error) {
	return w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
}

// flush writes what will not change any more.
func (w *recorder) flush(rec *recording, now time.Time) {
	if rec.failed || !rec.pausedAt.IsZero() {
		return
	}
	var err error
	if rec.pcap != nil {
		err = rec.pcap.flush()
	}
	for _, t := range rec.tracks {
		if t != nil && err == nil {
			err = t.flush(rec.position(now) - trackDelay)
		}
	}
	w.check(rec, err)
}

// close writes the rest.
func (w *recorder) close(rec *recording) {
	i := slices.Index(w.open, rec)
	if i < 0 {
		return
	}
	w.open, rec.open = slices.Delete(w.open, i, i+1), false
	w.active.Add(-1)
	w.check(rec, rec.end())
}

func (rec *recording) end() error {
	var errs []error
	if rec.pcap != nil {
		errs = append(errs, rec.pcap.close())
	}
	for _, t := range rec.tracks {
		if t != nil {
			errs = append(errs, t.close())
		}
	}
	return errors.Join(errs...)
}

// check gives a recording up that cannot be written, and says so once.
func (w *recorder) check(rec *recording, err error) {
	if err == nil || rec.failed {
		return
	}
	rec.failed = true
	w.failed.Add(1)
	w.log.Warn("recording given up", "recording", rec.name, "err", err)
	_ = rec.end()
}

// lost counts packets that found a full ring.
func (w *recorder) lost() (n uint64) {
	for _, ring := range w.rings {
		n += ring.lost.Load()
	}
	return n
}
