package ari

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Limits of the client, chosen by us. Asterisk answers most commands within 30 ms; one that needs seconds is as good as dead to a caller.
const (
	defaultInFlight = 64
	defaultTimeout  = 5 * time.Second
	maxAnswer       = 16 << 20 // a list of thousands of channels
)

// ErrNotFound is matched by the Error of a 404: the channel, bridge, playback or recording is not there any more.
var ErrNotFound = errors.New("not there")

// ErrConflict is matched by the Error of a 409: the thing is there and in another state than the command needs.
var ErrConflict = errors.New("in the wrong state")

// ErrNoAnswer is matched by the error of a command that the node did not answer: it is dead, hangs, or cannot be reached. Whether the command was
// carried out is not known.
var ErrNoAnswer = errors.New("no answer")

// Error is an answer that is not a success.
type Error struct {
	Method, Path string
	Status       int
	Message      string // Asterisk's own words
}

func (e *Error) Error() string {
	return fmt.Sprintf("ari: %s %s: %d %s", e.Method, e.Path, e.Status, e.Message)
}

// Is lets errors.Is tell 404 and 409.
func (e *Error) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound || target == ErrConflict && e.Status == http.StatusConflict
}

// ClientConfig is what a client needs. URL must be given.
type ClientConfig struct {
	URL         string        // http://USER:PASSWORD@HOST:PORT, without /ari
	App         string        // name of the application; default rtcedge
	MaxInFlight int           // requests at the same time, default 64; more wait
	Timeout     time.Duration // of one request, default 5 s
	Logger      *slog.Logger  // default: none
}

func (c *ClientConfig) validate() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User == nil || (u.Path != "" && u.Path != "/") {
		return nil, fmt.Errorf("ari: URL %q (allowed: http://USER:PASSWORD@HOST:PORT)", redact(c.URL))
	}
	c.fill()
	return u, nil
}

func (c *ClientConfig) fill() {
	if c.App == "" {
		c.App = "rtcedge"
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = defaultInFlight
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// redact hides the password: the text goes into logs.
func redact(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Redacted()
	}
	return "(not a URL)"
}

// caller carries a request to the node and brings its answer: HTTP, or the socket that Asterisk opened to us.
type caller interface {
	call(ctx context.Context, method, path string, query url.Values, body []byte) (status int, answer []byte, err error)
}

// Client commands one farm node. Its methods may be called from many goroutines.
type Client struct {
	cfg  ClientConfig
	url  *url.URL // nil where Asterisk opens the connection
	link *link    // that connection; nil where we open ours
	via  caller
	slot chan struct{} // one per request in flight
}

// NewClient returns a client that opens its own connections. Nothing is sent before the first call.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: cfg.MaxInFlight, IdleConnTimeout: 30 * time.Second}
	return &Client{cfg: cfg, url: u, via: &httpCaller{u, &http.Client{Transport: transport}}, slot: make(chan struct{}, cfg.MaxInFlight)}, nil
}

// Address is the node's address without the account.
func (c *Client) Address() string {
	if c.link != nil {
		return "connects by itself: " + c.link.name
	}
	return c.url.Scheme + "://" + c.url.Host
}

// App is the application's name.
func (c *Client) App() string { return c.cfg.App }

// do runs one request. in is sent as JSON if it is not nil, the answer is read into out if that is not nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	answer, err := c.raw(ctx, method, path, query, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("ari: read answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) raw(ctx context.Context, method, path string, query url.Values, in any) ([]byte, error) {
	var body []byte
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("ari: write %s %s: %w", method, path, err)
		}
		body = b
	}
	select {
	case c.slot <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("ari: %s %s: %d requests are under way: %w: %w", method, path, cap(c.slot), ErrNoAnswer, ctx.Err())
	}
	defer func() { <-c.slot }()
	status, answer, err := c.via.call(ctx, method, path, query, body)
	if err != nil {
		return nil, fmt.Errorf("ari: %s %s: %w: %w", method, path, ErrNoAnswer, err)
	}
	if status/100 != 2 {
		return nil, refusal(method, path, status, answer)
	}
	return answer, nil
}

func refusal(method, path string, status int, answer []byte) error {
	var body errorBody
	if json.Unmarshal(answer, &body) != nil || body.Message == "" {
		body.Message = http.StatusText(status)
	}
	return &Error{Method: method, Path: path, Status: status, Message: body.Message}
}

type httpCaller struct {
	url  *url.URL
	http *http.Client
}

func (h *httpCaller) call(ctx context.Context, method, path string, query url.Values, body []byte) (int, []byte, error) {
	target := h.url.Scheme + "://" + h.url.Host + "/ari/" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	password, _ := h.url.User.Password()
	req.SetBasicAuth(h.url.User.Username(), password)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, err
}

// id escapes an identifier for the path.
func id(s string) string { return url.PathEscape(s) }

// pairs makes a query of name, value, name, value; empty values are left out.
func pairs(kv ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			q.Set(kv[i], kv[i+1])
		}
	}
	return q
}

// sameText compares in a time that tells nothing about the texts.
func sameText(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
