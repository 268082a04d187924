package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"rtcedge/sip/auth"
)

// HTTP asks a web service: GET URL?user=U&realm=R. It answers 200 and {"ha1": "md5 digits", "ha1_sha256": "digits"}, one of them at least, or 404
// for a user that does not exist. A user and password in the URL are sent as basic authentication.
type HTTP struct {
	base   *url.URL
	client *http.Client
}

// Chosen by us.
const (
	maxConns  = 32 // to the service: as many as the edge asks at once
	maxAnswer = 4 << 10
)

// NewHTTP checks the URL; nothing is asked yet.
func NewHTTP(text string) (*HTTP, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("not a URL (allowed: http://HOST[:PORT]/PATH or https://)")
	}
	transport := &http.Transport{MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	return &HTTP{base: u, client: &http.Client{Transport: transport,
		// A hash serves as password: it is taken from the configured place only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Find asks for one user.
func (h *HTTP) Find(ctx context.Context, user, realm string) (auth.Credential, bool, error) {
	u := *h.base
	q := u.Query()
	q.Set("user", user)
	q.Set("realm", realm)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return auth.Credential{}, false, fmt.Errorf("ask %s: %w", h.base.Host, err)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		var ue *url.Error // its text holds the whole URL
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return auth.Credential{}, false, fmt.Errorf("ask %s: %w", h.base.Host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return auth.Credential{}, false, fmt.Errorf("ask %s: %w", h.base.Host, err)
	case resp.StatusCode == http.StatusNotFound:
		return auth.Credential{}, false, nil
	case resp.StatusCode != http.StatusOK:
		return auth.Credential{}, false, fmt.Errorf("ask %s: it answered %s (allowed: 200, 404)", h.base.Host, resp.Status)
	case len(body) > maxAnswer:
		return auth.Credential{}, false, fmt.Errorf("ask %s: the answer is longer than %d bytes", h.base.Host, maxAnswer)
	}
	var answer struct {
		HA1    string `json:"ha1"`
		SHA256 string `json:"ha1_sha256"`
	}
	if json.Unmarshal(body, &answer) != nil { // the error would show what stands there
		return auth.Credential{}, false, fmt.Errorf("ask %s: the answer is no JSON object", h.base.Host)
	}
	return credential(answer.HA1, answer.SHA256)
}

// Close ends the idle connections.
func (h *HTTP) Close() { h.client.CloseIdleConnections() }

func credential(md5, sha256 string) (auth.Credential, bool, error) {
	c, err := auth.ParseHashes(md5, sha256)
	if err != nil {
		return auth.Credential{}, false, fmt.Errorf("%w: %w", auth.ErrNoHash, err)
	}
	return c, true, nil
}
