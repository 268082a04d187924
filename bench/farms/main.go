// Command farms runs the whole system with real Asterisk farms for trying out: `make farms`. It prints what to dial and ends everything
// on Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"rtcedge/e2e/farms"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "farms:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	f := flag.NewFlagSet("farms", flag.ContinueOnError)
	binary := f.String("binary", "bin/rtcedge", "rtcedge")
	nodes := f.Int("nodes", 3, "real Asterisks: 3, or 5 with a second call and a second conference node")
	public := f.String("public", "127.0.0.1", "address that phones use, port 5060")
	inside := f.String("inside", "127.0.0.10", "address of the edge towards the farms; the nodes are .11, .12, .13 and so on")
	bridge := f.Bool("bridge", true, "run the bridge; without it 600 is Asterisk's own echo and users cannot call each other")
	dir := f.String("dir", "", "folder for configurations and logs; none: a temporary one that is removed at the end")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *nodes != 3 && *nodes != 5 {
		return fmt.Errorf("-nodes %d (allowed: 3, 5)", *nodes)
	}
	cfg := farms.Config{Root: ".", Dir: *dir, Call: *nodes / 2, Conference: *nodes / 2, Registrar: 1}
	var errs [3]error
	cfg.Binary, errs[0] = filepath.Abs(*binary)
	cfg.Public, errs[1] = netip.ParseAddr(*public)
	cfg.Inside, errs[2] = netip.ParseAddr(*inside)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if cfg.Dir == "" {
		var err error
		if cfg.Dir, err = os.MkdirTemp("", "farms-"); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.Dir)
	}
	if *bridge {
		if !hasRole(cfg.Binary, "bridge") {
			fmt.Fprintln(out, "this build has no bridge role: echo and music only")
		} else {
			cfg.Bridge = []string{}
		}
	}
	fmt.Fprintln(out, "starting", *nodes, "Asterisks, media, edge and bridge ...")
	s, err := farms.Start(cfg)
	if err != nil {
		return err
	}
	defer s.Stop()
	describe(out, s)
	ended := make(chan string, 1)
	for _, p := range s.Processes() {
		go func() {
			<-p.Done()
			select {
			case ended <- p.Name:
			default:
			}
		}()
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nending")
		return nil
	case name := <-ended:
		return fmt.Errorf("%s ended by itself", name)
	}
}

func hasRole(binary, role string) bool {
	help, err := exec.Command(binary, "help").Output()
	return err == nil && strings.Contains(string(help), "\n  "+role+" ")
}

func describe(out io.Writer, s *farms.System) {
	fmt.Fprintf(out, "\nSIP      %s udp and tcp: registrar, proxy and domain of the phones, which are on this machine unless -public says otherwise\n", s.SIP())
	fmt.Fprintln(out, "accounts (user password)")
	for _, a := range s.Accounts {
		fmt.Fprintf(out, "  %s %s\n", a.User, a.Password)
	}
	fmt.Fprintln(out, "dial     600 echo, 601 music; with the bridge also 7000-7999 conferences and the users above")
	for _, n := range s.Nodes {
		fmt.Fprintf(out, "%-12s Asterisk %s, SIP %s, ARI %s, pid %d, folder %s\n", n.ID, n.Version, n.SIP, n.ARI, n.PID(), n.Dir)
	}
	for _, part := range []string{"sip", "media", "bridge"} {
		if part != "bridge" || s.BridgeP != nil {
			fmt.Fprintf(out, "%-12s admin http://%s\n", part, s.Admin(part))
		}
	}
	if s.BridgeP != nil {
		fmt.Fprintf(out, "API          http://%s\n", s.API())
		fmt.Fprintf(out, "commands     %[1]s calls --api %[2]s: a line for each leg, with the CALL and LEG that the others want\n", s.Binary, s.API())
		fmt.Fprintln(out, "             conferences, hangup CALL, kick CALL LEG, mute CALL LEG [--off], record CALL [LEG] [--off], farm list: each with --api")
		// Token and whatever else the bridge says at its start.
		fmt.Fprintf(out, "%s\n", strings.TrimSpace(s.BridgeP.Output()))
	}
	fmt.Fprintf(out, "logs         %s/*.log\n\nCtrl-C ends everything.\n", s.Dir)
}
