//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rtcedge/bench/rawphone"
	"rtcedge/internal/testrun"
)

// These are the bench of behaviours 56-63: a real Asterisk with the module of asterisk-patch takes over dialogs that another real one
// held until it was killed. The phones are raw SIP behind one record-routing hop each, so that a message which does not take the route
// set arrives at another socket and is seen.

// moduleDir has asterisk-patch/build.sh make a module directory, once per run of the tests.
var moduleDir = sync.OnceValues(func() (string, error) { return buildModules() })

func buildModules(args ...string) (string, error) {
	script, err := filepath.Abs(filepath.Join("..", "asterisk-patch", "build.sh"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", append([]string{script}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asterisk-patch/build.sh: %w\n%s", err, said.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// startPatched runs an Asterisk with ARI that has the patched module.
func startPatched(t *testing.T) *asterisk {
	t.Helper()
	a := preparePatched(t)
	a.start(t)
	return a
}

func preparePatched(t *testing.T) *asterisk {
	t.Helper()
	dir, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	return prepareWith(t, dir)
}

func prepareWith(t *testing.T, modules string) *asterisk {
	t.Helper()
	a := newAsterisk(t, "ulaw")
	// Relative to the Asterisk's folder: the one that is bound into the chroot.
	if out, err := exec.Command("cp", "-a", modules, filepath.Join(a.dir, "modules")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a.ModuleDir = "/mnt/modules"
	a.configure(t, "testdata/dialogs")
	return a
}

// startUnpatched runs the same with the package's own modules.
func startUnpatched(t *testing.T) *asterisk {
	t.Helper()
	a := newAsterisk(t, "ulaw")
	a.ModuleDir = a.find(t)
	a.configure(t, "testdata/dialogs")
	a.start(t)
	return a
}

// kill ends it as a crash does, and waits for the end.
func (a *asterisk) kill(t *testing.T) {
	t.Helper()
	if err := a.proc.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-a.proc.done
}

// ari asks Asterisk's REST interface; the answer goes into out where that is not nil. The status is returned, not judged.
func (a *asterisk) ari(method, path string, body, out any) (int, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		in = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s:8088/ari/%s", a.SIP.Addr(), path), in)
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth("test", "test")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && out != nil && len(b) > 0 {
		err = json.Unmarshal(b, out)
	}
	return res.StatusCode, err
}

// originate places a channel that goes to Echo when it is answered.
func (a *asterisk) originate(id, uri string, variables map[string]string) error {
	return a.originateTo("echo", id, uri, variables)
}

func (a *asterisk) originateTo(extension, id, uri string, variables map[string]string) error {
	status, err := a.ari("POST", "channels", map[string]any{"endpoint": "PJSIP/edge/" + uri, "extension": extension, "context": "calls",
		"priority": 1, "channelId": id, "callerId": `"Farm" <4711>`, "timeout": 60, "variables": variables}, nil)
	if err == nil && status != 200 {
		err = fmt.Errorf("POST /channels: %d", status)
	}
	return err
}

// channels are the ids of those that are there.
func (a *asterisk) channels(t *testing.T) []string {
	t.Helper()
	var list []struct{ ID string }
	if _, err := a.ari("GET", "channels", nil, &list); err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids
}

// becomes polls a state of the Asterisk that no message tells.
func becomes(t *testing.T, what string, d time.Duration, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(d); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not after %s", what, d)
		}
	}
}

// gone waits for the end of the line's channel.
func (l *line) gone(t *testing.T, a *asterisk) {
	t.Helper()
	becomes(t, "channel "+l.id+" ends", 5*time.Second, func() bool { return !slices.Contains(a.channels(t), l.id) })
}

// role is which side of the first call the farm had.
type role string

const (
	farmCalled role = "phone called" // the farm received the INVITE
	farmCalls  role = "farm called"  // the farm placed it
)

var bothRoles = []role{farmCalled, farmCalls}

// line is one phone and its dialog.
type line struct {
	*rawphone.Phone
	d    *rawphone.Dialog
	hops []string // Record-Route of the hops in front, as a request has them
	id   string   // of the channel that recovery makes
	with string   // extension that it enters; "" is echo
}

// newLine runs a phone whose requests go to an Asterisk. hops is how many Record-Routes are in front of it.
func newLine(t *testing.T, next netip.AddrPort, hops int) *line {
	t.Helper()
	p, err := rawphone.New(rawphone.Config{User: "alice", Listen: netip.AddrPortFrom(newHost(), 5062), Hop: netip.AddrPortFrom(newHost(), 5060), Next: next})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, p.Run)
	l := &line{Phone: p, id: fmt.Sprintf("r%d", time.Now().UnixNano())}
	for i := range hops {
		// The first that the farm's requests meet is the hop; what lies behind it is reached over it.
		if i == 0 {
			l.hops = append(l.hops, fmt.Sprintf("<sip:a,b@%s;lr>", p.Hop()))
		} else {
			l.hops = append(l.hops, fmt.Sprintf("<sip:127.9.9.%d:5060;lr;did=%d.7>", i, i))
		}
	}
	return l
}

// take waits for a message of the dialog (or of none, where all is not set).
func (l *line) take(t *testing.T, what string, d time.Duration, match func(*rawphone.Message) bool) *rawphone.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	m, err := l.Take(ctx, match)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return m
}

func isRequest(method string) func(*rawphone.Message) bool {
	return func(m *rawphone.Message) bool { return m.Status() == 0 && m.Method() == method && !m.Resent }
}

// answer matches a final response to the phone's newest request.
func (l *line) answer(method string) func(*rawphone.Message) bool {
	return func(m *rawphone.Message) bool {
		n, of := m.CSeq()
		return m.Status() >= 200 && of == method && n == l.d.CSeq
	}
}

// recordRoute are the fields of a request or a 2xx that passed the hops.
func (l *line) recordRoute() []rawphone.Field {
	var fields []rawphone.Field
	for _, r := range l.hops {
		fields = append(fields, rawphone.Field{Name: "Record-Route", Value: r})
	}
	return fields
}

// call has phone and farm talk to each other, in either role.
func (l *line) call(t *testing.T, a *asterisk, r role) {
	t.Helper()
	if r == farmCalled {
		l.d = l.Place("sip:echo@" + a.SIP.Addr().String()) // RFC 3261 table 1: no port in To
		l.d.Target = "sip:echo@" + a.SIP.String()
		m, err := l.Invite(l.d, l.Media().SDP("sendrecv"), l.recordRoute()...)
		if err != nil {
			t.Fatal(err)
		}
		ok := l.take(t, m.Start, 5*time.Second, l.answer("INVITE"))
		if ok.Status() != 200 {
			t.Fatalf("first call: %s", ok.Start)
		}
		l.d.Answered(ok)
		if err := l.Ack(l.d); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := a.originate("first-"+l.id, "sip:alice@"+l.Hop().String(), nil); err != nil {
		t.Fatal(err)
	}
	inv := l.take(t, "INVITE of the farm", 5*time.Second, isRequest("INVITE"))
	// The hops put themselves in on the way; the one next to the farm stands last.
	fields := l.recordRoute()
	slices.Reverse(fields)
	inv.Fields = append(inv.Fields, fields...)
	l.d = l.Called(inv)
	l.respond(t, inv, 200, "OK", l.Media().SDP("sendrecv"), fields...)
	l.take(t, "ACK of the farm", 5*time.Second, isRequest("ACK"))
}

func (l *line) respond(t *testing.T, req *rawphone.Message, status int, reason, body string, extra ...rawphone.Field) *rawphone.Message {
	t.Helper()
	m, err := l.Respond(req, l.d, status, reason, body, extra...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ask sends a request inside the dialog and returns the final answer.
func (l *line) ask(t *testing.T, method, body string, extra ...rawphone.Field) *rawphone.Message {
	t.Helper()
	if _, err := l.Request(l.d, method, body, extra...); err != nil {
		t.Fatal(err)
	}
	return l.take(t, "answer to "+method, 5*time.Second, l.answer(method))
}

// variables describe the dialog for a recovery, from the phone's knowledge of it.
func (l *line) variables() map[string]string {
	routes := slices.Clone(l.d.RecordRoute)
	if l.d.FarPlaced {
		// The phone answered: the farm's route set is the response's list backwards, which is the request's own order backwards.
		slices.Reverse(routes)
	}
	local, remote := l.d.Remote, l.d.Local
	return map[string]string{
		"PJSIP_RECOVERY_FROM_DISPLAY": display(local), "PJSIP_RECOVERY_FROM_URI": rawphone.URIOf(local), "PJSIP_RECOVERY_FROM_TAG": l.d.RemoteTag,
		"PJSIP_RECOVERY_TO_DISPLAY": display(remote), "PJSIP_RECOVERY_TO_URI": rawphone.URIOf(remote), "PJSIP_RECOVERY_TO_TAG": l.d.LocalTag,
		"PJSIP_RECOVERY_CALL-ID": l.d.CallID, "PJSIP_RECOVERY_CSEQ": strconv.Itoa(int(l.d.FarCSeq) + 1),
		"PJSIP_RECOVERY_REMOTE_CSEQ": strconv.Itoa(int(l.d.CSeq)), "PJSIP_RECOVERY_REQUEST_URI": l.target(),
		"PJSIP_RECOVERY_ROUTES": strings.Join(routes, ", "), "PJSIP_RECOVERY_RECORD-ROUTES": strings.Join(routes, ","),
	}
}

func (l *line) target() string { return "sip:alice@" + l.Addr().String() }

func display(value string) string {
	name, _, _ := strings.Cut(value, "<")
	return strings.Trim(strings.TrimSpace(name), `"`)
}

// recover has an Asterisk take the dialog over and returns its INVITE.
func (l *line) recover(t *testing.T, b *asterisk, change map[string]string) *rawphone.Message {
	t.Helper()
	v := l.variables()
	for name, value := range change {
		v["PJSIP_RECOVERY_"+name] = value
	}
	if err := b.originateTo(cmp.Or(l.with, "echo"), l.id, l.target(), v); err != nil {
		t.Fatal(err)
	}
	inv := l.take(t, "INVITE of the recovery", 5*time.Second, isRequest("INVITE"))
	if !l.d.Matches(inv) {
		t.Fatalf("the INVITE is not of the dialog %s (%s, %s):\n%s", l.d.CallID, l.d.LocalTag, l.d.RemoteTag, inv)
	}
	l.d.Refresh(inv)
	return inv
}

// recovered is the whole way: INVITE, 200 without Record-Route, ACK.
func (l *line) recovered(t *testing.T, b *asterisk, extra ...rawphone.Field) {
	t.Helper()
	inv := l.recover(t, b, nil)
	l.respond(t, inv, 200, "OK", l.Media().SDP("sendrecv"), extra...)
	ack := l.take(t, "ACK of the recovery", 5*time.Second, isRequest("ACK"))
	l.viaRoute(t, ack)
}

// viaRoute wants a request of the farm at the hop, with the dialog's whole route set and target.
func (l *line) viaRoute(t *testing.T, m *rawphone.Message) {
	t.Helper()
	want := strings.Split(l.variables()["PJSIP_RECOVERY_ROUTES"], ", ")
	if len(l.hops) == 0 {
		want = nil
	}
	if got := m.All("Route"); !m.AtHop && len(want) > 0 || !slices.Equal(got, want) {
		t.Errorf("%s at the hop: %v; its route is %v, want %v", m.Start, m.AtHop, got, want)
	}
	if m.URI() != l.target() {
		t.Errorf("%s: the Request-URI is not %s", m.Start, l.target())
	}
	if !l.d.Matches(m) {
		t.Errorf("%s is not of the dialog:\n%s", m.Start, m)
	}
	if rr := m.All("Record-Route"); len(rr) > 0 {
		t.Errorf("%s has Record-Route %v", m.Start, rr)
	}
}

// echoes wants the phone's audio to come back.
func (l *line) echoes(t *testing.T) {
	t.Helper()
	l.Media().Mark()
	if err := l.Media().Send(l.d.Far.Body); err != nil {
		t.Fatal(err)
	}
	becomes(t, "25 packets of echo", 5*time.Second, func() bool { return l.Media().Heard().Packets >= 25 })
	l.Media().Pause()
}

// silence wants no message that matches within a time.
func (l *line) silence(t *testing.T, what string, d time.Duration, match func(*rawphone.Message) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if m, err := l.Take(ctx, match); err == nil {
		t.Errorf("%s: %s", what, m)
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// rss is the resident memory of a process in KiB.
func rss(t *testing.T, p *process) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
