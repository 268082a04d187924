package media

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The callback of a call that timed out (rtpengine's b2b-url): the media has gone, so the controller is asked by XML-RPC to end the
// signalling, too. A callback on its way:
//
//  1. The sweep that ends the call puts what is to be said into a queue; a full queue is a counted loss. Nobody waits.
//  2. One of a few goroutines posts it, again after a failure, and gives up after teardownTries. The log tells of that, once per call.

// TeardownFormat is what is said, by the numbers that rtpengine's xmlrpc-format has.
type TeardownFormat int

const (
	TeardownSEMS     TeardownFormat = iota // di(sbc, postControlCmd, TAG, teardown) for each tag
	TeardownCallID                         // teardown(CALL-ID)
	TeardownKamailio                       // dlg.terminate_dlg(CALL-ID, FROM-TAG, TO-TAG) for each dialog; Kamailio's and OpenSIPS' dialog modules have it
)

// Chosen by rtpengine: it tries four times, each for 5 s.
const (
	teardownTries = 4
	teardownWait  = 5 * time.Second
)

// Chosen by us.
const (
	teardownPause  = 500 * time.Millisecond // behind a try that failed
	teardownAtOnce = 8                      // posts; a controller that hangs holds up those behind it
	teardownQueue  = 4096                   // calls that may time out together before some are left out
	teardownAnswer = 64 << 10               // bytes of an answer that are read
)

// addressCode in the URL stands for the controller's address.
const addressCode = "%%"

// teardown is one call to make.
type teardown struct {
	callID, url string
	body        []byte
}

// teardowns makes the calls.
type teardowns struct {
	url    string
	format TeardownFormat
	log    *slog.Logger
	client *http.Client
	queue  chan teardown
	pause  time.Duration

	sent, failed, lost atomic.Uint64
}

// newTeardowns is nil without a URL.
func newTeardowns(to string, format TeardownFormat, log *slog.Logger) (*teardowns, error) {
	if to == "" {
		return nil, nil
	}
	u, err := url.Parse(strings.ReplaceAll(to, addressCode, "192.0.2.1"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("teardown URL %q: want http://HOST:PORT/PATH or https://..., with %%%% for the controller's address", to)
	}
	if format < TeardownSEMS || format > TeardownKamailio {
		return nil, fmt.Errorf("teardown format %d: want 0 (SEMS), 1 (call-id) or 2 (Kamailio)", format)
	}
	return &teardowns{url: to, format: format, log: log, queue: make(chan teardown, teardownQueue), client: &http.Client{Timeout: teardownWait},
		pause: teardownPause}, nil
}

// callback is where a call's controller is told: the address that it named, else that from which it asked first.
func (o *callOptions) callback(named, asked netip.Addr) {
	switch {
	case named.IsValid():
		o.Callback = named.Unmap()
	case !o.Callback.IsValid():
		o.Callback = asked.Unmap()
	}
}

// of puts what is to be said about a call into the queue; c.mu is held.
func (w *teardowns) of(c *call) {
	to := w.url
	if strings.Contains(to, addressCode) {
		at := c.options.Callback
		if !at.IsValid() {
			w.lost.Add(1) // a controller in our own process has no address
			return
		}
		host := at.String()
		if at.Is6() {
			host = "[" + host + "]"
		}
		to = strings.ReplaceAll(to, addressCode, host)
	}
	for _, body := range w.bodies(c) {
		select {
		case w.queue <- teardown{callID: c.id, url: to, body: body}:
		default:
			w.lost.Add(1)
		}
	}
}

// bodies are the requests that a call's end needs.
func (w *teardowns) bodies(c *call) (list [][]byte) {
	if w.format == TeardownCallID {
		return [][]byte{methodCall("teardown", c.id)}
	}
	for _, d := range c.dialogs {
		from, to := d.parties[0].tag(), d.parties[1].tag()
		if w.format == TeardownKamailio {
			if from != "" && to != "" {
				list = append(list, methodCall("dlg.terminate_dlg", c.id, from, to))
			}
			continue
		}
		for _, tag := range []string{from, to} {
			if tag != "" {
				list = append(list, methodCall("di", "sbc", "postControlCmd", tag, "teardown"))
			}
		}
	}
	return list
}

// methodCall writes a request of XML-RPC whose parameters are strings.
func methodCall(method string, params ...string) []byte {
	b := bytes.NewBufferString(xml.Header + "<methodCall><methodName>" + method + "</methodName><params>")
	for _, p := range params {
		b.WriteString("<param><value><string>")
		_ = xml.EscapeText(b, []byte(p)) // a buffer takes all
		b.WriteString("</string></value></param>")
	}
	b.WriteString("</params></methodCall>\n")
	return b.Bytes()
}

// run makes the calls until ctx ends.
func (w *teardowns) run(ctx context.Context) {
	var all sync.WaitGroup
	defer w.client.CloseIdleConnections()
	defer all.Wait()
	for range teardownAtOnce {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case one := <-w.queue:
					w.make(ctx, one)
				}
			}
		})
	}
}

// make tries one call until it is heard.
func (w *teardowns) make(ctx context.Context, one teardown) {
	var err error
	for range teardownTries {
		if err = w.post(ctx, one); err == nil {
			w.sent.Add(1)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.pause):
		}
	}
	w.failed.Add(1)
	w.log.Warn("tell the controller of a call that timed out", "call_id", one.callID, "url", one.url, "error", err)
}

func (w *teardowns) post(ctx context.Context, one teardown) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, one.url, bytes.NewReader(one.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/xml")
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("status %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, teardownAnswer))
	if err != nil {
		return err
	}
	return faultOf(body)
}

// faultOf is the error of an answer of XML-RPC. A dialog that is unknown there has ended: nothing is left to do, as rtpengine sees it, too.
func faultOf(body []byte) error {
	var answer struct {
		Fault *struct {
			Text string `xml:",innerxml"`
		} `xml:"fault"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("no answer of XML-RPC: %w", err)
	}
	if answer.Fault == nil || strings.Contains(strings.ToLower(answer.Fault.Text), "dialog not found") {
		return nil
	}
	return fmt.Errorf("fault %.200q", answer.Fault.Text)
}
