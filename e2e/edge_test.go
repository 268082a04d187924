//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// user is one that may register at the edge under test.
type user struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// edge is a running `rtcedge up`.
type edge struct {
	SIP      netip.AddrPort
	Admin    netip.AddrPort
	WS, WSS  netip.AddrPort `json:"-"`
	TLS      netip.AddrPort `json:"-"`
	Accounts []user
	proc     *process
}

// startUp runs everything in one process on an address of its own, and returns when it is ready. A port that was free a moment ago may be
// another test's by then: such a start is tried again.
func startUp(t *testing.T, more ...string) *edge {
	t.Helper()
	for try := 1; ; try++ {
		e, ready := tryUp(t, more...)
		if ready {
			return e
		}
		if out := e.proc.output(); try == 3 || !strings.Contains(out, "address already in use") {
			t.Fatalf("rtcedge up ended: %s", out)
		}
	}
}

// tryUp returns false where the process has ended.
func tryUp(t *testing.T, more ...string) (e *edge, ready bool) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "up.json")
	host, local := newHost(), netip.MustParseAddr("127.0.0.1")
	port := func(h netip.Addr) string { return strconv.Itoa(int(freePort(t, h).Port())) }
	e = &edge{WS: freePort(t, host), WSS: freePort(t, host), TLS: freePort(t, host)}
	e.proc = launch(t, "rtcedge up", append([]string{edgeProgram.binary(t), "up", "--listen-ip", host.String(), "--state-file", state,
		"--sip-port", port(host), "--tls-port", strconv.Itoa(int(e.TLS.Port())),
		"--ws-port", strconv.Itoa(int(e.WS.Port())), "--wss-port", strconv.Itoa(int(e.WSS.Port())),
		"--farm-port", port(local), "--internal-port", port(local), "--listen-ng", freePort(t, local).String(),
		"--api", freePort(t, local).String(), "--admin", freePort(t, local).String(), "--drain-notice", "0s", "--drain-limit", "2s",
		"--port-min", "10000", "--port-max", "11999", "--farm-port-min", "12000", "--farm-port-max", "13999"}, more...)...)
	limit := time.Now().Add(15 * time.Second)
	for {
		if data, err := os.ReadFile(state); err == nil && json.Unmarshal(data, e) == nil && e.SIP.IsValid() && e.ready() {
			return e, true
		}
		select {
		case <-e.proc.done:
			return e, false
		default:
		}
		if time.Now().After(limit) {
			t.Fatal("rtcedge up is not ready after 15 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// endsWell stops a role as an operator does: SIGTERM, exit code 0.
func endsWell(t *testing.T, p *process) {
	t.Helper()
	if err := p.stop(10 * time.Second); err != nil {
		t.Errorf("%s after SIGTERM: %v", p.name, err)
	}
}

// TestBaresipEcho calls the echo of `rtcedge up` with each codec, over UDP, TCP and TLS (baresip 1.0 takes any certificate), registered and
// authenticated by digest, with SDES, with DTLS-SRTP and with ICE (B06, B08, B17, B21, B27, B34).
func TestBaresipEcho(t *testing.T) {
	e := startUp(t)
	t.Run("calls", func(t *testing.T) {
		for i, tc := range []struct {
			codec     codec
			transport string
			srtp      string
			minSNR    float64
			ice       bool
		}{
			{pcmu, "udp", "", 35, false}, {pcma, "udp", "", 33, false}, {g722, "udp", "", 30, false}, {opus, "udp", "", 20, false},
			{pcmu, "tcp", "srtp-mand", 35, false}, {opus, "tcp", "srtp-mand", 20, false},
			{pcmu, "tcp", "dtls_srtp", 35, false}, {opus, "udp", "dtls_srtp", 20, true}, {pcmu, "udp", "", 35, true},
			{pcma, "tls", "srtp-mand", 33, false},
		} {
			name := fmt.Sprintf("%s %s %s ice=%v", tc.codec.name, tc.transport, tc.srtp, tc.ice)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				u := e.Accounts[i%len(e.Accounts)]
				ph := phone{server: e.SIP, transport: tc.transport, user: u.User, password: u.Password, register: true,
					codec: tc.codec, srtp: tc.srtp, ice: tc.ice, seconds: 4}
				if tc.transport == "tls" {
					ph.server = e.TLS
				}
				heard, _ := ph.call(t, "600", nil)
				echoed(t, name, heard, tc.minSNR)
			})
		}
	})
	endsWell(t, e.proc)
}

// ready is when it takes calls: its bridge controls its farm.
func (e *edge) ready() bool {
	resp, err := http.Get("http://" + e.Admin.String() + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
