//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/media/mediatest"
)

// softphone is a baresip that stays: it is registered, sends its own tone in every call, and is told what to do over its control port, as
// a person does by its menu. What it hears is read from its recording while the call goes on.
type softphone struct {
	t      *testing.T
	user   string
	domain string // host and port
	out    string
	proc   *process
	ctl    net.Conn

	mu      sync.Mutex // guards the rest
	events  []phoneEvent
	wake    chan struct{}
	readErr error
}

// phoneEvent is what baresip's ctrl_tcp tells.
type phoneEvent struct {
	Event       bool
	Type, Param string
}

// softphoneConfig is where it is and whom it registers with.
type softphoneConfig struct {
	In             *namespace // nil: this machine's own
	Server         netip.AddrPort
	User, Password string
	Tone           float64
	Manual         bool // it rings until somebody accepts; otherwise it answers at once
	Watch          string
}

func startSoftphone(t *testing.T, cfg softphoneConfig) *softphone {
	t.Helper()
	program := need(t, "baresip")
	host, dir := newHost(), t.TempDir()
	s := &softphone{t: t, user: cfg.User, domain: cfg.Server.String(), out: filepath.Join(dir, "heard"), wake: make(chan struct{})}
	in := filepath.Join(dir, "in.wav")
	if err := writeTone(in, 8000, cfg.Tone, 200); err != nil {
		t.Fatal(err)
	}
	answer := "auto"
	if cfg.Manual {
		answer = "manual"
	}
	account := fmt.Sprintf("<sip:%s@%s;transport=udp>;auth_pass=%s;regint=60;answermode=%s;audio_codecs=pcmu/8000/1", cfg.User, cfg.Server, cfg.Password, answer)
	contacts, apps := "\n", []string{"contact", "menu", "ctrl_tcp"}
	if cfg.Watch != "" {
		apps = append(apps, "presence")
		contacts = fmt.Sprintf("\"%[1]s\" <sip:%[1]s@%[2]s>;presence=p2p\n", cfg.Watch, cfg.Server)
	}
	baresipFolder{
		dir: dir, host: host, in: in, out: s.out, hangUpAfter: 60, account: account, contacts: contacts,
		modules: []string{"g711", "sndfile", "aufile"}, apps: apps, more: fmt.Sprintf("ctrl_tcp_listen %s:4444\n", host),
	}.write(t)
	argv := []string{program, "-4", "-f", dir}
	dial := (&net.Dialer{}).DialContext
	if cfg.In != nil {
		argv, dial = cfg.In.argv(argv...), cfg.In.dial
	}
	s.proc = launch(t, "baresip of "+cfg.User, argv...)
	eventually(t, "control port of "+cfg.User, 10*time.Second, func() bool {
		var err error
		s.ctl, err = dial(t.Context(), "tcp", netip.AddrPortFrom(host, 4444).String())
		return err == nil
	})
	go s.read()
	t.Cleanup(func() { s.ctl.Close() })
	return s
}

// read takes netstrings of JSON until the connection ends.
func (s *softphone) read() {
	r := bufio.NewReader(s.ctl)
	for {
		size, err := r.ReadString(':')
		if err == nil {
			var n int
			if n, err = strconv.Atoi(strings.TrimSuffix(size, ":")); err == nil {
				text := make([]byte, n+1) // with the comma
				if _, err = io.ReadFull(r, text); err == nil {
					var ev phoneEvent
					_ = json.Unmarshal(text[:n], &ev)
					s.add(ev, nil)
					continue
				}
			}
		}
		s.add(phoneEvent{}, err)
		return
	}
}

func (s *softphone) add(ev phoneEvent, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.readErr = err
	} else {
		s.events = append(s.events, ev)
	}
	close(s.wake)
	s.wake = make(chan struct{})
}

// registered waits for the registrar's 200. It may come before somebody listens to the control port, so the screen tells.
func (s *softphone) registered() {
	s.t.Helper()
	if err := s.proc.says("200 OK (", 10*time.Second); err != nil {
		s.t.Fatalf("%s is not registered: %v", s.user, err)
	}
}

// mark is a point in the phone's story: until waits for what comes after it.
func (s *softphone) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

// until returns the first event of a type after a mark.
func (s *softphone) until(mark int, kind string, limit time.Duration) phoneEvent {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	for {
		s.mu.Lock()
		i := slices.IndexFunc(s.events[mark:], func(ev phoneEvent) bool { return ev.Event && ev.Type == kind })
		wake, err, seen := s.wake, s.readErr, s.events[mark:]
		if i >= 0 {
			ev := s.events[mark+i]
			s.mu.Unlock()
			return ev
		}
		s.mu.Unlock()
		if err != nil {
			s.t.Fatalf("%s: its control port: %v", s.user, err)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			s.t.Fatalf("%s: no %s within %v; it told %+v", s.user, kind, limit, seen)
		}
	}
}

// do runs a command of its menu and returns the mark from before.
func (s *softphone) do(command, params string) int {
	s.t.Helper()
	mark := s.mark()
	text, err := json.Marshal(map[string]string{"command": command, "params": params, "token": "t"})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(s.ctl, "%d:%s,", len(text), text); err != nil {
		s.t.Fatalf("%s: %s: %v", s.user, command, err)
	}
	return mark
}

// recent is what it heard in the last 400 ms of its newest recording, if that has grown since the last look.
func (s *softphone) recent() ([]int16, int) {
	files, _ := filepath.Glob(filepath.Join(s.out, "*-dec.wav"))
	var newest string
	var at time.Time
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && !info.ModTime().Before(at) {
			newest, at = f, info.ModTime()
		}
	}
	if newest == "" || time.Since(at) > time.Second {
		return nil, 8000
	}
	b, err := os.ReadFile(newest)
	if err != nil || len(b) < 44 {
		return nil, 8000
	}
	rate := int(binary.LittleEndian.Uint32(b[24:]))
	b = b[44:]
	b = b[max(0, len(b)&^1-2*rate*4/10) : len(b)&^1]
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm, rate
}

// hears waits until the last 400 ms that it heard have these tones and not those.
func (s *softphone) hears(want, not []float64) {
	s.t.Helper()
	hearing(s.t, s.user, s.recent, want, not)
}

// hearsSoon is the same for the other kind of phone.
func (p *person) hearsSoon(want, not []float64) {
	p.t.Helper()
	hearing(p.t, p.name, func() ([]int16, int) {
		r := p.report()
		return r.Recording[max(0, len(r.Recording)-r.Rate*4/10):], max(r.Rate, 8000)
	}, want, not)
}

// hearing waits until what somebody heard last has these tones and not those. A machine that stalls makes it later, not wrong.
func hearing(t *testing.T, who string, recent func() ([]int16, int), want, not []float64) {
	t.Helper()
	levels := func() (text string, ok bool) {
		pcm, rate := recent()
		if len(pcm) < rate*3/10 && len(want) > 0 {
			return fmt.Sprintf("%d samples only", len(pcm)), false
		}
		ok = true
		for _, hz := range want {
			l := mediatest.Level(pcm, rate, hz)
			ok = ok && l > -35
			text += fmt.Sprintf(" %.0f Hz at %.0f dBFS", hz, l)
		}
		for _, hz := range not {
			l := mediatest.Level(pcm, rate, hz)
			ok = ok && l < -45
			text += fmt.Sprintf(" not %.0f Hz at %.0f dBFS", hz, l)
		}
		return text, ok
	}
	var last string
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		text, ok := levels()
		if last = text; ok {
			return
		}
	}
	t.Errorf("%s does not hear within 10 s what it should: wanted %v and not %v, heard %s", who, want, not, last)
}
