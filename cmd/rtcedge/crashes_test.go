package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"rtcedge/internal/obs"
	"rtcedge/internal/testrun"
	"rtcedge/recovery"
)

// crashesAt serves /crashes and /status as recovery's admin port does.
func crashesAt(t *testing.T, read func(context.Context, recovery.Query) ([]recovery.Crash, error), nodes ...NodeStatus) (admin string) {
	t.Helper()
	srv, err := obs.New(obs.Config{Addr: loopback(0), Pages: map[string]obs.Page{"/crashes": crashesPage(read),
		"/status": always(func() any { return Status{Role: "recovery", Farm: nodes} })}})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, srv.Run)
	return srv.Addr().String()
}

func crashesCommand(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"crashes"}, args...), &o, &e, func(string) string { return "" })
	return code, o.String(), e.String()
}

// TestB55CrashesCommand: two deaths of one process are told apart, all times of a crash are there, each leg's steps with result and reason; who asks for a
// node that nobody knows is told which ones there are.
func TestB55CrashesCommand(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	ms := func(n int) time.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	first := recovery.Crash{ID: "call1.e1", Node: "call1", Epoch: "e1", Reason: "killed", Since: ms(0), Detected: ms(150), Done: ms(900), Closed: ms(5900), Returned: ms(7000), Fenced: ms(161), Freed: ms(40000), Settled: ms(41000),
		Controller: "a", Results: map[string]int{"recovered": 1, "failed": 1}, Steps: []recovery.Step{{Name: "fence at 127.0.0.1:8080", At: ms(160), Result: "failed", Reason: "refused"}},
		Legs: []recovery.LegReport{{Call: "c", Leg: "c.1", SIPCallID: "x@y", Target: "call2", Result: "recovered", Steps: []recovery.Step{
			{Name: "dialog", At: ms(170), Result: "own capture"}, {Name: "again", At: ms(300), Result: "call3", Reason: "it died"}, {Name: "recovered", At: ms(450), Result: "recovered"}, {Name: "rtp", At: ms(500)}}},
			{Call: "c", Leg: "c.2", SIPCallID: "z\x1b[2J\n@y", Result: "failed", Reason: "486", Steps: []recovery.Step{{Name: "failed", At: ms(600), Result: "failed", Reason: "486"}}}}}
	second := recovery.Crash{ID: "call1.e1~1", Node: "call1", Epoch: "e1", Number: 1, Reason: "stopped", Since: ms(20000), Detected: ms(20400), Controller: "b", Taken: 2}
	var asked []recovery.Query
	admin := crashesAt(t, func(_ context.Context, q recovery.Query) ([]recovery.Crash, error) {
		asked = append(asked, q)
		if q.ID == first.ID {
			return []recovery.Crash{first}, nil
		}
		return []recovery.Crash{first, second}, nil
	}, NodeStatus{Farm: "call", Node: "call2", State: "alive"})

	code, out, _ := crashesCommand(t, "--admin", admin)
	for _, want := range []string{"call1.e1 ", "call1.e1~1", "closed      down", "none", "750ms", "1 failed", "recovering", "b (taken over 2 times)"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("code %d, no %q in\n%s", code, want, out)
		}
	}
	code, out, _ = crashesCommand(t, "call1.e1", "--admin", admin)
	for _, want := range []string{"0      first sign", "150    verdict", "160    fence at 127.0.0.1:8080", "failed", "refused", "900    done", "5900   closed", "7000   returned", "40000  let in again", "41000  settled",
		"dialog 170 (own capture), again 300 (call3: it died), recovered 450, rtp 500", "x@y", "486"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("code %d, no %q in\n%s", code, want, out)
		}
	}
	if q := asked[len(asked)-1]; q.ID != "call1.e1" || q.Brief {
		t.Errorf("asked for %+v", q)
	}
	if strings.ContainsRune(out, 0x1b) || !strings.Contains(out, "z\ufffd[2J\ufffd@y") {
		t.Errorf("a Call-ID speaks to the terminal: %q", out)
	}
	if code, _, _ := crashesCommand(t, "--call", "X@Y", "--admin", admin); code != exitOK || asked[len(asked)-1].Call != "x@y" || asked[len(asked)-1].Brief {
		t.Errorf("--call: code %d, asked for %+v", code, asked[len(asked)-1])
	}
	if code, _, errOut := crashesCommand(t, "call9", "--admin", admin); code != exitError || !strings.Contains(errOut, `"call9" (known: call1, call2)`) {
		t.Errorf("an unknown node: code %d, %q", code, errOut)
	}
	if code, _, errOut := crashesCommand(t, "call2", "--admin", admin); code != exitOK {
		t.Errorf("a node that has not died: code %d, %q", code, errOut)
	}
}

// TestB55StoreAway: without the store /crashes is a 503 with its reason, which the command passes on; a bad limit is a 400.
func TestB55StoreAway(t *testing.T) {
	admin := crashesAt(t, func(ctx context.Context, _ recovery.Query) ([]recovery.Crash, error) {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("the store may be asked for ever")
		}
		return nil, errors.New("list crashes: the store is away")
	})
	if code, out, errOut := crashesCommand(t, "--admin", admin); code != exitError || out != "" || !strings.Contains(errOut, "503") || !strings.Contains(errOut, "the store is away") {
		t.Errorf("code %d, %q, %q", code, out, errOut)
	}
	for _, limit := range []string{"0", "-1", "x", "1001"} {
		_, err := crashesPage(nil)(t.Context(), url.Values{"limit": {limit}})
		if !errors.Is(err, obs.ErrQuery) {
			t.Errorf("limit %s: %v", limit, err)
		}
	}
	value, err := crashesPage(func(context.Context, recovery.Query) ([]recovery.Crash, error) { return nil, nil })(t.Context(), nil)
	if text, _ := json.Marshal(value); err != nil || string(text) != "[]" {
		t.Errorf("no crash is %s, %v", text, err)
	}
}

// TestB55PageAtEachAdminPort: the operator's page is there beside the JSON that it reads.
func TestB55PageAtEachAdminPort(t *testing.T) {
	args, state := freeUp(t)
	out := start(t, args...)
	admin := readState(t, state, out).Admin
	waitReady(t, admin)
	res, err := http.Get("http://" + admin + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") || res.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("/: %d, %v", res.StatusCode, res.Header)
	}
	var st Status
	res, err = http.Get("http://" + admin + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&st); err != nil || strings.Join(st.Pages, " ") != "/calls /status" {
		t.Errorf("pages %v, %v", st.Pages, err)
	}
}
