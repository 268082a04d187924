//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rtcedge/internal/store"
)

// TestB55OperatorsPage: a browser shows what a real recovery says of a crash: its own times, and each leg's steps with result and reason. A Call-ID that is
// markup is shown as it is, and runs nothing.
func TestB55OperatorsPage(t *testing.T) {
	chromium := need(t, "chromium")
	storeAt, admin := freePort(t, netip.MustParseAddr("127.0.0.1")), freePort(t, netip.MustParseAddr("127.0.0.1"))
	launch(t, "recovery", edgeProgram.binary(t), "recovery", "--farm", "http://u:p@127.0.0.1:1", "--store-listen", storeAt.String(), "--admin", admin.String())
	eventually(t, "recovery is ready", 10*time.Second, func() bool {
		res, err := http.Get("http://" + admin.String() + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})

	st, err := store.New(store.Config{URL: "nats://" + storeAt.String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- st.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	const evil = `<img src=x onerror="document.title='owned'">`
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	ms := func(n int) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	step := func(name string, n int, about ...string) map[string]any {
		about = append(about, "", "")
		return map[string]any{"name": name, "at": ms(n), "result": about[0], "reason": about[1]}
	}
	put := func(bucket, key string, value any) {
		t.Helper()
		b, err := st.Bucket(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), key, text); err != nil {
			t.Fatal(err)
		}
	}
	put("crash_legs", "call1.e1.0000.000000", map[string]any{"call": "c1", "leg": "c1.1", "sip_call_id": evil, "target": "call2", "result": "recovered",
		"steps": []any{step("found", 160), step("dialog", 170, "own capture"), step("invite", 200, "call2"), step("recovered", 333, "recovered"), step("rtp", 377)}})
	put("crash_legs", "call1.e1.0000.000001", map[string]any{"call": "c2", "leg": "c2.1", "sip_call_id": "other@phone", "result": "refused", "reason": evil,
		"steps": []any{step("dialog", 170, "refused", evil)}})
	put("crash_legs", "call1.e1.0000.crash", []any{step("lease", 151, "a"), step("fence at 127.0.0.1:8080", 155, "failed", "connection refused")})
	put("crashes", "call1.e1", map[string]any{"node": "call1", "epoch": "e1", "reason": evil, "since": ms(0), "detected": ms(150), "done": ms(900), "closed": ms(5900),
		"controller": "a", "results": map[string]int{"recovered": 1, "refused": 1}})

	show := func(what url.Values) (page string) {
		t.Helper()
		for range 3 { // a browser that had no time to draw it says nothing about the page
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
				"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--user-data-dir="+t.TempDir(),
				"--virtual-time-budget=3000", "--dump-dom", "http://"+admin.String()+"/#"+what.Encode())
			out, err := cmd.Output()
			cancel()
			if page = string(out); strings.Contains(page, " of 2 legs") {
				return page
			}
			t.Logf("chromium: %v, %d bytes without the legs", err, len(out))
		}
		return page
	}
	page := show(url.Values{"crash": {"call1.e1"}})
	for _, want := range []string{"<title>rtcedge</title>", "call1.e1</button>", "1 refused", "&lt;img src=x", "2 of 2 legs", "<b>155</b> fence at 127.0.0.1:8080 (failed: connection refused)",
		"<b>170</b> dialog (own capture)", "<b>200</b> invite (call2)", "<b>377</b> rtp", "<b>5900</b> closed", "other@phone", "http://u"} {
		if (want == "http://u") == strings.Contains(page, want) { // no password of the farm stands there
			t.Errorf("the page and %q:\n%s", want, tail(page, 6000))
		}
	}
	if strings.Contains(page, "<img") || strings.Contains(page, "owned'</title>") {
		t.Errorf("a Call-ID became markup:\n%s", tail(page, 6000))
	}
	if page := show(url.Values{"crash": {"call1.e1"}, "call": {"OTHER@"}}); !strings.Contains(page, "1 of 2 legs") || strings.Contains(page, "<b>377</b>") {
		t.Errorf("the filter does not choose the other leg:\n%s", tail(page, 6000))
	}
}
