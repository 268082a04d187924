// Command rtcedge is the edge of real-time voice: a role per process, or all of them in one (`rtcedge up`). This package only
// wires: each role's file reads top to bottom, from its knobs to the order in which its parts start and end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"rtcedge/internal/config"
)

// Exit codes: scripts and supervisors rely on them.
const (
	exitOK    = 0
	exitError = 1 // it ran and failed
	exitUsage = 2 // bad configuration: nothing was started
)

// version is stamped by the Makefile; a plain `go install` leaves the module's version from the build info.
var version string

// env is what a command sees of the outside.
type env struct {
	ctx    context.Context // ends with the first SIGINT or SIGTERM
	args   []string
	out    io.Writer
	err    io.Writer
	getenv func(string) string
	log    *slog.Logger
	level  *slog.LevelVar
}

type command struct {
	name, help string
	run        func(*env) error
}

func commands() []command {
	return []command{
		{"up", "everything in one process with embedded defaults: edge, media, farm", runUp},
		{"sip", "the stateless SIP edge proxy", runSIP},
		{"media", "the media proxy, driven by rtpengine's NG protocol", runMedia},
		{"farm", "the embedded farm: calls, conferences and registrations without Asterisk; farm list|drain|up|fence: the nodes of a running edge, or with --api of a bridge", runFarm},
		{"asterisk-config", "write the configuration of an Asterisk as call, conference or registrar farm", runAsteriskConfig},
		{"bridge", "one control of calls and conferences over the farms, with an HTTP API", runBridge},
		{"recovery", "bring the calls of a farm node that dies back on another one", runRecovery},
		{"crashes", "which farm nodes died and what became of their calls, from the admin port; crashes NODE, or CRASH, or --call TEXT: every leg", runCrashes},
		{"check", "check a configuration file and start nothing", runCheck},
		{"status", "what a running process does, from its admin port", runStatus},
		{"calls", "the calls of a running process, from its admin port; with --api those of all bridge processes", runCalls},
		{"conferences", "the conferences of a bridge", bridgeCommand("conferences")},
		{"hangup", "end a call, or a conference for all: hangup CALL", bridgeCommand("hangup")},
		{"kick", "hang a participant up: kick CALL LEG", bridgeCommand("kick")},
		{"mute", "mute a participant, or all but moderators: mute CALL [LEG] [--off]", bridgeCommand("mute")},
		{"record", "record a call or a participant, or stop it: record CALL [LEG] [--off]", bridgeCommand("record")},
		{"drain", "tell a running process to take no new calls", runDrain},
		{"reload", "let a running edge read its configuration again, as SIGHUP does", runReload},
		{"version", "the version", runVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends at once: the default action is back as soon as the first one has come.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// errUsage marks errors of configuration, which end with exit code 2.
type errUsage struct{ error }

func (e errUsage) Unwrap() error { return e.error }

func usage(err error) error {
	if err == nil || errors.Is(err, config.ErrHelp) {
		return err
	}
	return errUsage{err}
}

func run(ctx context.Context, args []string, out, errOut io.Writer, getenv func(string) string) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		printCommands(out)
		if len(args) == 0 {
			return exitUsage
		}
		return exitOK
	}
	level := new(slog.LevelVar)
	e := &env{ctx: ctx, args: args[1:], out: out, err: errOut, getenv: getenv, level: level,
		log: slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level}))}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(e)
		var bad errUsage
		switch {
		case err == nil, errors.Is(err, config.ErrHelp):
			return exitOK
		case errors.As(err, &bad):
			fmt.Fprintf(errOut, "rtcedge: %v\n", err)
			return exitUsage
		default:
			fmt.Fprintf(errOut, "rtcedge: %v\n", err)
			return exitError
		}
	}
	fmt.Fprintf(errOut, "rtcedge: unknown command %q (allowed:", args[0])
	for _, c := range commands() {
		fmt.Fprintf(errOut, " %s", c.name)
	}
	fmt.Fprintln(errOut, ")")
	return exitUsage
}

func printCommands(out io.Writer) {
	fmt.Fprint(out, "usage: rtcedge ROLE [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "  %-15s %s\n", c.name, c.help)
	}
	fmt.Fprint(out, "\n`rtcedge ROLE --help` lists every knob with unit and default.\n")
}

func runVersion(e *env) error {
	fmt.Fprintln(e.out, "rtcedge", versionText())
	return nil
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
