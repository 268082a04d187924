package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// config is what the flags say.
type config struct {
	root, binary, modules, dir string
	calls                      int
	room                       int
	call, conference           int
	recovery                   bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	var cfg config
	f := flag.NewFlagSet("crash", flag.ContinueOnError)
	f.StringVar(&cfg.root, "root", ".", "the checkout")
	f.StringVar(&cfg.binary, "binary", "bin/rtcedge", "rtcedge")
	f.StringVar(&cfg.modules, "modules", "", "module directory of asterisk-patch/build.sh; none: it is built")
	f.StringVar(&cfg.dir, "dir", "", "folder for configurations and logs; none: a temporary one that is removed at the end")
	f.IntVar(&cfg.calls, "calls", 100, "1:1 calls; each has two dialogs with the farm")
	f.IntVar(&cfg.room, "room", 50, "participants of the conference")
	f.BoolVar(&cfg.recovery, "recovery", true, "run rtcedge recovery; without it the scenarios show what is lost")
	only := f.String("run", "demo", "scenarios, with commas: "+strings.Join(names(), ", ")+", or all (without demo)")
	if err := f.Parse(args); err != nil {
		return err
	}
	var todo []scenario
	for name := range strings.SplitSeq(*only, ",") {
		for _, s := range scenarios {
			if s.name == name || name == "all" && s.name != "demo" {
				todo = append(todo, s)
			}
		}
	}
	if len(todo) == 0 {
		return fmt.Errorf("-run %s: no such scenario (allowed: %s, all)", *only, strings.Join(names(), ", "))
	}
	var err error
	if cfg.binary, err = filepath.Abs(cfg.binary); err != nil {
		return err
	}
	if cfg.modules == "" {
		if cfg.modules, err = build(ctx, cfg.root); err != nil {
			return err
		}
	}
	if cfg.dir == "" {
		if cfg.dir, err = os.MkdirTemp("", "crash-"); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.dir)
	}
	var missed []error
	for i, s := range todo {
		if err := s.play(ctx, out, cfg, i); err != nil {
			missed = append(missed, fmt.Errorf("%s: %w", s.name, err))
			fmt.Fprintf(out, "%s: MISSED: %v\n", s.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(missed...)
}

// build makes the module directory of the patch.
func build(ctx context.Context, root string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", filepath.Join(root, "asterisk-patch", "build.sh"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asterisk-patch/build.sh: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// scenario is one strike with its goal.
type scenario struct {
	name, about string
	nodes       [2]int // call and conference
	strike      func(ctx context.Context, l *lab) error
}

func names() []string {
	var n []string
	for _, s := range scenarios {
		n = append(n, s.name)
	}
	return n
}

// play runs a scenario in a system of its own.
func (s scenario) play(ctx context.Context, out io.Writer, cfg config, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cfg.call, cfg.conference = s.nodes[0], s.nodes[1]
	cfg.dir = filepath.Join(cfg.dir, fmt.Sprintf("%d-%s", i, s.name))
	if err := os.MkdirAll(cfg.dir, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n== %s: %s\n", s.name, s.about)
	run, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer end()
	l, err := start(run, &all, out, cfg)
	if l != nil {
		defer l.stop()
	}
	if err != nil {
		return err
	}
	if err := s.strike(ctx, l); err != nil {
		return errors.Join(err, l.lastWords(filepath.Join(cfg.dir, "recovery.log")))
	}
	return nil
}

// lastWords is the end of a log, for a scenario that failed.
func (l *lab) lastWords(log string) error {
	b, err := os.ReadFile(log)
	if err != nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return errors.New("recovery said:\n" + strings.Join(slices.Clone(lines[max(0, len(lines)-12):]), "\n"))
}
