//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rtcedge/bench/rawphone"
)

// endings are the ways in which a recovery can end that take no time; the timeout is the other one.
var endings = []string{"answered", "wrong value", "486", "491", "hangup", "BYE"}

// recoveries recovers dialogs one after the other with one phone, which all end in the same way. It answers how many.
func (l *line) recoveries(ctx context.Context, b *asterisk, name, ending string, count int) (int, error) {
	for i := range count {
		l.d = madeUp(l)
		id, v := fmt.Sprint(name, "-", i), l.variables()
		if ending == "wrong value" {
			v["PJSIP_RECOVERY_CSEQ"] = "none"
		}
		if err := b.originate(id, l.target(), v); err != nil {
			return i, err
		}
		if ending == "wrong value" {
			continue // no INVITE comes, but the channel's end
		}
		if err := l.ends(ctx, b, id, ending); err != nil {
			return i, err
		}
		l.Forget()
	}
	return count, nil
}

// ends takes the INVITE of a recovery and plays its ending.
func (l *line) ends(ctx context.Context, b *asterisk, id, ending string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	inv, err := l.Take(ctx, isRequest("INVITE"))
	if err != nil {
		return err
	}
	l.d.Refresh(inv)
	say := func(status int, body string) {
		if err == nil {
			_, err = l.Respond(inv, l.d, status, "Anything", body)
		}
	}
	take := func(method string) {
		var m *rawphone.Message
		if err == nil {
			m, err = l.Take(ctx, isRequest(method))
		}
		if err == nil && method != "ACK" {
			_, err = l.Respond(m, l.d, 200, "OK", "")
		}
	}
	bye := func() {
		if err == nil {
			_, err = l.Request(l.d, "BYE", "")
		}
		var ok *rawphone.Message
		if err == nil {
			ok, err = l.Take(ctx, l.answer("BYE"))
		}
		if err == nil && ok.Status() != 200 {
			err = fmt.Errorf("BYE: %s", ok.Start)
		}
	}
	switch ending {
	case "answered":
		say(200, l.Media().SDP("sendrecv"))
		take("ACK")
		bye()
	case "486":
		say(486, "")
		take("ACK")
		take("BYE")
	case "491":
		say(491, "")
		take("ACK")
	case "hangup":
		say(180, "")
		if err == nil {
			_, err = b.ari("DELETE", "channels/"+id, nil, nil)
		}
		take("CANCEL")
		say(487, "")
		take("ACK")
		take("BYE")
	case "BYE":
		bye()
		say(481, "")
		take("ACK")
	}
	return err
}

// unanswered begins recoveries that get no answer at all, neither the INVITE nor the BYE after it. They end after 64 times T1.
func (l *line) unanswered(t *testing.T, b *asterisk, name string, count int) {
	t.Helper()
	for i := range count {
		l.d = madeUp(l)
		if err := b.originate(fmt.Sprint(name, "-", i), l.target(), l.variables()); err != nil {
			t.Fatal(err)
		}
	}
}

// parallel runs recoveries on eight phones.
func parallel(t *testing.T, b *asterisk, lines []*line, name, ending string, count int) {
	t.Helper()
	var wg sync.WaitGroup
	var done atomic.Int64
	began := time.Now()
	for i, l := range lines {
		wg.Go(func() {
			n, err := l.recoveries(t.Context(), b, fmt.Sprint(name, i), ending, count/len(lines))
			done.Add(int64(n))
			if err != nil {
				t.Errorf("%s, phone %d, recovery %d: %v", name, i, n, err)
			}
		})
	}
	wg.Wait()
	t.Logf("%s: %d recoveries in %.1f s", name, done.Load(), time.Since(began).Seconds())
}

func eightLines(t *testing.T, b *asterisk) []*line {
	t.Helper()
	var lines []*line
	for range 8 {
		lines = append(lines, newLine(t, b.SIP, 2))
	}
	return lines
}

// TestB60Leak recovers dialogs that end in every way, in three equal parts (10^4 that are answered in all with RTCEDGE_RECOVERIES=10000), and compares the
// process's memory after each.
func TestB60Leak(t *testing.T) {
	count := 2400
	if s := os.Getenv("RTCEDGE_RECOVERIES"); s != "" {
		var err error
		if count, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	const others = 320 // of each other ending, in each part
	b := startPatched(t)
	lines := eightLines(t, b)
	silent := newLine(t, b.SIP, 2)
	part := func(name string) int {
		silent.unanswered(t, b, name, others)
		for _, e := range endings {
			n := others
			if e == "answered" {
				n = count / 3
			}
			parallel(t, b, lines, name+", "+e, e, n)
		}
		becomes(t, "all channels are gone", 20*time.Second, func() bool { return len(b.channels(t)) == 0 })
		silent.Forget()
		// pjsip keeps a dialog until its last transaction ends, 64 times T1 (6.4 s here) after the BYE. No command shows that.
		time.Sleep(8 * time.Second)
		b.cli("malloc trim")
		return rss(t, b.proc)
	}
	first, second, third := part("first"), part("second"), part("third")
	t.Logf("resident memory: %d, %d and %d KiB after each %d recoveries and %d of each other ending", first, second, third, count/3, others)
	// Pools, caches and fragments grow by a megabyte now and then, a leak each time. The pools of one dialog are about 100 KiB while it lives; one leaked pool
	// of the smallest size each, 4 KiB, would be 1280 KiB for one ending alone.
	if grown := min(second-first, third-second); grown > 1024+count/12 {
		t.Errorf("grown by %d KiB each time", grown)
	}
}

// TestB60Asan runs recoveries, refusals and failures with a module that AddressSanitizer watches.
func TestB60Asan(t *testing.T) {
	dir, err := buildModules("--asan")
	if err != nil {
		t.Fatal(err)
	}
	b := prepareWith(t, dir)
	b.start(t, "LD_PRELOAD=libasan.so.8", "ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:log_path=/mnt/log/asan")
	lines := eightLines(t, b)
	for _, e := range endings {
		parallel(t, b, lines, "asan, "+e, e, 80)
	}
	l := lines[0]
	l.unanswered(t, b, "asan", 40)
	becomes(t, "all have given up", 20*time.Second, func() bool { return len(b.channels(t)) == 0 })
	l.Forget()
	for i, change := range []map[string]string{{"ROUTES": "<sip:a;lr>, <"}, {"FROM_DISPLAY": `"\`}, {"TO_URI": "sip:" + strings.Repeat("a", 3000)}, {"TO_DISPLAY": strings.Repeat(`\"`, 900)}} {
		l.d = madeUp(l)
		v := l.variables()
		for name, value := range change {
			v["PJSIP_RECOVERY_"+name] = value
		}
		l.id = fmt.Sprint("odd", i)
		if err := b.originate(l.id, l.target(), v); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if inv, err := l.Take(ctx, isRequest("INVITE")); err == nil {
			l.respond(t, inv, 500, "Server Internal Error", "")
		}
		cancel()
		l.gone(t, b)
	}
	if err := b.proc.stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	reports, err := filepath.Glob(filepath.Join(b.dir, "log", "asan*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		text, _ := os.ReadFile(r)
		t.Errorf("%s:\n%s", filepath.Base(r), tail(string(text), 6000))
	}
}

// TestB60AtOnce kills an Asterisk with 400 calls, half of them its own, behind one to three hops, and has another one take them over at a time, 8 calls of ARI
// in parallel. It prints how long that takes.
func TestB60AtOnce(t *testing.T) {
	const dialogs = 400
	a, b := startPatched(t), startPatched(t)
	lines := make([]*line, dialogs)
	for i := range lines {
		lines[i] = newLine(t, a.SIP, 1+i/2%3)
		lines[i].call(t, a, bothRoles[i%2])
		lines[i].id = fmt.Sprint("crowd", i)
		lines[i].Aim(b.SIP)
	}
	a.kill(t)
	work := make(chan *line, dialogs)
	for _, l := range lines {
		work <- l
	}
	close(work)
	var posts, answers sync.WaitGroup
	began := time.Now()
	waits := make([]time.Duration, dialogs)
	for range 8 {
		posts.Go(func() {
			for l := range work {
				if err := b.originate(l.id, l.target(), l.variables()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i, l := range lines {
		answers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			inv, err := l.Take(ctx, isRequest("INVITE"))
			if err != nil {
				t.Error(err)
				return
			}
			l.viaRoute(t, inv)
			l.d.Refresh(inv)
			if _, err := l.Respond(inv, l.d, 200, "OK", l.Media().SDP("sendrecv")); err != nil {
				t.Error(err)
			}
			if ack, err := l.Take(ctx, isRequest("ACK")); err != nil {
				t.Error(err)
			} else {
				l.viaRoute(t, ack)
			}
			waits[i] = time.Since(began)
		})
	}
	posts.Wait()
	answers.Wait()
	slices.Sort(waits)
	t.Logf("%d dialogs recovered in %.2f s (half of them in %.2f s)", dialogs, waits[dialogs-1].Seconds(), waits[dialogs/2].Seconds())
	if t.Failed() {
		return
	}
	if n := len(b.channels(t)); n != dialogs {
		t.Errorf("%d channels, want %d", n, dialogs)
	}
	var byes sync.WaitGroup
	for _, l := range lines {
		byes.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := l.Request(l.d, "BYE", ""); err != nil {
				t.Error(err)
			}
			if ok, err := l.Take(ctx, l.answer("BYE")); err != nil || ok.Status() != 200 {
				t.Errorf("BYE: %v %v", ok, err)
			}
		})
	}
	byes.Wait()
	becomes(t, "no channel is left", 10*time.Second, func() bool { return len(b.channels(t)) == 0 })
}

// TestB63Applies asks the build whether the packaged source still takes the patch; that it builds, all other tests show.
func TestB63Applies(t *testing.T) {
	out, err := exec.Command("sh", filepath.Join(root(t), "asterisk-patch", "build.sh"), "--check").CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "22.patch applies") {
		t.Errorf("the patch does not apply to the packaged source (%v)", err)
	}
}
