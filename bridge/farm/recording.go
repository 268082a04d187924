package farm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"rtcedge/bridge/ari"
	"rtcedge/bridge/mixer"
)

// A recording's header is brought up to date this often: a file that was cut off by a crash is valid up to there.
const headerEvery = time.Second

// recordQueue are the frames that may wait for the disk: ten seconds.
const recordQueue = 500

// recording writes what a channel says, or what everybody in a bridge says, to a WAV file. The clock hands it frames, a
// goroutine of its own writes them.
type recording struct {
	// Constant.
	node       *node
	name       string
	ch         *channel // or
	bridge     *bridge
	path       string
	terminate  string // keys that end it
	maxFrames  int    // 0: no limit
	maxSilence int    // frames; 0: no limit
	frames     chan mixer.Frame
	stop       chan struct{}
	finished   chan struct{} // closed when the file is complete

	// Guarded by node.mu.
	state   string
	discard bool

	paused, muted atomic.Bool
	written       atomic.Int64 // frames
	lost          atomic.Int64 // frames that the disk was too slow for
}

// write takes 20 ms. It runs on the clock.
func (r *recording) write(frame *mixer.Frame) {
	if r.paused.Load() {
		return
	}
	f := *frame
	if r.muted.Load() {
		f = mixer.Frame{}
	}
	select {
	case r.frames <- f:
	default:
		r.lost.Add(1)
	}
}

func (r *recording) endsAt(digit string) bool {
	switch r.terminate {
	case "", "none":
		return false
	case "any":
		return true
	}
	return r.terminate == digit
}

func (r *recording) target() string {
	if r.ch != nil {
		return "channel:" + r.ch.id
	}
	return "bridge:" + r.bridge.id
}

// shown is the recording in Asterisk's shape. Its duration is there at the end only, and then also if it is 0.
func (r *recording) shown() any {
	out := ari.LiveRecording{Name: r.name, Format: "wav", State: r.state, TargetURI: r.target()}
	if r.state != ari.RecordingDone {
		return out
	}
	return struct {
		ari.LiveRecording
		Duration int64 `json:"duration"`
	}{out, r.written.Load() / 50}
}

func (n *node) tellRecording(kind string, r *recording) {
	n.farm.ari.Publish(kind, map[string]any{"recording": r.shown()}, r.target(), "recording:"+r.name)
}

// validName tells if a name stays within the folder.
func validName(name string) bool {
	return filepath.IsLocal(name) && !strings.ContainsAny(name, "\x00\\") && len(name) <= 200
}

// recordingPath is the file of a recording; an error if the name leads out of the folder.
func (n *node) recordingPath(name string) (string, error) {
	if !validName(name) {
		return "", ari.Refuse(http.StatusBadRequest, "Invalid recording name")
	}
	return filepath.Join(n.folder, name+".wav"), nil
}

// startRecording opens the file and starts the writer.
func (n *node) startRecording(r *ari.Request, ch *channel, b *bridge) (any, error) {
	name, format := r.Text("name"), r.Or("format", "wav")
	switch {
	case name == "":
		return nil, ari.Refuse(http.StatusBadRequest, "Missing parameter name")
	case format != "wav":
		return nil, ari.Refuse(http.StatusUnprocessableEntity, "specified format is unknown on this system")
	case n.live[name] != nil:
		return nil, ari.Refuse(http.StatusConflict, "Recording '%s' already exists and can not be overwritten", name)
	case len(n.live) >= maxRecordings:
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Too many recordings: %d are allowed", maxRecordings)
	case !validName(name):
		return nil, ari.Refuse(http.StatusBadRequest, "Invalid recording name")
	case ch != nil && ch.record != nil, b != nil && b.record != nil:
		return nil, ari.Refuse(http.StatusConflict, "A recording is in progress: one is allowed at a time")
	}
	terminate := r.Or("terminateOn", "none")
	if !slices.Contains([]string{"none", "any", "*", "#"}, terminate) {
		return nil, ari.Refuse(http.StatusBadRequest, "terminateOn invalid")
	}
	seconds, err := r.Int("maxDurationSeconds", 0, 0, 86400)
	if err != nil {
		return nil, err
	}
	silent, err := r.Int("maxSilenceSeconds", 0, 0, 86400)
	if err != nil {
		return nil, err
	}
	if n.folder == "" {
		if n.folder, err = os.MkdirTemp("", "rtcedge-recordings-"); err != nil {
			return nil, ari.Refuse(http.StatusInternalServerError, "Recording folder cannot be made")
		}
	}
	path, err := n.recordingPath(name)
	if err != nil {
		return nil, err
	}
	flags := os.O_RDWR | os.O_CREATE
	switch r.Or("ifExists", "fail") {
	case "fail":
		flags |= os.O_EXCL
	case "overwrite":
		flags |= os.O_TRUNC
	case "append":
	default:
		return nil, ari.Refuse(http.StatusBadRequest, "ifExists invalid")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, ari.Refuse(http.StatusInternalServerError, "Recording folder cannot be made")
	}
	file, err := os.OpenFile(path, flags, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, ari.Refuse(http.StatusConflict, "Recording '%s' already exists and can not be overwritten", name)
	case err != nil:
		n.farm.cfg.Logger.Warn("open recording", "error", err)
		return nil, ari.Refuse(http.StatusInternalServerError, "Recording file cannot be opened")
	}
	if !n.farm.enter() {
		_ = file.Close() // empty
		return nil, ari.Refuse(http.StatusServiceUnavailable, "The farm is going down")
	}
	rec := &recording{
		node: n, name: name, ch: ch, bridge: b, path: path, state: ari.RecordingRecording, terminate: terminate,
		maxFrames: seconds * 50, maxSilence: silent * 50,
		frames: make(chan mixer.Frame, recordQueue), stop: make(chan struct{}), finished: make(chan struct{}),
	}
	n.live[name] = rec
	if ch != nil {
		ch.record = rec
		n.rewire(ch)
	} else {
		b.record = rec
		b.rewire()
	}
	go func() {
		defer n.farm.wg.Done() // of enter
		rec.run(file)
	}()
	n.farm.ari.Share(rec.target(), "recording:"+name) // its file may be complete only when the channel is gone
	n.tellRecording("RecordingStarted", rec)
	return &ari.Created{Body: rec.shown()}, nil
}

// finishRecording ends a recording; the event comes when the file is complete.
func (n *node) finishRecording(r *recording, state string) {
	if n.live[r.name] != r {
		return
	}
	delete(n.live, r.name)
	r.state, r.discard = state, state == ari.RecordingCanceled
	if r.ch != nil {
		r.ch.record = nil
		n.rewire(r.ch)
	} else {
		r.bridge.record = nil
		r.bridge.rewire()
	}
	close(r.stop)
}

// run writes the file. It owns it.
func (r *recording) run(file *os.File) {
	defer close(r.finished)
	err := r.copy(file)
	if e := file.Close(); err == nil {
		err = e
	}
	n := r.node
	if err != nil {
		n.farm.cfg.Logger.Warn("write recording", "name", r.name, "error", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.finishRecording(r, ari.RecordingDone) // the disk is full, or the time is over
	if r.discard {
		_ = os.Remove(r.path) // nobody wants it
	}
	kind := "RecordingFinished"
	if err != nil {
		kind, r.state = "RecordingFailed", ari.RecordingFailedNow
	}
	n.tellRecording(kind, r)
	n.farm.ari.Forget("recording:" + r.name)
}

func (r *recording) copy(file *os.File) error {
	size, err := file.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("find its end: %w", err)
	}
	data := max(size-wavHeader, 0)
	if data == 0 {
		if _, err := file.WriteAt(appendWAVHeader(nil, 0), 0); err != nil {
			return fmt.Errorf("write header: %w", err)
		}
		if _, err := file.Seek(wavHeader, 0); err != nil {
			return fmt.Errorf("find its start: %w", err)
		}
	}
	w := bufio.NewWriterSize(file, 1<<15)
	header := func() error {
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if _, err := file.WriteAt(appendWAVHeader(nil, uint32(data)), 0); err != nil {
			return fmt.Errorf("write header: %w", err)
		}
		return nil
	}
	every := time.NewTicker(headerEvery)
	defer every.Stop()
	quiet := 0
	put := func(f *mixer.Frame) (bool, error) {
		var b [2 * mixer.FrameSamples]byte
		loud := false
		for i, v := range f {
			binary.LittleEndian.PutUint16(b[2*i:], uint16(v))
			loud = loud || v > 256 || v < -256
		}
		quiet++
		if loud {
			quiet = 0
		}
		if _, err := w.Write(b[:]); err != nil {
			return false, fmt.Errorf("write: %w", err)
		}
		data += int64(len(b))
		total := r.written.Add(1)
		return r.maxFrames > 0 && total >= int64(r.maxFrames) || r.maxSilence > 0 && quiet >= r.maxSilence, nil
	}
	for {
		select {
		case f := <-r.frames:
			if over, err := put(&f); err != nil || over {
				return errors.Join(err, header())
			}
		case <-every.C:
			if err := header(); err != nil {
				return err
			}
		case <-r.stop:
			for {
				select {
				case f := <-r.frames:
					if _, err := put(&f); err != nil {
						return err
					}
					continue
				default:
				}
				return header()
			}
		}
	}
}

const wavHeader = 44

// appendWAVHeader prints the header of linear 16 bit samples, 8000 Hz, one channel.
func appendWAVHeader(b []byte, data uint32) []byte {
	le := binary.LittleEndian
	b = append(b, "RIFF"...)
	b = le.AppendUint32(b, data+wavHeader-8)
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, 1)
	b = le.AppendUint16(b, 1)
	b = le.AppendUint32(b, mixer.SampleRate)
	b = le.AppendUint32(b, 2*mixer.SampleRate)
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 16)
	b = append(b, "data"...)
	return le.AppendUint32(b, data)
}

// storedRecordings lists the folder.
func (n *node) storedRecordings() []ari.StoredRecording {
	out := []ari.StoredRecording{}
	if n.folder == "" {
		return out
	}
	_ = filepath.WalkDir(n.folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what cannot be read is not there
		}
		name, ok := strings.CutSuffix(path, ".wav")
		rel, err := filepath.Rel(n.folder, name)
		if ok && err == nil && n.live[rel] == nil {
			out = append(out, ari.StoredRecording{Name: rel, Format: "wav"})
		}
		return nil
	})
	return out
}

// storedPath is the file of a complete recording.
func (n *node) storedPath(name string) (string, error) {
	path, err := n.recordingPath(name)
	if err != nil || n.folder == "" || n.live[name] != nil {
		return "", ari.Refuse(http.StatusNotFound, "Recording not found")
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", ari.Refuse(http.StatusNotFound, "Recording not found")
	}
	return path, nil
}
