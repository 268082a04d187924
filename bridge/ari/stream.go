package ari

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// Limits of the event stream, chosen by us.
const (
	streamQueue  = 4096 // events between the socket and the handler; more is a gap, which is repaired by reading
	maxMessage   = 1 << 20
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second // a node that restarts is back within 1.5 s
	pingEvery    = time.Second
	pingTimeout  = 2 * time.Second
	dialTimeout  = 3 * time.Second
	probeTimeout = 3 * time.Second // for an event of our own to come back
)

// probeEvent is the name of the event that we send to ourselves.
const probeEvent = "rtcedge-probe"

// Connected is told by the client itself: events flow from here on, and what happened before is unknown. The handler reads channels and
// bridges now (B41); events that come meanwhile wait behind it.
type Connected struct{ EventHead }

// Disconnected is told by the client itself: the stream is lost. Commands may work or not.
type Disconnected struct {
	EventHead
	Err error
}

var errSlowHandler = errors.New("the handler is slower than the node's events")

// Stream hands the application's events to handle, one at a time and in order, until ctx ends. A lost connection is opened again with
// growing pauses. It ends early, with ErrReplaced, if somebody else took the application over.
func (c *Client) Stream(ctx context.Context, handle func(Event)) error {
	if c.link != nil {
		return c.link.stream(ctx, handle)
	}
	pause := firstBackoff
	for {
		connected := false
		err := c.streamOnce(ctx, func(ev Event) {
			if _, is := ev.(*Connected); is {
				connected = true
			}
			handle(ev)
		})
		if ctx.Err() != nil {
			return nil
		}
		if connected {
			pause = firstBackoff
			handle(&Disconnected{Err: err})
		}
		if errors.Is(err, ErrReplaced) {
			return err
		}
		c.cfg.Logger.Debug("ari stream", "node", c.Address(), "error", err, "again_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, maxBackoff)
	}
}

// ErrReplaced tells that another client registered the same application.
var ErrReplaced = errors.New("ari: the application was taken over by another client")

func (c *Client) streamOnce(ctx context.Context, handle func(Event)) error {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	scheme := "ws"
	if c.url.Scheme == "https" {
		scheme = "wss"
	}
	password, _ := c.url.User.Password()
	basic := base64.StdEncoding.EncodeToString([]byte(c.url.User.Username() + ":" + password))
	conn, resp, err := websocket.Dial(dial, scheme+"://"+c.url.Host+"/ari/events?"+pairs("app", c.cfg.App).Encode(), &websocket.DialOptions{
		Subprotocols: []string{"ari"}, HTTPHeader: http.Header{"Authorization": {"Basic " + basic}},
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= 400 {
			return &Error{Method: http.MethodGet, Path: "events", Status: resp.StatusCode, Message: http.StatusText(resp.StatusCode)}
		}
		return fmt.Errorf("ari: open event stream: %w", err)
	}
	defer conn.CloseNow()
	if err := c.filter(ctx); err != nil {
		return err
	}
	return pump(ctx, conn, handle, nil, c.probe)
}

// pump reads the socket until it breaks. Its own goroutines are gone when it returns. Answers to requests never wait behind a handler,
// which may itself wait for one. probe lets the node send probeEvent.
func pump(ctx context.Context, conn *websocket.Conn, handle func(Event), answer func([]byte) bool, probe func(context.Context) error) error {
	parent := ctx
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	conn.SetReadLimit(maxMessage)
	queue := make(chan Event, streamQueue)
	queue <- &Connected{}
	handled, pinged := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(handled)
		for ev := range queue {
			if parent.Err() != nil {
				continue
			}
			if _, is := ev.(*ApplicationReplaced); is {
				cancel(ErrReplaced)
				continue
			}
			handle(ev)
		}
	}()
	go func() {
		defer close(pinged)
		ping(ctx, conn, cancel)
	}()
	heard, listened := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(listened)
		listen(ctx, heard, probe, cancel)
	}()
	err := read(ctx, conn, queue, heard, answer)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	close(queue)
	<-handled // what was read before the loss still counts
	cancel(err)
	<-pinged
	<-listened
	return err
}

func read(ctx context.Context, conn *websocket.Conn, queue chan<- Event, heard chan<- struct{}, answer func([]byte) bool) error {
	for {
		_, b, err := conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("ari: read event stream: %w", err)
		}
		if answer != nil && answer(b) {
			continue
		}
		ev, err := ParseEvent(b)
		if err != nil {
			continue // one event that cannot be read is no reason to lose the others
		}
		if own, is := ev.(*ChannelUserevent); is && own.EventName == probeEvent {
			select {
			case heard <- struct{}{}:
			default:
			}
			continue
		}
		select {
		case queue <- ev:
		default:
			return errSlowHandler
		}
	}
}

// listen finds a socket that is open and on which nothing will ever come. When a node that stood still comes back, it works off the connections
// that were tried meanwhile in any order, and Asterisk takes the end of an older one for the end of the application (seen with 22.10: "Stasis
// app not active", and every call refused).
func listen(ctx context.Context, heard <-chan struct{}, probe func(context.Context) error, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var refused *Error
		if err := probe(ctx); errors.As(err, &refused) {
			cancel(fmt.Errorf("ari: the application is not there: %w", err))
			return
		} else if err != nil {
			continue // a node that does not answer is ping's affair
		}
		wait := time.NewTimer(probeTimeout)
		select {
		case <-ctx.Done():
		case <-heard:
		case <-wait.C:
			cancel(errDeaf)
		}
		wait.Stop()
	}
}

var errDeaf = errors.New("ari: the node does not send the application's events")

// ping finds a peer that is gone without a word.
func ping(ctx context.Context, conn *websocket.Conn, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wait, stop := context.WithTimeout(ctx, pingTimeout)
		err := conn.Ping(wait)
		stop()
		if err != nil {
			cancel(fmt.Errorf("ari: ping: %w", err))
			return
		}
	}
}
