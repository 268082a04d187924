package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the SIP stack's, of retransmissions
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "farmload:", err)
		os.Exit(1)
	}
}

// table is the output: what was done in between, and the rows at the end.
type table struct {
	out  io.Writer
	rows [][2]string
}

// raw is a line of what the rows are made of.
func (t *table) raw(format string, args ...any) { fmt.Fprintf(t.out, "# "+format+"\n", args...) }

// row takes the arguments of both formats, what's first.
func (t *table) row(what, found string, args ...any) {
	n := strings.Count(what, "%")
	r := [2]string{fmt.Sprintf(what, args[:n]...), fmt.Sprintf(found, args[n:]...)}
	t.rows = append(t.rows, r)
	t.raw("%s: %s", r[0], r[1])
}

func (t *table) print() {
	fmt.Fprintf(t.out, "\n| what | figure |\n|---|---|\n")
	for _, r := range t.rows {
		fmt.Fprintf(t.out, "| %s | %s |\n", r[0], r[1])
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	f := flag.NewFlagSet("farmload", flag.ContinueOnError)
	root := f.String("root", ".", "the checkout")
	binary := f.String("binary", "bin/rtcedge", "rtcedge")
	dir := f.String("dir", "", "folder for configurations and logs; none: a temporary one that is removed at the end")
	calls := f.Int("calls", 300, "calls of the post-dial delay")
	perSecond := f.Int("rate", 20, "of them in a second")
	thirds := f.Int("thirds", 5, "times that a third party joins")
	killed := f.Int("killed", 50, "calls while the bridge is killed")
	room := f.Int("room", 100, "participants of the conference")
	long := f.Duration("long", time.Minute, "how long the conference is measured")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if *binary, err = filepath.Abs(*binary); err != nil {
		return err
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "farmload-"); err != nil {
			return err
		}
		defer os.RemoveAll(*dir)
	}
	t := &table{out: out}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	t.raw("%s, %d processors, load average %s", time.Now().UTC().Format("2006-01-02 15:04 UTC"), runtime.NumCPU(), strings.TrimSpace(string(load)))
	s, err := startSystem(ctx, *root, *binary, *dir)
	if err != nil {
		return err
	}
	defer s.stop()
	t.raw("%d Asterisks %s, edge, media, two bridges, store: up", len(s.Nodes), s.Nodes[0].Version)
	if err := s.spare(true); err != nil {
		return err
	}
	errs := []error{
		s.measureCalls(ctx, t, *calls, *perSecond),
		s.measureThird(ctx, t, *thirds),
		s.measureConference(ctx, t, *room, *long),
		s.measureMove(ctx, t, *room),
		s.measureKill(ctx, t, *killed),
	}
	t.print()
	if err := errors.Join(errs...); err != nil {
		for _, p := range s.Processes() {
			t.raw("log of %s: %s", p.Name, p.Log)
		}
		return err
	}
	return nil
}
