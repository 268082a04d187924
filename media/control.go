package media

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rtcedge/media/ng"
)

// Commands that change a call in progress without SDP.

// gate is what of a party's packets is held back; a set of bits.
type gate = uint32

const (
	gateMedia   gate = 1 << iota // all but telephone-events
	gateSilence                  // the voice: silence goes out in its place
	gateDTMF                     // telephone-events
	gateAll                      // everything, by drop-traffic
)

// withCall finds the call of a request, runs fn under its lock and answers.
func (e *Engine) withCall(req *ng.Request, fn func(c *call) error) (*ng.Response, error) {
	if req.CallID == "" {
		return nil, errors.New("call-id is needed")
	}
	c, err := e.lock(req.CallID, false)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, errors.New("unknown call-id")
	}
	err = fn(c)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	e.changed(req.CallID)
	return &ng.Response{Result: ng.ResultOK}, nil
}

// setGate opens or closes a gate of the party that the request names, or of all.
func (e *Engine) setGate(req *ng.Request, bit gate, closed bool) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		legs, err := c.legsOf(req)
		if err != nil {
			return err
		}
		for _, l := range legs {
			if r := l.stream.route.Load(); closed && bit == gateSilence && r != nil && !r.silenceable(l.side) {
				return fmt.Errorf("silence media: %s is relayed as it is, and silence can only be made where one side has PCMU or PCMA; "+
					"use block media", r.names[l.side])
			}
		}
		for _, l := range legs {
			if closed {
				l.gate.Or(bit)
			} else {
				l.gate.And(^bit)
			}
		}
		return nil
	})
}

// legsOf finds the legs whose packets a command is about: those of the parties that are chosen by from-tag, from-tags, label or the
// address in their SDP, or of all.
func (c *call) legsOf(req *ng.Request) ([]*leg, error) {
	var legs []*leg
	for _, d := range c.dialogs {
		for side := range d.parties {
			if !d.chosen(side, req) {
				continue
			}
			if req.SetLabel != "" {
				d.parties[side].label = req.SetLabel
			}
			for _, s := range d.streams {
				if s != nil {
					legs = append(legs, &s.legs[side])
				}
			}
		}
	}
	if len(legs) == 0 {
		return nil, errors.New("no party with this from-tag, label or address has media")
	}
	return legs, nil
}

// chosen tells if a command is about the party: the first of the keys that is given decides; none is about everybody.
func (d *dialog) chosen(side int, req *ng.Request) bool {
	p := &d.parties[side]
	switch {
	case req.All == "all":
	case req.FromTag != "":
		return p.has(req.FromTag)
	case len(req.FromTags) > 0:
		return slices.ContainsFunc(req.FromTags, p.has)
	case req.Label != "":
		return p.label == req.Label
	case req.Address.IsValid():
		return slices.ContainsFunc(d.streams, func(s *stream) bool {
			return s != nil && s.legs[side].far.rtp.Addr().Unmap() == req.Address.Unmap()
		})
	}
	return true
}

// silenceable tells if a voice of this side can be replaced: its own code words are known, or those that leave.
func (r *route) silenceable(side int) bool {
	in, out := r.names[side], r.names[1-side]
	_, known := quiet(in)
	if !known && r.flows[side].pipe != nil {
		_, known = quiet(out)
	}
	return known || in == ""
}

// quiet is the code word of silence (ITU-T G.711).
func quiet(name string) (byte, bool) {
	switch strings.ToUpper(name) {
	case "PCMU":
		return 0xff, true
	case "PCMA":
		return 0xd5, true
	}
	return 0, false
}

// Bounds of rtpengine's play DTMF.
const (
	minDigit, maxDigit, defaultDigit = 100 * time.Millisecond, 5 * time.Second, 250 * time.Millisecond
	minPause                         = 100 * time.Millisecond
	defaultVolume                    = 8 // -dBm0
	maxDigits                        = 32
)

// PlayDTMF sends events to the other party as if the one that the request names had pressed the keys.
func (e *Engine) PlayDTMF(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		if req.FromTag == "" && req.Label == "" {
			return errors.New("play DTMF: from-tag or label is needed, of the party that seems to press the keys")
		}
		j := injection{tone: defaultDigit, gap: max(req.Pause, minPause), volume: defaultVolume}
		if req.Duration != 0 {
			j.tone = min(max(req.Duration, minDigit), maxDigit)
		}
		if v := req.Volume; v != 0 {
			j.volume = uint8(min(max(v, -v), eventVolumeMax))
		}
		var err error
		if j.digits, err = readDigits(req.Code); err != nil {
			return err
		}
		legs, err := c.legsOf(req)
		if err != nil {
			return err
		}
		for _, l := range legs {
			r := l.stream.route.Load()
			if r == nil || r.raw || r.plain {
				continue
			}
			pt, rate := r.eventsTo(1 - l.side)
			one := j
			if rate == 0 {
				if r.flows[l.side].pipe == nil || l.pipeConfig.FromEvents == 0 || l.pipeConfig.ToEvents != 0 {
					return errNoInject
				}
				one.through, rate = true, uint32(l.pipeConfig.FromEvents)
			}
			one.pt, one.clock = pt, rate
			peer := &l.stream.legs[1-l.side]
			c.worker.loop.Do(func() { peer.inject = &one })
			return nil
		}
		return errors.New("play DTMF: the party has no audio yet")
	})
}

// eventsTo finds the telephone-event type of the party that receives.
func (r *route) eventsTo(side int) (pt uint8, rate uint32) {
	for _, c := range r.flows[side].heard {
		if isEvent(c) && (r.flows[1-side].events == c.PT || r.flows[1-side].types[c.PT&typeMask] == c.PT) {
			return c.PT, uint32(c.Rate)
		}
	}
	return 0, 0
}

// readDigits reads keys ("5", "*", "12#") or the number of an event from 10 on, as rtpengine does.
func readDigits(code string) ([]uint8, error) {
	const keys = "0123456789*#ABCD"
	if len(code) == 2 && code[0] == '1' && code[1] >= '0' && code[1] <= '5' {
		return []uint8{10 + code[1] - '0'}, nil
	}
	var digits []uint8
	for _, c := range strings.ToUpper(code) {
		i := strings.IndexRune(keys, c)
		if i < 0 {
			return nil, fmt.Errorf("play DTMF: code %.20q: want keys of 0-9, *, #, A-D, or the number of an event up to 15", code)
		}
		digits = append(digits, uint8(i))
	}
	if len(digits) == 0 || len(digits) > maxDigits {
		return nil, fmt.Errorf("play DTMF: %d keys in code, want 1 to %d", len(digits), maxDigits)
	}
	return digits, nil
}
