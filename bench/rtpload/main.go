//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"rtcedge/bench/meter"
	"rtcedge/media/ng"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "rtpload:", err)
	}
	os.Exit(code)
}

// options are the knobs of the command line.
type options struct {
	scenario string
	calls    int
	node     string
	host     string
	pid      int
	core     int
	tick     time.Duration
	warmUp   time.Duration
	span     time.Duration
	table    bool
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) (int, error) {
	var o options
	f := pflag.NewFlagSet("rtpload", pflag.ContinueOnError)
	f.StringVar(&o.scenario, "scenario", "relay", "relay, srtp, pcma, g722 or opus: what the caller has; the called party has PCMU over RTP")
	f.IntVar(&o.calls, "calls", 0, "calls, 1 to 2000; 0 is the scenario's own number")
	f.StringVar(&o.node, "ng", "127.0.0.1:2223", "NG port of the proxy, UDP, IP:PORT")
	f.StringVar(&o.host, "host", "127.0.0.2", "loopback address of the parties")
	f.IntVar(&o.pid, "pid", 0, "process of the proxy")
	f.IntVar(&o.core, "core", -1, "core that the proxy is pinned to; its softirq thread counts too; -1: none")
	f.DurationVar(&o.tick, "tick", time.Microsecond, "packets leave together once in this time, 1us to 20ms: what a network card's interrupt moderation does")
	f.DurationVar(&o.warmUp, "warm-up", time.Second, "talk that does not count")
	f.DurationVar(&o.span, "time", 4*time.Second, "talk that counts, 100ms to 60s")
	f.BoolVar(&o.table, "table", false, "read lines \"PROXY RUN RESULT\" and print the table of medians")
	if err := f.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return 0, nil
	} else if err != nil {
		return 2, err
	}
	if o.table {
		return 0, printTable(in, out)
	}
	l, node, err := o.load()
	if err != nil {
		return 2, err
	}
	defer l.close()
	client, err := ng.NewClient(ng.ClientConfig{Nodes: []netip.AddrPort{node}, Timeout: 5 * time.Second, PingInterval: time.Minute})
	if err != nil {
		return 1, err
	}
	cctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- client.Run(cctx) }()
	runtime.LockOSThread()
	err = l.run(ctx, client, o.warmUp, o.span)
	cancel()
	if err := errors.Join(err, <-ran); err != nil {
		return 1, err
	}
	fmt.Fprintln(out, l.result.line(l.scenario.name, len(l.calls)))
	return 0, nil
}

// load checks the options.
func (o *options) load() (*load, netip.AddrPort, error) {
	s, err := findScenario(o.scenario)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	if o.calls != 0 {
		s.calls = o.calls
	}
	node, err := netip.ParseAddrPort(o.node)
	if err != nil || !node.Addr().IsLoopback() {
		return nil, node, fmt.Errorf("--ng %q: allowed is a loopback address, IP:PORT: this is a flood", o.node)
	}
	host, err := netip.ParseAddr(o.host)
	switch {
	case err != nil || !host.Is4() || !host.IsLoopback():
		return nil, node, fmt.Errorf("--host %q: allowed is 127.x.y.z", o.host)
	case s.calls < 1 || s.calls > 2000:
		return nil, node, fmt.Errorf("--calls %d: allowed are 1 to 2000", s.calls)
	case o.span < 100*time.Millisecond || o.span > time.Minute:
		return nil, node, fmt.Errorf("--time %v: allowed are 100ms to 60s", o.span)
	case o.tick < time.Microsecond || o.tick > time.Duration(packetTime):
		return nil, node, fmt.Errorf("--tick %v: allowed are 1us to 20ms", o.tick)
	case o.pid <= 0:
		return nil, node, errors.New("--pid: which process is the proxy?")
	}
	l := &load{scenario: s, host: host, tick: int64(o.tick)}
	if l.meter, err = meter.New(o.pid, o.core); err != nil {
		return nil, node, err
	}
	if l.callerFrames, err = s.codec.frames(); err != nil {
		return nil, node, err
	}
	l.calledFrames, err = pcmu.frames()
	return l, node, err
}
