package ari

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rtcedge/internal/testrun"
)

// routes answers with one channel and records what was asked.
func testRoutes(asked *[]string) []Route {
	return []Route{
		{"GET", "channels", func(*Request) (any, error) { return []Channel{}, nil }},
		{"POST", "channels/externalMedia", func(*Request) (any, error) { return &Created{Variable{"external"}}, nil }},
		{"POST", "channels/{channelId}", func(r *Request) (any, error) { return Variable{r.Name("channelId")}, nil }},
		{"DELETE", "channels/{channelId}", func(r *Request) (any, error) {
			if r.Name("channelId") != "1700000000.1" {
				return nil, Refuse(404, "Channel not found")
			}
			cause, err := HangupCause(r)
			if err == nil {
				*asked = append(*asked, fmt.Sprint(cause))
			}
			return nil, err
		}},
		{"POST", "bridges/{bridgeId}/addChannel", func(r *Request) (any, error) {
			*asked = append(*asked, strings.Join(r.List("channel"), "+"))
			return nil, nil
		}},
		{"GET", "file", func(*Request) (any, error) {
			return &File{Type: "audio/wav", Size: 4, Body: io.NopCloser(strings.NewReader("RIFF"))}, nil
		}},
	}
}

func start(t *testing.T, cfg Config) (*Server, string) {
	t.Helper()
	cfg.Listen, cfg.User, cfg.Password = netip.MustParseAddrPort("127.0.0.1:0"), "bridge", "secret"
	cfg.NodeID = "call1"
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, s.Run)
	return s, "http://" + s.Addr().String()
}

func ask(t *testing.T, method, url, password string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("bridge", password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body), res.Header
}

// TestRoutes: paths, methods, parameters in the query and in the body, refusals and authentication, as Asterisk has them.
func TestRoutes(t *testing.T) {
	var asked []string
	_, base := start(t, Config{Routes: testRoutes(&asked)})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	tests := []struct {
		method, path, password string
		status                 int
		want                   string // the whole body; "" skips
	}{
		{"GET", "/ari/channels", "secret", 200, "[]"},
		{"POST", "/ari/channels/externalMedia", "secret", 201, `{"value":"external"}`},
		{"POST", "/ari/channels/a%2Fb", "secret", 200, `{"value":"a/b"}`},
		{"GET", "/ari/nothing", "secret", 404, `{"message":"Resource not found"}`},
		{"GET", "/ari/channels/", "secret", 404, `{"message":"Resource not found"}`},
		{"PUT", "/ari/channels", "secret", 405, `{"message":"Invalid method"}`},
		{"DELETE", "/ari/channels/1700000000.1?reason_code=17", "secret", 204, ""},
		{"DELETE", "/ari/channels/1700000000.1?reason=no_answer", "secret", 204, ""},
		{"DELETE", "/ari/channels/1700000000.1", "secret", 204, ""},
		{"DELETE", "/ari/channels/1700000000.1?reason=tired", "secret", 400, `{"message":"Invalid reason for hangup reason provided"}`},
		{"DELETE", "/ari/channels/1700000000.1?reason_code=900", "secret", 400, ""},
		{"DELETE", "/ari/channels/none", "secret", 404, `{"message":"Channel not found"}`},
		{"POST", "/ari/bridges/b/addChannel?channel=x,y", "secret", 204, ""},
		{"GET", "/ari/file", "secret", 200, "RIFF"},
		{"GET", "/ari/channels", "", 401, `{"message":"Authentication required"}`},
		{"GET", "/ari/channels", "wrong", 401, `{"message":"Authentication required"}`},
		{"GET", "/ari/channels?api_key=bridge:secret", "", 200, "[]"},
		{"GET", "/ari/channels?api_key=bridge:wrong", "", 401, ""},
		{"GET", "/ari/events", "secret", 400, `{"message":"HTTP request is missing param: [app]"}`},
		{"GET", "/ari/applications", "secret", 200, "[]"},
		{"GET", "/ari/applications/none", "secret", 404, `{"message":"Application not found"}`},
	}
	for _, tt := range tests {
		status, body, header := ask(t, tt.method, base+tt.path, tt.password)
		if status != tt.status || tt.want != "" && body != tt.want {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, status, body, tt.status, tt.want)
		}
		if status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s %s: no Basic challenge", tt.method, tt.path)
		}
	}
	if diff := cmp.Diff([]string{"17", "19", "16", "x+y"}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// TestTimeRoundTrip: times are read as they are written.
func TestTimeRoundTrip(t *testing.T) {
	want := Time{time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 3600))}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Time
	if err := json.Unmarshal(b, &got); err != nil || !got.Equal(want.Time) {
		t.Fatalf("%s read as %v (%v)", b, got, err)
	}
}

// TestBadConfig: each mistake is named.
func TestBadConfig(t *testing.T) {
	good := Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), User: "u", Password: "p", Routes: testRoutes(new([]string))}
	for name, breakIt := range map[string]func(*Config){
		"listen":   func(c *Config) { c.Listen = netip.AddrPort{} },
		"password": func(c *Config) { c.Password = "" },
		"routes":   func(c *Config) { c.Routes = nil },
		"queue":    func(c *Config) { c.Queue = -1 },
	} {
		c := good
		breakIt(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v does not name it", name, err)
		}
	}
	s, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	taken := good
	taken.Listen = s.Addr()
	if _, err := New(taken); err == nil || !strings.Contains(err.Error(), s.Addr().String()) {
		t.Errorf("port in use: %v does not name %v", err, s.Addr())
	}
}
