//go:build e2e

package e2e

import (
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"rtcedge/bridge/bridgetest"
	"rtcedge/e2e/farms"
	"rtcedge/media/mediatest"
)

// made is what `make farms` printed.
type made struct {
	sip      netip.AddrPort
	api      netip.AddrPort
	accounts []farms.Account
}

// patience bounds each wait: nothing here takes seconds by itself, but a busy machine may.
const patience = 20 * time.Second

var (
	printedSIP     = regexp.MustCompile(`(?m)^SIP +(\S+) `)
	printedAPI     = regexp.MustCompile(`(?m)^API +http://(\S+)`)
	printedAccount = regexp.MustCompile(`(?m)^  (\d+) (\S+)$`)
)

func parseMade(t *testing.T, text string) made {
	t.Helper()
	var m made
	for into, pattern := range map[*netip.AddrPort]*regexp.Regexp{&m.sip: printedSIP, &m.api: printedAPI} {
		found := pattern.FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("make farms printed no %s:\n%s", pattern, text)
		}
		addr, err := netip.ParseAddrPort(found[1])
		if err != nil {
			t.Fatal(err)
		}
		*into = addr
	}
	for _, a := range printedAccount.FindAllStringSubmatch(text, -1) {
		m.accounts = append(m.accounts, farms.Account{User: a[1], Password: a[2]})
	}
	return m
}

// TestDoneMakeFarms is the "Done when" of the farms, on a machine of its own (a network namespace) and from what `make farms` prints alone:
// two baresip clients call each other, a transfer works, three meet in a conference, a moderator mutes one by the API and by the command,
// a recording plays, and Ctrl-C leaves nothing behind.
func TestDoneMakeFarms(t *testing.T) {
	needNamespaces(t)
	machine := newNamespace(t, "farms")
	temp := t.TempDir()
	// setsid: a process group, as a shell makes one for the command that Ctrl-C shall end.
	farm := launch(t, "make farms", machine.argv("setsid", "env", "TMPDIR="+temp, "make", "-C", root(t), "farms")...)
	t.Cleanup(func() {
		_ = syscall.Kill(-farm.cmd.Process.Pid, syscall.SIGINT)
		_ = farm.wait(20 * time.Second)
		_ = syscall.Kill(-farm.cmd.Process.Pid, syscall.SIGKILL)
	})
	if err := farm.says("Ctrl-C ends everything", 4*time.Minute); err != nil {
		t.Fatal(err)
	}
	m := parseMade(t, farm.output())
	if len(m.accounts) < 3 {
		t.Fatalf("%d accounts", len(m.accounts))
	}
	tones := []float64{500, 800, 1200}
	var phones []*softphone
	for i, hz := range tones {
		phones = append(phones, startSoftphone(t, softphoneConfig{In: machine, Server: m.sip, User: m.accounts[i].User, Password: m.accounts[i].Password, Tone: hz}))
	}
	for _, p := range phones {
		p.registered()
	}
	api := newControl(t, m.api, &http.Client{Transport: &http.Transport{DialContext: machine.dial}})
	doneCall(api, phones, tones)
	doneTransfer(api, phones, tones)
	recorded := doneConference(t, machine, api, phones, tones)
	donePlay(api, phones[0], recorded, tones)

	for _, p := range phones {
		// baresip 1.0 sometimes waits for ever at its end, once it has sent a REFER; that is its own affair.
		if err := p.proc.stop(5 * time.Second); err != nil {
			t.Logf("%s: %v", p.user, err)
		}
	}
	start := time.Now()
	if err := syscall.Kill(-farm.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	// make itself ends by the signal, once its command has ended.
	if err := farm.wait(20 * time.Second); err != nil && !strings.Contains(err.Error(), "signal: interrupt") {
		t.Errorf("Ctrl-C: %v", err)
	}
	t.Logf("everything ended %v after Ctrl-C", time.Since(start).Round(time.Millisecond))
	for _, pid := range strings.Fields(machine.run("ip", "netns", "pids", machine.name)) {
		if args, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && !strings.HasPrefix(string(args), "ip\x00") { // the listing itself
			t.Errorf("still there after Ctrl-C: %s %q", pid, args)
		}
	}
	if files, err := filepath.Glob(filepath.Join(temp, "farms-*")); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// settled waits until no call is left.
func (c *control) settled() {
	c.t.Helper()
	c.Until("no call", func(calls []bridgetest.Call) bool {
		for _, call := range calls {
			if len(call.Legs) > 0 {
				return false
			}
		}
		return true
	})
}

func doneCall(api *control, phones []*softphone, tones []float64) {
	incoming := phones[1].mark()
	mark := phones[0].do("dial", phones[1].user)
	phones[0].until(mark, "CALL_ESTABLISHED", patience)
	phones[1].until(incoming, "CALL_ESTABLISHED", patience)
	phones[0].hears(tones[1:2], tones[:1])
	phones[1].hears(tones[:1], tones[1:2])
	phones[1].do("hangup", "")
	phones[0].until(mark, "CALL_CLOSED", patience)
	api.settled()
}

// doneTransfer: the one who was called sends the caller on to the third phone, by the phone's own transfer (REFER).
func doneTransfer(api *control, phones []*softphone, tones []float64) {
	incoming := phones[1].mark()
	mark := phones[0].do("dial", phones[1].user)
	phones[1].until(incoming, "CALL_ESTABLISHED", patience)
	phones[0].hears(tones[1:2], nil)
	third := phones[2].mark()
	left := phones[1].do("transfer", "sip:"+phones[2].user+"@"+phones[2].domain)
	phones[2].until(third, "CALL_ESTABLISHED", patience)
	phones[1].until(left, "CALL_CLOSED", patience)
	phones[0].hears(tones[2:3], tones[:2])
	phones[2].hears(tones[:1], tones[1:3])
	phones[0].do("hangup", "")
	phones[0].until(mark, "CALL_CLOSED", patience)
	phones[2].until(third, "CALL_CLOSED", patience)
	api.settled()
}

func doneConference(t *testing.T, machine *namespace, api *control, phones []*softphone, tones []float64) string {
	var marks []int
	for _, p := range phones {
		marks = append(marks, p.do("dial", "7001"))
	}
	for i, p := range phones {
		p.until(marks[i], "CALL_ESTABLISHED", patience)
	}
	phones[0].hears([]float64{tones[1], tones[2]}, tones[:1])
	phones[1].hears([]float64{tones[0], tones[2]}, tones[1:2])
	phones[2].hears([]float64{tones[0], tones[1]}, tones[2:3])
	all := api.Until("a conference of three", func(c []bridgetest.Call) bool { return len(c) == 1 && len(c[0].Legs) == 3 })
	call, path := all[0], "/v1/calls/"+all[0].ID
	leg := func(user string) string {
		for _, l := range call.Legs {
			if l.Number == user {
				return l.ID
			}
		}
		t.Fatalf("no leg of %s in %+v", user, call.Legs)
		return ""
	}
	moderator, other := leg(phones[0].user), leg(phones[1].user)
	mute := func(on bool, by string) (string, int) {
		text, status := api.Do("POST", path+"/participants/"+other+"/mute", map[string]any{"on": on, "by": by})
		return string(text), status
	}
	if text, status := mute(true, moderator); status != 403 {
		t.Errorf("muted by one who is no moderator: %d %s", status, text)
	}
	api.Must("POST", path+"/participants/"+moderator+"/moderator", map[string]bool{"on": true})
	if text, status := mute(true, moderator); status != 200 {
		t.Errorf("muted by the moderator: %d %s", status, text)
	}
	phones[2].hears(tones[:1], tones[1:2])
	phones[0].hears(tones[2:3], tones[1:2])
	if text, status := mute(false, moderator); status != 200 {
		t.Errorf("the moderator ends it: %d %s", status, text)
	}
	phones[2].hears([]float64{tones[0], tones[1]}, nil)

	// The same by the commands that a person has.
	command := func(args ...string) string {
		return strings.TrimSpace(machine.run(append(append([]string{edgeProgram.binary(t)}, args...), "--api", api.api.String())...))
	}
	if table := command("calls"); strings.Count(table, "conference 7001") != 3 {
		t.Errorf("rtcedge calls:\n%s", table)
	}
	command("mute", call.ID, other)
	phones[2].hears(tones[:1], tones[1:2])
	command("mute", call.ID, other, "--off")
	phones[2].hears([]float64{tones[0], tones[1]}, nil)

	name := command("record", call.ID)
	if name == "" {
		t.Fatal("rtcedge record printed no name")
	}
	time.Sleep(5 * time.Second) // of talk: as long is it heard by donePlay, which looks for 400 ms of it
	command("record", call.ID, "--off")
	eventuallyWAV(t, api, name, tones)
	command("hangup", call.ID)
	for i, p := range phones {
		p.until(marks[i], "CALL_CLOSED", patience)
	}
	api.settled()
	return name
}

// eventuallyWAV wants a download that is a valid WAV file with all these tones.
func eventuallyWAV(t *testing.T, api *control, name string, tones []float64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recording.wav")
	var rec recording
	eventually(t, "a download of "+name, patience, func() bool { // Asterisk closes the file after the answer
		text, status := api.Do("GET", "/v1/recordings/"+name, nil)
		if status != http.StatusOK || os.WriteFile(file, text, 0o600) != nil {
			return false
		}
		var err error
		rec, err = readWAV(file)
		return err == nil && len(rec.samples) > rec.rate
	})
	pcm := make([]int16, len(rec.samples))
	for i, v := range rec.samples {
		pcm[i] = int16(v * 32767)
	}
	for _, hz := range tones {
		if l := mediatest.Level(pcm, rec.rate, hz); l < -35 {
			t.Errorf("the recording %s has %.0f Hz at %.0f dBFS only", name, hz, l)
		}
	}
	t.Logf("recording %s: %.1f s at %d Hz", name, float64(len(pcm))/float64(rec.rate), rec.rate)
}

// donePlay lets a caller hear the recording by a flow. It was made on the conference node, the flow runs on the call node.
func donePlay(api *control, phone *softphone, name string, tones []float64) {
	api.Must("PUT", "/v1/flows/800", map[string]any{"actions": []map[string]any{
		{"do": "answer"}, {"do": "play", "media": []string{"recording:" + name}}, {"do": "hangup"}}})
	mark := phone.do("dial", "800")
	phone.until(mark, "CALL_ESTABLISHED", patience)
	phone.hears(tones, nil)
	phone.until(mark, "CALL_CLOSED", patience)
	api.settled()
}
