//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Crashes are told by time alone: who does not answer for so long is dead. A machine that lets an Asterisk wait as long makes a crash of it, and a busy one
// makes any limit too short. So a case that fails while the machine stood still is played again, on a fresh system; whatever holds, holds there, too.
const (
	attempts = 3
	noise    = 150 * time.Millisecond // the machine stood still: no judgement, but another attempt
	stuck    = time.Second            // in each attempt: no judgement at all
)

const attemptEnv = "RTCEDGE_ATTEMPT" // set in the process that plays; RTCEDGE_ATTEMPT=1 by hand plays once, without this

var (
	stoodStill = regexp.MustCompile(`the machine stood still for (\S+) in all of it`)
	finished   = regexp.MustCompile(`(?m)^\s+--- (PASS|FAIL): \w+/(\w+) `)
)

// again plays the cases of a test in a process of its own, and those that failed by the machine's fault once more.
func again(t *testing.T, cases []string) {
	t.Helper()
	cases = slices.DeleteFunc(slices.Clone(cases), func(c string) bool { return !asked(t, c) })
	binary := edgeProgram.binary(t)
	failures := map[string][]time.Duration{} // how long the machine stood still in each
	for len(cases) > 0 {
		passed, failed, out := attempt(t, binary, cases)
		for _, c := range passed {
			t.Run(c, func(t *testing.T) { t.Logf("passed after %d other attempts", len(failures[c])) })
		}
		cases = slices.DeleteFunc(cases, func(c string) bool { return slices.Contains(passed, c) })
		if failed == "" && len(cases) > 0 {
			failed = cases[0] // the system did not come up
		}
		if failed == "" {
			continue
		}
		still := time.Duration(0)
		if all := stoodStill.FindAllStringSubmatch(out, -1); all != nil {
			still, _ = time.ParseDuration(all[len(all)-1][1])
		}
		failures[failed] = append(failures[failed], still)
		if still >= noise && len(failures[failed]) < attempts {
			t.Logf("%s failed while the machine stood still for %v: once more", failed, still)
			continue
		}
		cases = slices.DeleteFunc(cases, func(c string) bool { return c == failed })
		t.Run(failed, func(t *testing.T) {
			if slices.Min(failures[failed]) >= stuck {
				t.Skipf("NOT JUDGED: the machine stood still for %v", failures[failed])
			}
			t.Errorf("failed; the machine stood still for %v", failures[failed])
		})
	}
}

// asked tells whether -run wants a case: alternatives of name/case; an alternative without a case wants all.
func asked(t *testing.T, name string) bool {
	t.Helper()
	var alternatives []string
	from, depth := 0, 0
	run := flag.Lookup("test.run").Value.String()
	for i, c := range run + "|" {
		switch {
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == '|' && depth == 0:
			alternatives = append(alternatives, run[from:i])
			from = i + 1
		}
	}
	return slices.ContainsFunc(alternatives, func(a string) bool {
		test, only, _ := strings.Cut(a, "/")
		of, err1 := regexp.MatchString(test, t.Name())
		it, err2 := regexp.MatchString(only, name)
		return err1 == nil && err2 == nil && of && it
	})
}

// attempt plays cases until one fails.
func attempt(t *testing.T, binary string, cases []string) (passed []string, failed, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.v", "-test.count=1", "-test.timeout=4m50s",
		"-test.run", fmt.Sprintf("^%s$/^(%s)$", t.Name(), strings.Join(cases, "|")))
	cmd.Env = append(os.Environ(), attemptEnv+"=1", "RTCEDGE_BIN="+binary)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	text, err := cmd.CombinedOutput()
	out = string(text)
	t.Logf("%s\n%v", out, err)
	for _, f := range finished.FindAllStringSubmatch(out, -1) {
		if f[1] == "PASS" {
			passed = append(passed, f[2])
		} else {
			failed = f[2]
		}
	}
	if err == nil && len(passed) < len(cases) {
		t.Fatalf("of %v only %v were played", cases, passed)
	}
	return passed, failed, out
}

// alone plays one case that brings its own system.
func alone(t *testing.T, name string, play func(t *testing.T)) {
	t.Helper()
	if os.Getenv(attemptEnv) == "" {
		again(t, []string{name})
		return
	}
	t.Run(name, func(t *testing.T) {
		m := watchMachine(t)
		defer func() { t.Logf("the machine stood still for %v in all of it", m.stall()) }()
		play(t)
	})
}
