package media

import (
	"errors"
	"fmt"
	"time"

	"rtcedge/media/ng"
	"rtcedge/transcode"
)

// Playing a file to a party: a speaker with a clip. While it plays the party hears nothing else.

// playback is what a speaker plays. It belongs to the worker once the speaker does.
type playback struct {
	clip   *clip
	at     int       // bytes of the clip that were played
	repeat int       // times after this one
	until  time.Time // no repetition begins after it; zero is no such limit
	seq    uint16
	stamp  uint32
	rested [640]byte // the last frame, filled up with silence
}

// PlayMedia plays a file or blob to the party of from-tag or label, or to all.
func (e *Engine) PlayMedia(req *ng.Request) (*ng.Response, error) {
	var c *clip
	var err error
	switch {
	case len(req.Blob) > 0:
		c, err = decodeWav(req.Blob)
	case req.File != "":
		c, err = e.clips.open(req.File)
	default:
		err = errors.New("file or blob is needed; a database (db-id) is not supported")
	}
	if err != nil {
		return nil, fmt.Errorf("play media: %w", err)
	}
	start := int(req.StartPos*time.Duration(c.rate)/time.Second) * 2
	if start >= len(c.pcm) {
		return nil, fmt.Errorf("play media: start-pos %v lies behind the end, %v", req.StartPos, c.duration().Round(time.Millisecond))
	}
	resp, err := e.withCall(req, func(call *call) error {
		legs, err := call.legsOf(req)
		if err != nil {
			return err
		}
		var speakers []*speaker
		for _, l := range legs {
			r := l.stream.route.Load()
			if r == nil || r.raw || r.plain {
				continue
			}
			if name := spoken(r.flows[l.side].heard, r.names[l.side]).Name; !makes(name) {
				return fmt.Errorf("play media: the party hears %s, which is relayed as it is; offer it a codec that this node can encode", name)
			}
			p := &playback{clip: c, at: start, repeat: max(req.RepeatTimes-1, 0)}
			if req.RepeatDuration > 0 {
				p.until, p.repeat = e.cfg.Now().Add(req.RepeatDuration), maxRepeat
			}
			speakers = append(speakers, &speaker{leg: l, complexity: e.cfg.OpusComplexity, play: p})
		}
		if len(speakers) == 0 {
			return errors.New("play media: the party has no audio that was answered")
		}
		w := call.worker
		w.loop.Do(func() {
			for _, v := range speakers {
				w.play(v)
			}
		})
		return nil
	})
	if err == nil {
		resp.Duration = c.duration()
	}
	return resp, err
}

// maxRepeat stands for as often as the time allows.
const maxRepeat = 1 << 20

// StopMedia ends what is played to the party of from-tag or label, or to all.
func (e *Engine) StopMedia(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		legs, err := c.legsOf(req)
		if err != nil {
			return err
		}
		w := c.worker
		w.loop.Do(func() {
			for _, l := range legs {
				if l.playing != nil {
					l.playing.stop()
				}
			}
		})
		return nil
	})
}

// play begins; what was played before ends.
func (w *worker) play(v *speaker) {
	if v.leg.stream.closed {
		return
	}
	if v.leg.playing != nil {
		v.leg.playing.stop()
	}
	v.leg.playing = v
	v.next = w.now()
	w.speakers = append(w.speakers, v)
	w.beats.add()
}

// stop lets the other party through again. Its stream goes on as a new one would: what the listener missed is not mended.
func (v *speaker) stop() {
	v.ended, v.leg.playing = true, nil
	s := v.leg.stream
	if s.cur == nil {
		return
	}
	if p := s.cur.flows[1-v.leg.side].pipe; p != nil {
		p.Resync()
	}
}

// push gives the next frame of the clip to the pipe; false at the end.
func (p *playback) push(pipe *transcode.Pipe, now time.Time) bool {
	if p.at >= len(p.clip.pcm) {
		if p.repeat == 0 || !p.until.IsZero() && !now.Before(p.until) {
			return false
		}
		p.repeat--
		p.at = 0
	}
	size := 2 * p.clip.rate / int(time.Second/speakerFrame)
	frame := p.clip.pcm[p.at:min(p.at+size, len(p.clip.pcm))]
	p.at += len(frame)
	if len(frame) < size {
		n := copy(p.rested[:], frame)
		clear(p.rested[n:])
		frame = p.rested[:size]
	}
	pipe.Push(transcode.Packet{Seq: p.seq, Timestamp: p.stamp, Payload: frame})
	p.seq++
	p.stamp += uint32(size / 2)
	return true
}
