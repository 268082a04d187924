//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rtcedge/sip/siptest"
)

// sipp runs a scenario of testdata/sipp and fails with its last screen if a call failed.
func sipp(t *testing.T, e *edge, scenario, transport string, calls int, fields string) {
	t.Helper()
	dir, host := t.TempDir(), newHost()
	data, err := os.ReadFile(filepath.Join("testdata", "sipp", scenario+".xml"))
	if err != nil {
		t.Fatal(err)
	}
	// The edge stands in for a proxy and answers an INVITE with 407.
	file, inf := filepath.Join(dir, "scenario.xml"), filepath.Join(dir, "fields.csv")
	for path, text := range map[string]string{file: strings.ReplaceAll(string(data), "@CHALLENGE@", "407"), inf: "SEQUENTIAL\n" + fields + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	errors := filepath.Join(dir, "errors.log")
	p := launch(t, "sipp", need(t, "sipp"), e.SIP.String(), "-sf", file, "-inf", inf, "-i", host.String(), "-mi", host.String(),
		"-t", transport, "-m", fmt.Sprint(calls), "-r", "10", "-nostdin", "-trace_err", "-error_file", errors,
		"-timeout", "30s", "-timeout_error", "-recv_timeout", "8000")
	start := time.Now()
	if err := p.wait(40 * time.Second); err != nil {
		log, _ := os.ReadFile(errors)
		t.Fatalf("sipp: %v\n%s", err, tail(string(log), 4000))
	}
	t.Logf("SIPp %s over %s: %d calls in %.1f s, none failed", scenario, transport, calls, time.Since(start).Seconds())
}

// TestSIPp registers, calls and hangs up, and cancels a call that rings (B07, B08).
func TestSIPp(t *testing.T) {
	e := startUp(t)
	login := func(u user) string {
		return fmt.Sprintf("%s;[authentication username=%s password=%s]", u.User, u.User, u.Password)
	}
	t.Run("call udp", func(t *testing.T) { sipp(t, e, "call", "u1", 5, login(e.Accounts[0])) })
	t.Run("call tcp", func(t *testing.T) { sipp(t, e, "call", "t1", 5, login(e.Accounts[1])) })
	t.Run("cancel", func(t *testing.T) {
		var rang, gone atomic.Int32
		ringing := e.Accounts[2]
		ua, err := siptest.New(siptest.Config{User: ringing.User, Password: ringing.Password, Proxy: e.SIP,
			OnCall: func(ctx context.Context, in *siptest.Incoming) {
				rang.Add(1)
				if err := in.Ring(); err != nil {
					t.Error(err)
				}
				select {
				case <-in.Canceled():
					gone.Add(1)
				case <-ctx.Done():
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- ua.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ran; err != nil {
				t.Error(err)
			}
		}()
		rctx, stop := context.WithTimeout(ctx, 5*time.Second)
		defer stop()
		if _, err := ua.Register(rctx, time.Minute); err != nil {
			t.Fatal(err)
		}
		const calls = 5
		sipp(t, e, "cancel", "u1", calls, login(e.Accounts[3])+";"+ringing.User)
		for limit := time.Now().Add(5 * time.Second); gone.Load() < calls && time.Now().Before(limit); {
			time.Sleep(20 * time.Millisecond)
		}
		if rang.Load() != calls || gone.Load() != calls {
			t.Errorf("%d calls rang and %d were cancelled at the called phone, want %d each", rang.Load(), gone.Load(), calls)
		}
	})
	endsWell(t, e.proc)
}
