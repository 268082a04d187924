//go:build e2e

package e2e

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"rtcedge/internal/testrun"
	"rtcedge/media/mediatest"
	"rtcedge/sip/siptest"
	"rtcedge/transcode/g711"
)

//go:embed testdata/kamailio/kamailio.cfg
var kamailioConfig string

// kamailio is a real Kamailio of the chroot in front of our media role. It sends every call to one echo phone.
type kamailio struct {
	SIP       netip.AddrPort
	Callee    netip.AddrPort
	Socket    string // of the media node, as rtpengine_sock takes it
	WebSocket bool

	outside, inside netip.Addr // of media
	mediaAdmin      netip.AddrPort
	proc, media     *process
}

// startKamailio runs `rtcedge media` and a Kamailio whose stock rtpengine module drives it over UDP or WebSocket.
func startKamailio(t *testing.T, callee netip.AddrPort, webSocket bool) *kamailio {
	t.Helper()
	local := netip.MustParseAddr("127.0.0.1")
	k := &kamailio{SIP: netip.AddrPortFrom(newHost(), 5060), Callee: callee, WebSocket: webSocket,
		outside: newHost(), inside: newHost(), mediaAdmin: freePort(t, local)}
	ng, http := freePort(t, local), freePort(t, local)
	k.Socket = "udp:" + ng.String()
	if webSocket {
		k.Socket = "ws://" + http.String()
	}
	k.media = launch(t, "rtcedge media", edgeProgram.binary(t), "media", "--listen-ng", ng.String(), "--listen-http", http.String(),
		"--admin", k.mediaAdmin.String(), "--interface", "pub/"+k.outside.String(), "--interface", "priv/"+k.inside.String(),
		"--port-min", "10000", "--port-max", "10999", "--delete-delay", "0s", "--drain-notice", "0s", "--drain-limit", "1s")
	listening(t, k.media, k.mediaAdmin)

	dir, script := t.TempDir(), filepath.Join(root(t), "e2e", "peers.sh")
	if webSocket {
		if out, err := exec.Command(script, "run", "sh", "-c", "ls /usr/lib/*/kamailio/modules/lwsc.so").CombinedOutput(); err != nil {
			t.Fatalf("kamailio-lwsc-modules is not in the chroot: run e2e/peers.sh install (%v: %s)", err, out)
		}
	}
	file, err := os.Create(filepath.Join(dir, "kamailio.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := template.Must(template.New("").Parse(kamailioConfig)).Execute(file, k); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	k.proc = launch(t, "kamailio", script, "run", "--bind", dir, "kamailio", "-DD", "-E", "-f", "/mnt/kamailio.cfg",
		"-m", "32", "-M", "8", "-w", "/tmp", "-Y", "/tmp")
	// The module pings the node before it uses it.
	if err := k.proc.says("found, support for it", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(script, "run", "kamailio", "-v").CombinedOutput()
	t.Logf("%s drives %s", strings.TrimPrefix(strings.SplitN(string(out), "\n", 2)[0], "version: "), k.Socket)
	return k
}

// mediaCall is what the admin port tells of a call.
type mediaCall struct {
	Legs []struct {
		Side    string `json:"side"`
		Codec   string `json:"codec"`
		Crypto  string `json:"crypto"`
		Packets int64  `json:"packets"`
		Lost    int64  `json:"lost"`
	} `json:"legs"`
}

func (k *kamailio) calls(t *testing.T) []mediaCall {
	t.Helper()
	resp, err := http.Get("http://" + k.mediaAdmin.String() + "/calls")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var calls []mediaCall
	if err := json.NewDecoder(resp.Body).Decode(&calls); err != nil {
		t.Fatal(err)
	}
	return calls
}

// gone fails if the media node still holds a call soon after the BYE.
func (k *kamailio) gone(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(3 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		n := len(k.calls(t))
		if n == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Errorf("%d calls are left at the media node after the BYE", n)
			return
		}
	}
}

// echoPhone answers every call with PCMU and returns what it hears.
type echoPhone struct {
	ua *siptest.UA

	mu      sync.Mutex
	offers  []string
	reports []mediatest.Report
}

func startEchoPhone(t *testing.T) *echoPhone {
	t.Helper()
	host := newHost()
	e := &echoPhone{}
	ua, err := siptest.New(siptest.Config{User: "echo", Local: netip.AddrPortFrom(host, 0), OnCall: func(ctx context.Context, in *siptest.Incoming) {
		if err := e.answer(ctx, host, in); err != nil && ctx.Err() == nil {
			t.Errorf("echo phone: %v", err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	e.ua = ua
	testrun.Run(t, ua.Run)
	return e
}

// answer accepts a call; its echo runs on until the far end hangs up.
func (e *echoPhone) answer(ctx context.Context, host netip.Addr, in *siptest.Incoming) error {
	peer, err := mediatest.New(mediatest.Config{Addr: host, Codecs: []string{"PCMU"}, Echo: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	run := func() { ran <- peer.Run(ctx) }
	sdp, err := peer.Answer(in.Offer())
	if err != nil {
		cancel()
		run()
		return err
	}
	go run()
	call, err := in.Answer(ctx, sdp)
	if err == nil {
		select {
		case <-call.Done():
		case <-ctx.Done():
		}
	}
	cancel()
	if runErr := <-ran; err == nil {
		err = runErr
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.offers, e.reports = append(e.offers, string(in.Offer())), append(e.reports, peer.Report())
	return err
}

// ended is how many calls are over.
func (e *echoPhone) ended() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.offers)
}

// last waits for the end of the call number n, from 1, and returns the offer that came and what was heard.
func (e *echoPhone) last(t *testing.T, n int) (string, mediatest.Report) {
	t.Helper()
	for limit := time.Now().Add(3 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		e.mu.Lock()
		if len(e.offers) >= n {
			defer e.mu.Unlock()
			return e.offers[n-1], e.reports[n-1]
		}
		e.mu.Unlock()
	}
	t.Fatalf("the echo phone has not seen the end of %d calls", n)
	return "", mediatest.Report{}
}

// TestKamailio lets Kamailio 6.1 with its stock rtpengine module carry calls through our media role (B22): measured phones,
// SIPp and baresip, over NG/UDP and NG/WebSocket.
func TestKamailio(t *testing.T) {
	for _, tc := range []struct {
		name      string
		webSocket bool
	}{{"udp", false}, {"websocket", true}} {
		t.Run(tc.name, func(t *testing.T) {
			echo := startEchoPhone(t)
			k := startKamailio(t, echo.ua.Local(), tc.webSocket)
			for _, c := range []struct {
				number, codec, suite string
				minSNR               float64
			}{
				{"600", "PCMU", "", 30}, {"601", "PCMU", "AES_CM_128_HMAC_SHA1_80", 30},
				{"601", "PCMA", "", 27}, {"601", "G722", "", 20}, {"601", "opus", "AES_CM_128_HMAC_SHA1_80", 4},
			} {
				t.Run(strings.TrimSpace(c.number+" "+c.codec+" "+c.suite), func(t *testing.T) {
					k.measured(t, echo, c.number, c.codec, c.suite, c.minSNR)
				})
			}
			t.Run("sipp", func(t *testing.T) { k.sipp(t, echo) })
			t.Run("baresip", func(t *testing.T) {
				ph := phone{server: k.SIP, transport: "udp", user: "1001", codec: opus, seconds: 4}
				heard, _ := ph.call(t, "601", nil)
				echoed(t, "baresip opus", heard, 20)
				k.gone(t)
			})
			endsWell(t, k.media)
			endsWell(t, k.proc)
		})
	}
}

// measured places one call with audio that is compared.
func (k *kamailio) measured(t *testing.T, echo *echoPhone, number, codec, suite string, minSNR float64) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	host, before := newHost(), echo.ended()
	audio := mediatest.Speech(3 * time.Second)
	cfg := mediatest.Config{Addr: host, Codecs: []string{codec}, Audio: audio}
	if suite != "" {
		cfg.Suites = []string{suite}
	}
	peer, err := mediatest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ua, err := siptest.New(siptest.Config{User: "1001", Proxy: k.SIP, Local: netip.AddrPortFrom(host, 0)})
	if err != nil {
		t.Fatal(err)
	}
	uctx, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- ua.Run(uctx) }()
	defer func() {
		stop()
		<-ran
	}()
	offer, err := peer.Offer()
	if err != nil {
		t.Fatal(err)
	}
	call, err := ua.Invite(ctx, number, offer, siptest.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answer := string(call.RemoteSDP())
	if err := peer.SetAnswer(call.RemoteSDP()); err != nil {
		t.Fatalf("%v\n%s", err, answer)
	}
	talked := make(chan error, 1)
	go func() { talked <- peer.Run(ctx) }()
	time.Sleep(1500 * time.Millisecond) // of talk, so that there is something to be seen
	live := k.calls(t)
	if err := <-talked; err != nil {
		t.Fatal(err)
	}
	if err := call.Hangup(ctx); err != nil {
		t.Error(err)
	}
	k.gone(t)
	seen, far := echo.last(t, before+1)
	if len(live) != 1 || len(live[0].Legs) != 2 || live[0].Legs[0].Packets < 40 || live[0].Legs[1].Packets < 40 {
		t.Errorf("the media node in the middle of the talk: %+v", live)
	}
	for what, body := range map[string]string{"the called phone": seen, "the caller": answer} {
		if strings.Contains(body, host.String()) || strings.Contains(body, k.Callee.Addr().String()) {
			t.Errorf("%s sees an address of the other phone:\n%s", what, body)
		}
	}
	ours := [2]netip.Addr{k.outside, k.outside}
	if number == "601" {
		ours[1] = k.inside
		for _, bad := range []string{"opus", "G722", "PCMA", "crypto", "SAVP"} {
			if strings.Contains(seen, bad) {
				t.Errorf("the called phone was offered %q:\n%s", bad, seen)
			}
		}
	}
	for i, body := range []string{answer, seen} {
		for _, line := range []string{"o=", "c="} {
			if !strings.Contains(lineOf(body, line), " "+ours[i].String()) {
				t.Errorf("%s names %q, want %s", []string{"the answer", "the offer"}[i], lineOf(body, line), ours[i])
			}
		}
	}
	rep := peer.Report()
	e := rep.Echo(audio)
	t.Logf("%s %s%s: set-up %.1f ms, sent %d, at the called phone %d, returned %d, lost %d+%d, round trip %.1f ms, SNR %.1f dB",
		number, codec, map[bool]string{true: " SRTP"}[suite != ""], float64(call.SetupTime())/1e6, rep.Sent, far.Received, rep.Received,
		far.Lost, rep.Lost, float64(e.RoundTrip)/1e6, e.SNR)
	switch {
	case rep.Refused+rep.Undecodable+rep.OtherPT > 0:
		t.Errorf("%d packets are not of this stream", rep.Refused+rep.Undecodable+rep.OtherPT)
	case rep.Lost+far.Lost > 2 || rep.Received < rep.Sent*9/10:
		t.Errorf("%d of %d packets came back, %d were lost", rep.Received, rep.Sent, rep.Lost+far.Lost)
	case !e.Found || e.Share < 0.9 || e.SNR < minSNR:
		t.Errorf("SNR %.1f dB over %.0f %% of the talk, want %.0f", e.SNR, 100*e.Share, minSNR)
	case rep.Codec != codec || rep.Suite != suite:
		t.Errorf("agreed on %s %s", rep.Codec, rep.Suite)
	}
}

func lineOf(body, begin string) string {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, begin) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// sipp lets SIPp place calls that play a sound file.
func (k *kamailio) sipp(t *testing.T, echo *echoPhone) {
	const calls, seconds = 10, 1.5
	dir, host, before := t.TempDir(), newHost(), echo.ended()
	data, err := os.ReadFile(filepath.Join("testdata", "sipp", "plain.xml"))
	if err != nil {
		t.Fatal(err)
	}
	pcm := mediatest.Tone(toneHz, -9, time.Duration(seconds*float64(time.Second)))(8000)
	coded := make([]byte, len(pcm))
	g711.EncodeULaw(coded, pcm)
	file, sound := filepath.Join(dir, "scenario.xml"), filepath.Join(dir, "tone.ul")
	for path, text := range map[string]string{file: strings.ReplaceAll(string(data), "@SOUND@", sound), sound: string(coded)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	errors := filepath.Join(dir, "errors.log")
	p := launch(t, "sipp", need(t, "sipp"), k.SIP.String(), "-sf", file, "-i", host.String(), "-mi", host.String(), "-m", fmt.Sprint(calls),
		"-r", "5", "-nostdin", "-trace_err", "-error_file", errors, "-timeout", "20s", "-timeout_error", "-recv_timeout", "5000",
		"-mp", "35000")
	if err := p.wait(30 * time.Second); err != nil {
		log, _ := os.ReadFile(errors)
		t.Fatalf("sipp: %v\n%s", err, tail(string(log), 4000))
	}
	k.gone(t)
	heard, lost, sent := 0, 0, 0
	for i := range calls {
		_, rep := echo.last(t, before+i+1)
		heard, lost, sent = heard+rep.Received, lost+rep.Lost, sent+rep.Sent
		// Of half a second in the middle: what SIPp played is what the called phone hears.
		if n := len(rep.Recording); n < rep.Rate {
			t.Errorf("call %d: %d samples heard", i+1, n)
		} else if l := mediatest.Level(rep.Recording[n/2-rep.Rate/4:n/2+rep.Rate/4], rep.Rate, toneHz); l < -12 || l > -6 {
			t.Errorf("call %d: the tone came at %.1f dBFS, it left at -9", i+1, l)
		}
	}
	t.Logf("SIPp: %d calls, none failed; the called phone heard %d packets, %d lost, and sent %d", calls, heard, lost, sent)
	if want := int(calls * seconds * 50); heard < want*9/10 || lost > want/100 {
		t.Errorf("the called phone heard %d packets of %d, %d lost", heard, want, lost)
	}
}
