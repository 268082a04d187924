package homer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ClientConfig is what a Client needs: the URL, and a token or an account.
type ClientConfig struct {
	URL            string        // http://HOST:PORT, without /api
	Token          string        // sent as Auth-Token; HOMER must have enable_token_access
	User, Password string        // of /api/v3/auth, where there is no token
	Window         time.Duration // how far back it asks at least; default 24 h
	Batch          int           // Call-IDs per question; default 200
	Timeout        time.Duration // of one question; default 2 s
}

// Chosen by us.
const (
	defaultWindow = 24 * time.Hour // an hour and a day took HOMER the same time
	defaultBatch  = 200            // 0.52 s; 1000 took 2.8 s
	defaultAsk    = 2 * time.Second
	margin        = time.Hour       // two clocks
	ahead         = 2 * time.Second // HOMER cuts times to seconds: asked until now, it leaves the last second out
	maxText       = 256 << 20       // bytes of an answer
	wantedRows    = 200_000         // HOMER takes no notice of it in a transaction
)

// ErrToken means that the server does not accept the token or account: asking again does not help.
var ErrToken = errors.New("homer: the token or account is not accepted")

// Client asks a HOMER, or our own API.
type Client struct {
	cfg  ClientConfig
	http *http.Client

	mu     sync.Mutex // guards bearer
	bearer string
}

// NewClient checks the configuration; nothing is asked before the first question.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.URL == "" || cfg.Token == "" && cfg.User == "" {
		return nil, errors.New("homer: a URL, and a token or an account, are needed")
	}
	if cfg.Window <= 0 {
		cfg.Window = defaultWindow
	}
	if cfg.Batch <= 0 {
		cfg.Batch = defaultBatch
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultAsk
	}
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	return &Client{cfg: cfg, http: &http.Client{}}, nil
}

// Messages returns what HOMER has of the Call-IDs, from since, or longer ago if the window is wider, until two seconds from now.
func (c *Client) Messages(ctx context.Context, callIDs []string, since time.Time) ([]Message, error) {
	var out []Message
	for len(callIDs) > 0 {
		n := min(c.cfg.Batch, len(callIDs))
		part, err := c.batch(ctx, callIDs[:n], since)
		if err != nil {
			return nil, err
		}
		out, callIDs = append(out, part...), callIDs[n:]
	}
	return out, nil
}

func (c *Client) batch(ctx context.Context, ids []string, since time.Time) ([]Message, error) {
	now := time.Now()
	from := now.Add(-c.cfg.Window)
	if since = since.Add(-margin); !since.Before(time.Unix(0, 0)) && since.Before(from) {
		from = since
	}
	var q transactionRequest
	q.Timestamp.From, q.Timestamp.To = from.UnixMilli(), now.Add(ahead).UnixMilli()
	q.Param.Limit = wantedRows
	q.Param.Search.Call.CallID = ids
	var a transactionAnswer
	err := c.post(ctx, "/api/v3/call/transaction", q, &a)
	if errors.Is(err, ErrToken) && c.cfg.Token == "" { // the session has run out, and is forgotten
		err = c.post(ctx, "/api/v3/call/transaction", q, &a)
	}
	if err != nil {
		return nil, err
	}
	out := make([]Message, 0, len(a.Data.Messages))
	for i := range a.Data.Messages {
		if m, ok := a.Data.Messages[i].message(); ok {
			out = append(out, m)
		}
	}
	return out, nil
}

// login gets a session where there is no token.
func (c *Client) login(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bearer != "" {
		return c.bearer, nil
	}
	var a struct {
		Token string `json:"token"`
	}
	if err := c.ask(ctx, "/api/v3/auth", map[string]string{"username": c.cfg.User, "password": c.cfg.Password}, &a, ""); err != nil {
		return "", err
	}
	if a.Token == "" {
		return "", ErrToken
	}
	c.bearer = a.Token
	return c.bearer, nil
}

func (c *Client) post(ctx context.Context, path string, body, into any) error {
	if c.cfg.Token != "" {
		return c.ask(ctx, path, body, into, "")
	}
	bearer, err := c.login(ctx)
	if err != nil {
		return err
	}
	if err = c.ask(ctx, path, body, into, bearer); errors.Is(err, ErrToken) {
		c.mu.Lock()
		if c.bearer == bearer { // else somebody else has a new one already
			c.bearer = ""
		}
		c.mu.Unlock()
	}
	return err
}

func (c *Client) ask(ctx context.Context, path string, body, into any, bearer string) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("homer: write %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL+path, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("homer: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.cfg.Token != "" {
		req.Header.Set("Auth-Token", c.cfg.Token)
	} else if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("homer: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxText+1))
	if err != nil {
		return fmt.Errorf("homer: read %s: %w", path, err)
	}
	switch {
	case len(text) > maxText:
		return fmt.Errorf("homer: %s answers with more than %d bytes", path, maxText)
	case resp.StatusCode/100 == 2:
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden, bytes.Contains(text, []byte("jwt")): // a wrong token is a 400
		return ErrToken
	default:
		return fmt.Errorf("homer: %s answers %d %.100q", path, resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("homer: read %s: %w", path, err)
	}
	return nil
}
