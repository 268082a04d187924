package media

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rtcedge/media/ng"
	"rtcedge/transcode"
)

// Forwarding of what parties say as PCM (start forwarding), in the form of rtpengine's recording daemon (tcp-send-to, tls-send-to): one
// connection for each stream of a party, on it the call's metadata, a zero byte, and 16 bit samples, mono, little endian, 8 kHz. A packet on
// its way:
//
//  1. The worker decodes it (the voice of recording_track.go) and puts the samples into the forwarder's queue. A full queue is a counted loss.
//  2. The forwarder's goroutine connects, says who it is, and writes what is there. A receiver that is away or slow delays nobody.

// forwarder is one connection.
type forwarder struct {
	metadata string
	queue    chan samples // the worker puts and closes
	lost     *atomic.Uint64

	voice voice // the worker's
}

// samples are some milliseconds of audio.
type samples struct {
	n int
	b [2 * wavRate / 1000 * 60]byte
}

// forwards starts and owns the connections of an engine.
type forwards struct {
	network, address string
	tls              bool
	dialer           net.Dialer
	starts           chan *forwarder
	lost, failed     atomic.Uint64
}

// Chosen by us: a second of packets wait for a connection; connecting and each write may take as long as a call is set up in.
const (
	forwardQueue = 50
	forwardWait  = 5 * time.Second
)

// newForwards reads tcp://HOST:PORT or tls://HOST:PORT; "" is none.
func newForwards(to string) (*forwards, error) {
	if to == "" {
		return nil, nil
	}
	scheme, address, ok := strings.Cut(to, "://")
	if _, _, err := net.SplitHostPort(address); !ok || err != nil || scheme != "tcp" && scheme != "tls" {
		return nil, fmt.Errorf("forward to %q: want tcp://HOST:PORT or tls://HOST:PORT", to)
	}
	return &forwards{network: "tcp", address: address, tls: scheme == "tls", dialer: net.Dialer{Timeout: forwardWait}, starts: make(chan *forwarder, 256)}, nil
}

// run makes the connections until ctx ends.
func (w *forwards) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-w.starts:
			all.Go(func() {
				if err := w.serve(ctx, f); err != nil && ctx.Err() == nil {
					w.failed.Add(1)
				}
			})
		}
	}
}

// serve is one connection. What comes after it has failed is thrown away, so that the worker finds room until it closes the queue.
func (w *forwards) serve(ctx context.Context, f *forwarder) error {
	defer func() {
		for {
			select {
			case _, more := <-f.queue:
				if !more {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	var conn net.Conn
	var err error
	if w.tls {
		conn, err = (&tls.Dialer{NetDialer: &w.dialer}).DialContext(ctx, w.network, w.address)
	} else {
		conn, err = w.dialer.DialContext(ctx, w.network, w.address)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	write := func(b []byte) error {
		if err := conn.SetWriteDeadline(time.Now().Add(forwardWait)); err != nil {
			return err
		}
		_, err := conn.Write(b)
		return err
	}
	if err := write(append([]byte(f.metadata), 0)); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s, more := <-f.queue:
			if !more {
				return nil
			}
			if err := write(s.b[:s.n]); err != nil {
				return err
			}
		}
	}
}

// packet decodes an opened packet of leg l, on its worker.
func (f *forwarder) packet(l *leg, b []byte, hdr int) {
	v, fl := &f.voice, l.flow
	pt, ssrc := b[1]&typeMask, binary.BigEndian.Uint32(b[8:])
	event, noise := fl.event[pt], fl.cn[pt]
	if voiced := !event && !noise; fl != v.flow || voiced && pt != v.pt {
		v.open(fl, pt, voiced)
		v.ssrc = ssrc
	}
	if v.pipe == nil {
		return
	}
	if ssrc != v.ssrc {
		v.ssrc = ssrc
		v.pipe.Resync()
	}
	v.pipe.Push(transcode.Packet{Event: event, Noise: noise, Seq: binary.BigEndian.Uint16(b[2:]), Timestamp: binary.BigEndian.Uint32(b[4:]),
		Marker: b[1]&markerBit != 0, Payload: unpadded(b, hdr)})
	for {
		out, ok := v.pipe.Next()
		if !ok {
			return
		}
		var s samples
		for i := 0; i+1 < min(len(out.Payload), len(s.b)); i += 2 {
			s.b[i], s.b[i+1] = out.Payload[i+1], out.Payload[i]
			s.n = i + 2
		}
		select {
		case f.queue <- s:
		default:
			f.lost.Add(1)
		}
	}
}

// forwardTo sets or ends the forwarding of a leg, on its worker.
func (l *leg) forwardTo(f *forwarder) {
	x := l.rare.Load()
	if x == nil {
		return
	}
	if x.forward != nil {
		close(x.forward.queue)
	}
	x.forward = f
}

// errNoForwarding says that the node was started without a place to forward to.
var errNoForwarding = errors.New("start forwarding: this node has no destination, start it with --forward-to")

// Forwarding starts or stops the forwarding of the parties that the request names, or of all.
func (e *Engine) Forwarding(req *ng.Request, on bool) (*ng.Response, error) {
	if e.forwards == nil && on {
		return nil, errNoForwarding
	}
	return e.withCall(req, func(c *call) error {
		legs, err := c.legsOf(req)
		if err != nil {
			return err
		}
		if req.Metadata != "" {
			c.metadata = req.Metadata
		}
		for _, l := range legs {
			var f *forwarder
			if r := l.stream.route.Load(); on && (r == nil || r.raw || r.plain) {
				continue // not audio
			}
			if on {
				l.rarely()
				f = &forwarder{metadata: c.metadata, queue: make(chan samples, forwardQueue), lost: &e.forwards.lost}
			}
			if !l.stream.worker.loop.Do(func() { l.forwardTo(f) }) || !on {
				continue
			}
			select {
			case e.forwards.starts <- f:
			default:
				l.stream.worker.loop.Do(func() { l.forwardTo(nil) })
				return errors.New("start forwarding: too many connections are being made, try again")
			}
		}
		return nil
	})
}
