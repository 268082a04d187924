package obs

import (
	"context"
	"errors"
	"fmt"
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
		Pages: map[string]Page{"/calls": func(context.Context, url.Values) (any, error) { return []string{"a@b"}, nil }},
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

// TestPagesSayWhatIsWrong: a page that has no answer is no 200, and says why; one that takes too long is told to end.
func TestPagesSayWhatIsWrong(t *testing.T) {
	base, _ := start(t, Config{Pages: map[string]Page{
		"/away": func(context.Context, url.Values) (any, error) { return nil, errors.New("the store is away") },
		"/odd": func(_ context.Context, q url.Values) (any, error) {
			return nil, fmt.Errorf("%w: n=%s", ErrQuery, q.Get("n"))
		},
		"/slow": func(ctx context.Context, _ url.Values) (any, error) {
			if _, limited := ctx.Deadline(); !limited {
				return "for ever", nil
			}
			return nil, context.DeadlineExceeded
		},
	}})
	for path, want := range map[string]struct {
		code int
		text string
	}{"/away": {503, "the store is away"}, "/odd?n=7": {400, "bad query: n=7"}, "/slow": {503, "deadline"}} {
		if code, text := get(t, base+path); code != want.code || !strings.Contains(text, want.text) {
			t.Errorf("%s: %d %q, want %d and %q", path, code, text, want.code, want.text)
		}
	}
}

// TestActionsOfOtherPages: what another page in the operator's browser sends is refused, what a program or our own page sends is done.
func TestActionsOfOtherPages(t *testing.T) {
	done := 0
	base, _ := start(t, Config{Actions: map[string]func(url.Values) error{"/drain": func(url.Values) error { done++; return nil }}})
	for _, c := range []struct {
		site string
		code int
	}{{"cross-site", 403}, {"same-site", 403}, {"same-origin", 200}, {"", 200}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/drain", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.site != "" {
			req.Header.Set("Sec-Fetch-Site", c.site)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.code {
			t.Errorf("Sec-Fetch-Site %q: %d, want %d", c.site, res.StatusCode, c.code)
		}
	}
	if done != 2 {
		t.Errorf("done %d times, want 2", done)
	}
}
