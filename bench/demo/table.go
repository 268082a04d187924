package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

type verdict int

const (
	pass verdict = iota
	fail
	skip
)

func (v verdict) String() string { return [...]string{"PASS", "FAIL", "SKIP"}[v] }

// row is one call, or one ear of it, in the table.
type row struct {
	call, transport, codec string
	srtp                   bool
	farm                   string // codec at the farm; empty: nobody could tell
	setup                  time.Duration
	sent, returned         int
	loss                   float64 // percent
	roundTrip              time.Duration
	snr                    float64 // dB; in a conference the weakest other voice over the own one
	verdict                verdict
	reason                 string // why not PASS
}

func (r row) failed(format string, args ...any) row {
	// Joined errors have a line each; a row has one.
	r.verdict, r.reason = fail, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	return r
}

func (r row) skipped(reason string) row {
	r.verdict, r.reason = skip, reason
	return r
}

func count(rows []row, v verdict) int {
	n := 0
	for _, r := range rows {
		if r.verdict == v {
			n++
		}
	}
	return n
}

func printTable(out io.Writer, rows []row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CALL\tSIP\tCODEC\tMEDIA\tAT FARM\tSET-UP ms\tSENT\tRETURNED\tLOSS %\tROUND TRIP ms\tSNR dB\tRESULT")
	for _, r := range rows {
		media := "RTP"
		if r.srtp {
			media = "SRTP"
		}
		if r.verdict == skip || r.sent == 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t-\t-\t-\t-\t-\t-\t-\t%s: %s\n", r.call, r.transport, r.codec, media, r.verdict, r.reason)
			continue
		}
		result := r.verdict.String()
		if r.reason != "" {
			result += ": " + r.reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.1f\t%d\t%d\t%.1f\t%s\t%.1f\t%s\n", r.call, r.transport, r.codec, media, orDash(r.farm),
			ms(r.setup), r.sent, r.returned, r.loss, trip(r.roundTrip), r.snr, result)
	}
	w.Flush()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func trip(d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", ms(d))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
