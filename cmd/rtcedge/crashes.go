package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"rtcedge/recovery"
)

// runCrashes is `rtcedge crashes [NODE]`: what died and what became of its calls.
func runCrashes(e *env) error {
	var only string
	inner := *e
	if len(e.args) > 0 && !strings.HasPrefix(e.args[0], "-") {
		only, inner.args = e.args[0], e.args[1:]
	}
	admin, err := adminKnob(&inner, "crashes")
	if err != nil {
		return err
	}
	var crashes []recovery.Crash
	if err := fetch(admin, "/crashes", &crashes); err != nil {
		return err
	}
	slices.SortFunc(crashes, func(a, b recovery.Crash) int { return a.Detected.Compare(b.Detected) })
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tDETECTED\tAFTER\tREASON\tLEGS\tRECOVERED\tLONGEST\tBY")
	for _, c := range crashes {
		recovered, longest := 0, time.Duration(0)
		for _, l := range c.Legs {
			if l.Result == recovery.ResultRecovered {
				recovered++
				for _, s := range l.Steps {
					longest = max(longest, s.At.Sub(c.Since))
				}
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", c.Node, c.Detected.Format(time.DateTime), milliseconds(c.Detected.Sub(c.Since)), c.Reason,
			len(c.Legs), recovered, milliseconds(longest), c.Controller)
	}
	if only != "" {
		fmt.Fprintln(w, "\nCALL\tLEG\tTARGET\tRESULT\tSTEPS (ms after the first bad sign)\tREASON")
		for _, c := range crashes {
			if string(c.Node) != only {
				continue
			}
			for _, l := range c.Legs {
				var steps []string
				for _, s := range l.Steps {
					steps = append(steps, fmt.Sprintf("%s %d", s.Name, s.At.Sub(c.Since).Milliseconds()))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Call, l.Leg, orDash(string(l.Target)), l.Result, strings.Join(steps, ", "), orDash(l.Reason))
			}
		}
	}
	return w.Flush()
}

func milliseconds(d time.Duration) string { return d.Round(time.Millisecond).String() }
