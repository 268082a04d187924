//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browserCall is what getStats of one connection says, as testdata/browser/phones.js sums it up.
type browserCall struct {
	Connection      string  `json:"connection"`
	ICE             string  `json:"ice"`
	DTLS            string  `json:"dtls"`
	Role            string  `json:"role"`
	Cipher          string  `json:"cipher"`
	SendCodec       string  `json:"sendCodec"`
	RecvCodec       string  `json:"recvCodec"`
	BytesSent       int     `json:"bytesSent"`
	BytesReceived   int     `json:"bytesReceived"`
	PacketsReceived int     `json:"packetsReceived"`
	PacketsLost     int     `json:"packetsLost"`
	Energy          float64 `json:"energy"` // of what was decoded: silence has none
	ConnectMs       int     `json:"connectMs"`
}

type browserReport struct {
	Error   string       `json:"error"`
	Call    *browserCall `json:"call"`
	Resumed *browserCall `json:"resumed"`
	Called  *browserCall `json:"called"`
}

// browserConfig tells the page what to do.
type browserConfig struct {
	Play     string           `json:"play"`
	Library  string           `json:"library"`
	URL      string           `json:"url"`
	Accounts []browserAccount `json:"accounts"`
}

type browserAccount struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Domain   string `json:"domain"`
}

// phonesScript bundles JsSIP, SIP.js and the test's page once per run of the tests. The libraries come from npm.
var phonesScript = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "rtcedge-browser-")
	if err != nil {
		return nil, err
	}
	built = append(built, dir)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "browser"))); err != nil {
		return nil, err
	}
	for _, argv := range [][]string{
		{"npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"},
		{filepath.Join(dir, "node_modules", ".bin", "esbuild"), "phones.js", "--bundle", "--format=esm", "--outfile=page.js"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, tail(string(out), 2000))
		}
	}
	return os.ReadFile(filepath.Join(dir, "page.js"))
})

// browse lets a headless Chromium play a part and returns what it reports.
func browse(t *testing.T, c browserConfig) browserReport {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatal("npm is not installed: the web phones' libraries come by it, with Node.js")
	}
	script, err := phonesScript()
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan []byte, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><meta charset="utf-8"><script type="module" src="/page.js"></script>`)
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(script)
	})
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(c) })
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		select {
		case result <- b:
		default:
		}
	})
	openPage(t, mux, "--disable-quic", "--autoplay-policy=no-user-gesture-required", "--ignore-certificate-errors", "--enable-logging=stderr")
	select {
	case b := <-result:
		var r browserReport
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if r.Error != "" {
			t.Fatalf("%s %s: %s", c.Library, c.Play, r.Error)
		}
		return r
	case <-time.After(60 * time.Second):
		t.Fatal("the page reports nothing in 60 s")
	}
	return browserReport{}
}

// openPage serves the pages on a port of the loopback and opens the first one in a headless Chromium, whose microphone is a tone. Both end with the test.
func openPage(t *testing.T, pages http.Handler, flags ...string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: pages}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	argv := []string{need(t, "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--use-fake-ui-for-media-stream",
		"--use-fake-device-for-media-stream", "--allow-loopback-in-peer-connection", "--user-data-dir=" + t.TempDir()}
	launch(t, "chromium", append(append(argv, flags...), "http://"+l.Addr().String()+"/")...)
}

// heardBothWays judges one connection over some seconds of Opus.
func heardBothWays(t *testing.T, name string, c *browserCall, seconds float64) {
	t.Helper()
	if c == nil {
		t.Errorf("%s: no figures", name)
		return
	}
	t.Logf("%s: %s over %s as DTLS %s, %s to %s; media after %d ms; %d bytes out, %d in, %d packets, %d lost, energy %.5f", name, c.DTLS,
		c.Cipher, c.Role, c.SendCodec, c.RecvCodec, c.ConnectMs, c.BytesSent, c.BytesReceived, c.PacketsReceived, c.PacketsLost, c.Energy)
	if c.Connection != "connected" || c.DTLS != "connected" || c.ICE != "connected" && c.ICE != "completed" {
		t.Errorf("%s: connection %s, ICE %s, DTLS %s", name, c.Connection, c.ICE, c.DTLS)
	}
	if c.SendCodec != "audio/opus" || c.RecvCodec != "audio/opus" {
		t.Errorf("%s: codecs %s and %s, want Opus", name, c.SendCodec, c.RecvCodec)
	}
	if least := int(40 * seconds); c.PacketsReceived < least || c.BytesSent < 3*least || c.BytesReceived < 3*least {
		t.Errorf("%s: %d packets and %d bytes in, %d bytes out, want %d packets", name, c.PacketsReceived, c.BytesReceived, c.BytesSent, least)
	}
	if c.Energy <= 0 {
		t.Errorf("%s: silence", name)
	}
	if c.ConnectMs > 1500 {
		t.Errorf("%s: media after %d ms", name, c.ConnectMs)
	}
}

// browserConfig is a part for accounts of the edge.
func (e *edge) browserConfig(play, library, scheme string, addr netip.AddrPort, accounts ...user) browserConfig {
	c := browserConfig{Play: play, Library: library, URL: scheme + "://" + addr.String() + "/ws"}
	for _, u := range accounts {
		c.Accounts = append(c.Accounts, browserAccount{User: u.User, Password: u.Password, Domain: e.SIP.Addr().String()})
	}
	return c
}

// TestChromiumCalls: a browser registers by WebSocket and calls the echo with Opus, ICE and DTLS-SRTP, by JsSIP over WS with hold and
// resume, by SIP.js over WSS; then one browser phone calls another through the farm (B17, B21, B34, B35).
func TestChromiumCalls(t *testing.T) {
	e := startUp(t)
	t.Run("JsSIP over WS", func(t *testing.T) {
		r := browse(t, e.browserConfig("echo", "jssip", "ws", e.WS, e.Accounts[0]))
		heardBothWays(t, "echo", r.Call, 3)
		heardBothWays(t, "after hold", r.Resumed, 1.5)
	})
	t.Run("SIP.js over WSS", func(t *testing.T) {
		r := browse(t, e.browserConfig("echo", "sipjs", "wss", e.WSS, e.Accounts[1]))
		heardBothWays(t, "echo", r.Call, 3)
	})
	t.Run("browser calls browser", func(t *testing.T) {
		r := browse(t, e.browserConfig("pair", "", "ws", e.WS, e.Accounts[2], e.Accounts[3]))
		heardBothWays(t, "caller", r.Call, 3)
		heardBothWays(t, "called", r.Called, 3)
	})
	endsWell(t, e.proc)
}
