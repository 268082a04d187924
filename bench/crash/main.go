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
	"syscall"
	"time"

	"rtcedge/bench/lab"
)

// config is what the flags say.
type config struct {
	lab    lab.Config
	calls  int
	spread bool // over the nodes
	room   int
	strict bool // goals of time are judged
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
	f.StringVar(&cfg.lab.Root, "root", ".", "the checkout")
	f.StringVar(&cfg.lab.Binary, "binary", "bin/rtcedge", "rtcedge")
	f.StringVar(&cfg.lab.Modules, "modules", "", "module directory of asterisk-patch/build.sh; none: it is built")
	f.StringVar(&cfg.lab.Dir, "dir", "", "folder for configurations and logs; none: a temporary one that is removed at the end")
	f.IntVar(&cfg.calls, "calls", 100, "1:1 calls: a caller's and a callee's call with the farm each, so that 100 are 200 dialogs in both roles")
	f.BoolVar(&cfg.spread, "spread", false, "F1, F2 and F3: the calls are spread over the nodes, instead of all on the one that is struck")
	relay := f.Bool("relay", false, "bridge --relay-calls: Asterisk relays calls of two beside its core")
	f.DurationVar(&cfg.lab.Frame, "ptime", 20*time.Millisecond, "audio of a packet of the phones: longer packets leave a small machine more to recover with")
	f.IntVar(&cfg.room, "room", 50, "participants of the conference")
	f.BoolVar(&cfg.lab.NoRecovery, "no-recovery", false, "run no rtcedge recovery: the scenarios show what is lost without")
	f.BoolVar(&cfg.lab.NoPIDFiles, "remote", false, "recovery does not see the processes of the nodes, as if they were other machines")
	f.BoolVar(&cfg.strict, "strict", true, "goals of time are judged where the machine has something to spare; without it only what was lost")
	only := f.String("run", "demo", "scenarios, with commas: "+strings.Join(names(), ", ")+", or all (without demo)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *relay {
		cfg.lab.Bridge = append(cfg.lab.Bridge, "--relay-calls")
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
	if cfg.lab.Binary, err = filepath.Abs(cfg.lab.Binary); err != nil {
		return err
	}
	if cfg.lab.Modules == "" {
		if cfg.lab.Modules, err = build(ctx, cfg.lab.Root); err != nil {
			return err
		}
	}
	if cfg.lab.Dir == "" {
		if cfg.lab.Dir, err = os.MkdirTemp("", "crash-"); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.lab.Dir)
	}
	var missed []error
	for i, s := range todo {
		if err := s.run(ctx, out, cfg, i); err != nil {
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
	change      func(*lab.Config) (undo func(), err error)
	play        func(ctx context.Context, l *bench) error
}

// bench is a lab with what the flags say.
type bench struct {
	*lab.Lab
	cfg  config
	idle float64 // share of the processors before the last strike; see settled
}

func names() []string {
	var n []string
	for _, s := range scenarios {
		n = append(n, s.name)
	}
	return n
}

// run plays a scenario in a system of its own.
func (s scenario) run(ctx context.Context, out io.Writer, cfg config, i int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cfg.lab.Out, cfg.lab.Call, cfg.lab.Conference = out, s.nodes[0], s.nodes[1]
	cfg.lab.Dir = filepath.Join(cfg.lab.Dir, fmt.Sprintf("%d-%s", i, s.name))
	if err := os.MkdirAll(cfg.lab.Dir, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n== %s: %s\n", s.name, s.about)
	if s.change != nil {
		undo, err := s.change(&cfg.lab)
		if err != nil {
			return err
		}
		defer undo()
	}
	l, err := lab.Start(ctx, cfg.lab)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	if err := s.play(ctx, &bench{l, cfg, -1}); err != nil {
		for i, loss := range l.Losses() {
			if i < 10 {
				l.Printf("%s", loss)
			}
		}
		return errors.Join(err, lastWords(filepath.Join(cfg.lab.Dir, "recovery.log")))
	}
	return nil
}

// lastWords is the end of a log, for a scenario that failed.
func lastWords(log string) error {
	b, err := os.ReadFile(log)
	if err != nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return errors.New("recovery said:\n" + strings.Join(slices.Clone(lines[max(0, len(lines)-12):]), "\n"))
}
