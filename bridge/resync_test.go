package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rtcedge/bridge/ari"
)

// TestB41EventsWaitForAReading: a node that is read again, because the store was away, is read in its place among the events. One that overtook the reading
// would end a channel that the reading then begins anew.
func TestB41EventsWaitForAReading(t *testing.T) {
	reading, told := make(chan struct{}), make(chan struct{})
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/asterisk/info"):
			fmt.Fprint(w, `{"system":{"entity_id":"call1"},"status":{"startup_time":"2026-11-26T10:00:00.000+0000"}}`)
			return
		case strings.HasSuffix(r.URL.Path, "/channels"):
			close(reading)
			<-told
		}
		w.WriteHeader(http.StatusInternalServerError) // the reading ends here
	}))
	defer fake.Close()
	client, err := ari.NewClient(ari.ClientConfig{URL: strings.Replace(fake.URL, "http://", "http://u:p@", 1), App: App})
	if err != nil {
		t.Fatal(err)
	}
	b := &Bridge{cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
	n := &node{b: b, client: client, ours: true, info: Node{ID: "call1", State: NodeUp}}
	read, handled := make(chan struct{}), make(chan struct{})
	go func() { defer close(read); n.readAgain(context.WithoutCancel(t.Context())) }()
	<-reading
	go func() { defer close(handled); n.handle(&ari.ChannelDestroyed{}) }()
	select {
	case <-handled:
		t.Error("an event overtook the reading")
	case <-time.After(50 * time.Millisecond):
	}
	close(told)
	<-read
	<-handled
}
