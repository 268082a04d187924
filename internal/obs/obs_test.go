package obs

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"rtcedge/internal/testrun"
)

func start(t *testing.T, cfg Config) (base string, s *Server) {
	t.Helper()
	cfg.Addr = netip.MustParseAddrPort("127.0.0.1:0")
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, s.Run)
	return "http://" + s.Addr().String(), s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestB10ReadyzFollowsSetReady(t *testing.T) {
	base, s := start(t, Config{})
	if code, _ := get(t, base+"/healthz"); code != 200 {
		t.Errorf("healthz %d before ready, want 200", code)
	}
	if code, _ := get(t, base+"/readyz"); code != 503 {
		t.Errorf("readyz %d before ready, want 503", code)
	}
	s.SetReady(true)
	if code, _ := get(t, base+"/readyz"); code != 200 {
		t.Errorf("readyz %d when ready, want 200", code)
	}
	s.SetReady(false)
	if code, _ := get(t, base+"/readyz"); code != 503 {
		t.Errorf("readyz %d when draining, want 503", code)
	}
}

func TestMetricsPagesActionsAndPprof(t *testing.T) {
	drops := 0.0
	base, _ := start(t, Config{
		Sources: []Source{func() []Sample {
			drops++
			return []Sample{
				{Name: "sip_dropped_total", Help: "dropped messages", Value: drops, Labels: []string{"reason", "malformed"}},
				{Name: "calls", Help: "calls now", Gauge: true, Value: 7},
				{Name: "setup_seconds", Help: "set-up", Value: 0.5, Count: 3, Buckets: map[float64]uint64{0.1: 2}, Labels: []string{"step", "rung"}},
			}
		}},
		Pages: map[string]func() any{"/calls": func() any { return []string{"a@b"} }},
		Actions: map[string]func(url.Values) error{
			"/drain": func(url.Values) error { return nil },
			"/bad":   func(q url.Values) error { return errors.New("already draining " + q.Get("node")) }},
	})
	_, _ = get(t, base+"/metrics")
	code, text := get(t, base+"/metrics")
	for _, want := range []string{`rtcedge_sip_dropped_total{reason="malformed"} 2`, "# TYPE rtcedge_calls gauge", "rtcedge_calls 7", `rtcedge_setup_seconds_bucket{step="rung",le="0.1"} 2`,
		`rtcedge_setup_seconds_count{step="rung"} 3`, "go_goroutines", "process_open_fds"} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics (%d) lacks %q", code, want)
		}
	}
	if _, text := get(t, base+"/calls"); !strings.Contains(text, `"a@b"`) {
		t.Errorf("/calls: %q", text)
	}
	if code, _ := get(t, base+"/debug/pprof/goroutine?debug=1"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
	for path, want := range map[string]int{"/drain": 200, "/bad": 409, "/nope": 404} {
		resp, err := http.Post(base+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("POST %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	if code, _ := get(t, base+"/drain"); code != 405 {
		t.Errorf("GET /drain: %d, want 405", code)
	}
}

func TestPortInUseNamesTheAddress(t *testing.T) {
	_, s := start(t, Config{})
	_, err := New(Config{Addr: s.Addr()})
	if err == nil || !strings.Contains(err.Error(), s.Addr().String()) || !strings.Contains(err.Error(), "allowed: ") {
		t.Errorf("error %v, want it to name %s and what is allowed", err, s.Addr())
	}
}
