package transport

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func wsURL(l *Listener, path string) string {
	return l.Proto().String() + "://" + l.Addr().String() + path
}

// httpClient is one without connections of its own that would outlive the test.
func httpClient(t testing.TB, cfg *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// upgradeWS is the upgrade of a client that writes its frames by hand, with a mask of zeros.
const upgradeWS = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"

// TestF32SlowWebSocketFrame: a message that does not end, with pongs between its fragments.
func TestF32SlowWebSocketFrame(t *testing.T) {
	l := start(t, Config{Listeners: listen(WS), MessageTimeout: 150 * time.Millisecond}, newEcho()).Listeners()[0]
	c := dialStream(t, l, nil)
	_, _ = io.WriteString(c, upgradeWS+"\x81\x81\x00\x00\x00\x00x\x01\x81\x00\x00\x00\x00x")
	var err error
	for begin := time.Now(); err == nil && time.Since(begin) < 3*time.Second; time.Sleep(10 * time.Millisecond) {
		_, err = io.WriteString(c, "\x00\x81\x00\x00\x00\x00x\x8a\x80\x00\x00\x00\x00")
	}
	if err == nil {
		t.Error("still open")
	}
	eventually(t, "reason", func() bool { s := l.Stats(); return s.Closed[CloseSlow] == 1 && s.MessagesIn == 1 })
}

// TestB06WebSocket: subprotocol and path are RFC 7118's, one message per frame, keep-alives are answered, oversize closes.
func TestB06WebSocket(t *testing.T) {
	e := newEcho()
	tr := start(t, Config{Listeners: listen(WS), PingInterval: 50 * time.Millisecond, WSOrigins: []string{"*.example.com"}}, e)
	l := tr.Listeners()[0]
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	for _, test := range []struct {
		name, path, origin string
		protocols          []string
		status             int
	}{
		{"no subprotocol", "/ws", "", nil, 101}, {"another", "/ws", "", []string{"mqtt"}, 101}, {"another path", "/", "", []string{"sip"}, 404},
		{"another origin", "/ws", "https://evil.example.net", []string{"sip"}, 403},
	} {
		before := l.Stats().Closed[CloseUpgrade]
		ws, resp, err := websocket.Dial(ctx, wsURL(l, test.path), &websocket.DialOptions{Subprotocols: test.protocols,
			HTTPClient: httpClient(t, nil), HTTPHeader: http.Header{"Origin": {test.origin}}})
		if err == nil {
			_, _, err = ws.Read(ctx)
			_ = ws.CloseNow()
		}
		if err == nil || resp == nil || resp.StatusCode != test.status {
			t.Errorf("%s: %v %v", test.name, resp, err)
		}
		eventually(t, "reason of "+test.name, func() bool { return l.Stats().Closed[CloseUpgrade] == before+1 })
	}
	ws := dialWS(t, l, nil)
	binary := strings.Replace(message(1, 3), "xxx", "\xff\xfe\xfd", 1)
	for _, test := range []struct {
		send, want string
		kind       websocket.MessageType
	}{
		{message(1, 0), message(1, 0), websocket.MessageText}, {"\r\n\r\n", "\r\n", websocket.MessageText},
		{message(2, 60000), message(2, 60000), websocket.MessageText}, {binary, binary, websocket.MessageBinary},
		{message(3, 0) + message(4, 0), message(3, 0) + message(4, 0), websocket.MessageText},
	} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(test.send)); err != nil {
			t.Fatal(err)
		}
		ws.SetReadLimit(1 << 20)
		kind, got, err := ws.Read(ctx)
		if err != nil || string(got) != test.want || kind != test.kind {
			t.Fatalf("%.40q: %v %.40q %v", test.send, kind, got, err)
		}
	}
	// Pings keep it open for longer than a silent peer would be.
	quiet, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	reading := ws.CloseRead(ctx)
	<-quiet.Done()
	if reading.Err() != nil {
		t.Error("closed while pongs came")
	}
	if err := ws.Write(ctx, websocket.MessageText, make([]byte, 70<<10)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "oversize", func() bool { return l.Stats().Closed[CloseOversize] == 1 })
	<-reading.Done()

	dead := dialStream(t, l, nil) // upgrades, speaks once, and then answers no ping
	_, _ = io.WriteString(dead, upgradeWS+"\x81\x81\x00\x00\x00\x00x")
	expectClosed(t, dead)
	eventually(t, "idle", func() bool { return l.Stats().Closed[CloseIdle] == 1 })
}

// TestWebSocketQuietForLong: pings of a connection that wrote nothing for longer than a write may take do not break it. TLS can write nothing more
// after one write that came too late.
func TestWebSocketQuietForLong(t *testing.T) {
	cert, _, _ := authority(t)
	tr := start(t, Config{Listeners: listen(WS, WSS), TLS: TLSConfig{Certificates: []tls.Certificate{cert}}, PingInterval: 200 * time.Millisecond,
		WriteTimeout: 50 * time.Millisecond}, newEcho())
	for _, l := range tr.Listeners() {
		ws := dialWS(t, l, &tls.Config{InsecureSkipVerify: true})
		echoes := make(chan error, 1)
		go func() {
			for { // reading answers the pings
				_, _, err := ws.Read(t.Context())
				echoes <- err
				if err != nil {
					return
				}
			}
		}()
		for _, quiet := range []time.Duration{0, 600 * time.Millisecond} {
			time.Sleep(quiet)
			if err := ws.Write(t.Context(), websocket.MessageText, []byte("INFO sip:x SIP/2.0\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-echoes:
				if err != nil {
					t.Fatalf("%v after %v: %v; closed %v", l.Proto(), quiet, err, l.Stats().Closed)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%v: no echo after %v", l.Proto(), quiet)
			}
		}
		_ = ws.CloseNow()
	}
}
