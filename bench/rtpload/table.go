//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// printTable reads lines "PROXY RUN SCENARIO name=value..." and prints the medians of each proxy and scenario, and the ratios.
func printTable(in io.Reader, out io.Writer) error {
	values := map[string][]float64{} // by proxy, scenario and name
	key := func(proxy, scenario, name string) string { return proxy + " " + scenario + " " + name }
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[0] == "#" {
			continue
		}
		for _, field := range f[3:] {
			name, text, _ := strings.Cut(field, "=")
			if v, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64); err == nil {
				values[key(f[0], f[2], name)] = append(values[key(f[0], f[2], name)], v)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	fmt.Fprintln(out, "| scenario (calls) | proxy | CPU us/packet | late or lost | p50 / p99 us | set-up CPU us/call | delete | kB/call |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, s := range scenarios() {
		get := func(proxy, name string) float64 { return median(values[key(proxy, s.name, name)]) }
		calls := get("rtcedge", "calls")
		if calls == 0 {
			continue
		}
		for _, proxy := range []string{"rtpengine", "rtcedge"} {
			fmt.Fprintf(out, "| %s (%.0f) | %s | %.2f | %.3f %% | %.0f / %.0f | %.0f | %.0f | %.1f |\n", s.name, calls, proxy, get(proxy, "cpu_us"),
				get(proxy, "late_or_lost"), get(proxy, "p50_us"), get(proxy, "p99_us"), get(proxy, "setup_cpu_us"), get(proxy, "delete_cpu_us"), get(proxy, "call_kB"))
		}
		ratio := func(name string) float64 { return get("rtpengine", name) / get("rtcedge", name) }
		fmt.Fprintf(out, "| | ratio (goal) | %.2f (%.1f) | | %.2f / %.2f | %.2f (2) | %.2f | %.2f |\n", ratio("cpu_us"), s.goal, ratio("p50_us"),
			ratio("p99_us"), ratio("setup_cpu_us"), ratio("delete_cpu_us"), ratio("call_kB"))
	}
	return nil
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
