package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"rtcedge/bridge"
	"rtcedge/internal/config"
	"rtcedge/internal/obs"
	"rtcedge/recovery"
)

// crashesPage is /crashes: ?node=, ?id= and ?call= choose, ?limit= says how many of the newest, ?brief=1 leaves the legs away.
func crashesPage(read func(context.Context, recovery.Query) ([]recovery.Crash, error)) obs.Page {
	return func(ctx context.Context, q url.Values) (any, error) {
		ask := recovery.Query{ID: q.Get("id"), Node: bridge.NodeID(q.Get("node")), Call: strings.ToLower(q.Get("call")), Brief: q.Get("brief") == "1"}
		if text := q.Get("limit"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > recovery.MaxCrashes {
				return nil, fmt.Errorf("%w: limit %q (allowed: 1 to %d)", obs.ErrQuery, text, recovery.MaxCrashes)
			}
			ask.Limit = n
		}
		crashes, err := read(ctx, ask)
		if crashes == nil {
			crashes = []recovery.Crash{}
		}
		return crashes, err
	}
}

// runCrashes is `rtcedge crashes [NODE|ID]`: what died and what became of its calls.
func runCrashes(e *env) error {
	var only string
	args := e.args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		only, args = args[0], args[1:]
	}
	var admin netip.AddrPort
	var limit int
	var call string
	s := config.New("crashes", e.getenv)
	s.Addr(&admin, "admin", defaultAdmin(), "admin port of a running recovery")
	s.Int(&limit, "limit", 50, 1, recovery.MaxCrashes, "CRASHES", "the newest of them")
	s.String(&call, "call", "", "TEXT", "legs with this in their Call-ID, call or name only")
	if err := usage(s.Parse(args, e.out)); err != nil {
		return err
	}
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	legs := only != "" || call != ""
	if call != "" {
		q.Set("call", call)
	}
	if !legs {
		q.Set("brief", "1")
	}
	if only != "" {
		if err := chooseCrash(admin, only, q); err != nil {
			return err
		}
	}
	var crashes []recovery.Crash
	if err := fetch(admin, "/crashes?"+q.Encode(), &crashes); err != nil {
		return err
	}
	if err := printCrashes(e.out, crashes); err != nil {
		return err
	}
	if call != "" && len(crashes) == 0 {
		return fmt.Errorf("no crash had to do with %q: the newest %d were looked at (--limit)", call, limit)
	}
	for i := range crashes {
		if legs {
			if err := printCrash(e.out, &crashes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// chooseCrash makes the question for a node or one of its crashes. A name that nobody knows is an error; a node that is watched and has not died is none.
func chooseCrash(admin netip.AddrPort, name string, q url.Values) error {
	var all []recovery.Crash
	if err := fetch(admin, "/crashes?brief=1&limit="+strconv.Itoa(recovery.MaxCrashes), &all); err != nil {
		return err
	}
	var st Status
	if err := fetch(admin, "/status", &st); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, c := range all {
		if c.ID == name {
			q.Set("id", name)
			return nil
		}
		known[string(c.Node)] = true
	}
	for _, n := range st.Farm {
		known[n.Node] = true
	}
	if !known[name] {
		return fmt.Errorf("no crash and no node %q (known: %s)", name, orDash(strings.Join(sortedKeys(known), ", ")))
	}
	q.Set("node", name)
	return nil
}

func printCrashes(out io.Writer, crashes []recovery.Crash) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CRASH\tDETECTED\tAFTER\tSTATE\tFENCE\tTOOK\tLEGS\tRECOVERED\tOTHERS\tBY\tREASON")
	for _, c := range crashes {
		legs, others := 0, []string{}
		for _, result := range sortedKeys(c.Results) {
			legs += c.Results[result]
			if result != recovery.ResultRecovered {
				others = append(others, fmt.Sprintf("%d %s", c.Results[result], result))
			}
		}
		by := c.Controller
		if c.Taken > 0 {
			by += fmt.Sprintf(" (taken over %d times)", c.Taken)
		}
		took := "-"
		if !c.Done.IsZero() {
			took = milliseconds(c.Done.Sub(c.Detected))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", c.ID, c.Detected.Local().Format(time.DateTime), milliseconds(c.Detected.Sub(c.Since)), c.State(), c.Fence(), took,
			legs, c.Results[recovery.ResultRecovered], orDash(strings.Join(others, ", ")), by, printable(c.Reason))
	}
	return w.Flush()
}

// printCrash prints the timeline of one, in milliseconds after the first bad sign.
func printCrash(out io.Writer, c *recovery.Crash) error {
	fmt.Fprintf(out, "\n%s: milliseconds after the first bad sign at %s\n", c.ID, c.Since.Local().Format("2006-01-02 15:04:05.000"))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range c.Timeline() {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", s.At.Sub(c.Since).Milliseconds(), s.Name, s.Result, printable(s.Reason))
	}
	if err := w.Flush(); err != nil || len(c.Legs) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nCALL\tLEG\tCALL-ID\tTARGET\tRESULT\tREASON\tSTEPS")
	for _, l := range c.Legs {
		var steps []string
		for _, s := range l.Steps {
			steps = append(steps, stepText(s, c.Since))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Call, l.Leg, printable(l.SIPCallID), orDash(string(l.Target)), l.Result,
			orDash(printable(l.Reason)), printable(strings.Join(steps, ", ")))
	}
	return w.Flush()
}

// stepText is "name ms (result: reason)". Result and reason of a leg's last word stand in columns of their own.
func stepText(s recovery.Step, since time.Time) string {
	text := fmt.Sprintf("%s %d", s.Name, s.At.Sub(since).Milliseconds())
	about := slices.DeleteFunc([]string{s.Result, s.Reason}, func(t string) bool { return t == "" })
	if len(about) == 0 || s.Result == s.Name {
		return text
	}
	return text + " (" + strings.Join(about, ": ") + ")"
}

// printable is a text of a stranger that moves no cursor and ends no line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

func milliseconds(d time.Duration) string { return d.Round(time.Millisecond).String() }
