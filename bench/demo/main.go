package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
	"github.com/spf13/pflag"
)

// limit bounds the whole demonstration, so that a dead edge ends it with FAIL rows and not with a hang.
const limit = 90 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// sipgo reports closed connections through a logger of its own.
	sipmsg.SetDefaultLogger(slog.New(slog.DiscardHandler))
	code, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	os.Exit(code)
}

// options are the knobs of the command line.
type options struct {
	edge, admin      string
	user, password   string
	accounts         []string
	state, program   string
	local            string
	seconds          time.Duration
	echo, conference string
}

func run(ctx context.Context, args []string, out io.Writer) (int, error) {
	var o options
	f := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	f.StringVar(&o.edge, "edge", "", "SIP address of the edge, IP:PORT (default: a running `rtcedge up`, or one that is started)")
	f.StringVar(&o.admin, "admin", "", "admin port that lists the calls' codecs, IP:PORT; with --edge only; several with commas")
	f.StringVar(&o.user, "user", "", "user of the first account, with --edge")
	f.StringVar(&o.password, "password", "", "its password")
	f.StringArrayVar(&o.accounts, "account", nil, "USER:PASSWORD of a further account, with --edge; repeatable")
	f.StringVar(&o.state, "state-file", defaultStateFile(), "state file of a running `rtcedge up`")
	f.StringVar(&o.program, "rtcedge", "bin/rtcedge", "program that is started if no edge runs")
	f.StringVar(&o.local, "local-ip", "127.0.0.1", "address of the phones")
	f.DurationVar(&o.seconds, "talk", 4*time.Second, "length of each call")
	f.StringVar(&o.echo, "echo", "600", "number of the echo")
	f.StringVar(&o.conference, "conference", "7000", "number of a conference")
	if err := f.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return 0, nil
	} else if err != nil {
		return 2, err
	}
	local, err := netip.ParseAddr(o.local)
	if err != nil {
		return 2, fmt.Errorf("--local-ip: %w", err)
	}
	if o.seconds < 2*time.Second || o.seconds > 30*time.Second {
		return 2, fmt.Errorf("--talk %v: allowed are 2s to 30s", o.seconds)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	e, err := findEdge(ctx, o, out)
	if err != nil {
		return 1, err
	}
	rows := demonstrate(ctx, plan{edge: e, local: local, talk: o.seconds, echo: o.echo, conference: o.conference})
	printTable(out, rows)
	code := 0
	if failed := count(rows, fail); failed > 0 {
		fmt.Fprintf(out, "\n%d of %d rows FAIL\n", failed, len(rows))
		code = 1
	} else {
		fmt.Fprintf(out, "\nall %d rows PASS%s\n", len(rows)-count(rows, skip), skippedNote(rows))
	}
	if err := e.close(); err != nil {
		return 1, err
	}
	return code, nil
}

func skippedNote(rows []row) string {
	if n := count(rows, skip); n > 0 {
		return fmt.Sprintf(", %d SKIP", n)
	}
	return ""
}

// splitAccount takes USER:PASSWORD apart.
func splitAccount(s string) (account, error) {
	user, password, ok := strings.Cut(s, ":")
	if !ok || user == "" || password == "" {
		return account{}, fmt.Errorf("--account %q: want USER:PASSWORD", s)
	}
	return account{User: user, Password: password}, nil
}
