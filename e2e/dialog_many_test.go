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

// recoveries recovers dialogs one after the other with one phone: INVITE, 200, ACK, BYE of the phone, 200. It answers how many.
func (l *line) recoveries(ctx context.Context, b *asterisk, name string, count int) (int, error) {
	get := func(match func(*rawphone.Message) bool) (*rawphone.Message, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return l.Take(ctx, match)
	}
	for i := range count {
		l.d = madeUp(l)
		if err := b.originate(fmt.Sprint(name, "-", i), l.target(), l.variables()); err != nil {
			return i, err
		}
		inv, err := get(isRequest("INVITE"))
		if err != nil {
			return i, err
		}
		l.d.Refresh(inv)
		if _, err := l.Respond(inv, l.d, 200, "OK", l.Media().SDP("sendrecv")); err != nil {
			return i, err
		}
		if _, err := get(isRequest("ACK")); err != nil {
			return i, err
		}
		if _, err := l.Request(l.d, "BYE", ""); err != nil {
			return i, err
		}
		ok, err := get(l.answer("BYE"))
		if err != nil {
			return i, err
		}
		if ok.Status() != 200 {
			return i, fmt.Errorf("BYE: %s", ok.Start)
		}
		l.Forget()
	}
	return count, nil
}

// parallel runs recoveries on eight phones.
func parallel(t *testing.T, b *asterisk, lines []*line, name string, count int) {
	t.Helper()
	var wg sync.WaitGroup
	var done atomic.Int64
	began := time.Now()
	for i, l := range lines {
		wg.Go(func() {
			n, err := l.recoveries(t.Context(), b, fmt.Sprint(name, i), count/len(lines))
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

// TestB60Leak recovers and ends many dialogs (10^4 with RTCEDGE_RECOVERIES=10000) and compares the process's memory after the first part
// with that at the end.
func TestB60Leak(t *testing.T) {
	count := 2400
	if s := os.Getenv("RTCEDGE_RECOVERIES"); s != "" {
		var err error
		if count, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	b := startPatched(t)
	lines := eightLines(t, b)
	settle := func() int {
		becomes(t, "all channels are gone", 10*time.Second, func() bool { return len(b.channels(t)) == 0 })
		// pjsip keeps a dialog until its last transaction ends, 64 times T1 (6.4 s here) after the BYE. No command shows that.
		time.Sleep(8 * time.Second)
		b.cli("malloc trim")
		return rss(t, b.proc)
	}
	// The first part is as large as the second: pools, caches and threads grow to the load.
	parallel(t, b, lines, "warm", count/2)
	before := settle()
	parallel(t, b, lines, "counted", count/2)
	after := settle()
	t.Logf("resident memory: %d KiB before, %d KiB after %d recoveries more", before, after, count/2)
	// The pools of one dialog are about 100 KiB while it lives. One leaked pool of the smallest size each would be 4 KiB.
	if grown := after - before; grown > 1024+count/2 {
		t.Errorf("grown by %d KiB: %.0f bytes a recovery", grown, float64(grown)*1024/float64(count/2))
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
	parallel(t, b, lines, "asan", 200)
	l := lines[0]
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

// TestB60AtOnce has one Asterisk take 400 dialogs over at a time, 8 calls of ARI in parallel, and prints how long that takes.
func TestB60AtOnce(t *testing.T) {
	const dialogs = 400
	b := startPatched(t)
	lines := make([]*line, dialogs)
	for i := range lines {
		lines[i] = newLine(t, b.SIP, 1)
		lines[i].d = madeUp(lines[i])
		lines[i].id = fmt.Sprint("crowd", i)
	}
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
			l.d.Refresh(inv)
			if _, err := l.Respond(inv, l.d, 200, "OK", l.Media().SDP("sendrecv")); err != nil {
				t.Error(err)
			}
			if _, err := l.Take(ctx, isRequest("ACK")); err != nil {
				t.Error(err)
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
