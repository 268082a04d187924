package ari

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// node is a server that drops the event stream when told to.
func node(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := NewClient(ClientConfig{URL: "http://u:p@" + strings.TrimPrefix(srv.URL, "http://"), MaxInFlight: 2})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestB41StreamReconnects drops the stream after one event: the client says so, connects again, and says that things must be read anew.
func TestB41StreamReconnects(t *testing.T) {
	var drops atomic.Int32
	filtered := make(chan string, 10)
	c := node(t, func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "u" || pass != "p" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/eventFilter") {
			var f map[string]any
			_ = json.NewDecoder(r.Body).Decode(&f)
			text, _ := json.Marshal(f)
			filtered <- string(text)
			return
		}
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ari"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		_ = conn.Write(r.Context(), websocket.MessageText, []byte(`{"type":"ChannelHold","channel":{"id":"c1"}}`))
		if drops.Add(1) <= 2 {
			return
		}
		_ = conn.Write(r.Context(), websocket.MessageText, []byte(`{"type":"ApplicationReplaced"}`))
		_, _, _ = conn.Read(r.Context())
	})
	var seen []string
	err := c.Stream(t.Context(), func(ev Event) {
		switch ev := ev.(type) {
		case *Connected:
			seen = append(seen, "connected")
		case *Disconnected:
			seen = append(seen, "disconnected")
		default:
			seen = append(seen, ev.Head().Type)
		}
	})
	if !errors.Is(err, ErrReplaced) {
		t.Errorf("ended with %v", err)
	}
	one := "connected ChannelHold disconnected"
	if got, want := strings.Join(seen, " "), one+" "+one+" "+one; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if f := <-filtered; !strings.Contains(f, "ChannelVarset") {
		t.Errorf("filter %s", f)
	}
}

// TestRequestsInFlightAreBounded: the third of three waits until one is answered, and gives up when its context ends.
func TestRequestsInFlightAreBounded(t *testing.T) {
	var now, most atomic.Int32
	free := make(chan struct{})
	c := node(t, func(w http.ResponseWriter, r *http.Request) {
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-free
		now.Add(-1)
		reply(w, []Channel{})
	})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := c.Channels(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for range 6 {
		free <- struct{}{}
	}
	wg.Wait()
	if most.Load() > 2 {
		t.Errorf("%d at the same time, want at most 2", most.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := c.Channels(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a node that does not answer: %v", err)
	}
	close(free)
}

func TestErrorsHaveAStatus(t *testing.T) {
	c := node(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "Channel not found") })
	err := c.Answer(t.Context(), "x/y")
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != 404 || refused.Message != "Channel not found" || !errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v", err)
	}
	if err := c.Play(t.Context(), "nowhere", "p", []string{"sound:x"}, 0); err == nil {
		t.Error("a target of no kind was taken")
	}
	for _, bad := range []string{"", "http://h:1", "ftp://u:p@h", "http://u:secret@h:1/x"} {
		if _, err := NewClient(ClientConfig{URL: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in %q", err)
		}
	}
}
