package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"rtcedge/bench/lab"
)

// The machines of F18: each farm node and recovery have a network namespace of their own, on a bridge; edge, media, bridge role, store and phones
// are on the machine that the bench runs on.
var (
	hub     = netip.MustParseAddr("10.77.0.10")
	watcher = netip.MustParseAddr("10.77.0.90")
)

const farmNet = "10.77.0.11-10.77.0.19"

// machine is the namespace of a part; "" is here.
func machine(name string) string {
	switch {
	case strings.HasPrefix(name, "call"), strings.HasPrefix(name, "conference"), strings.HasPrefix(name, "registrar"), name == "recovery":
		return fmt.Sprintf("crash%d-%s", os.Getpid(), name)
	}
	return ""
}

// inside is a command line in a namespace.
func inside(space string, argv ...string) []string {
	if space == "" {
		return argv
	}
	return append([]string{"ip", "netns", "exec", space}, argv...)
}

func sh(argv ...string) error {
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// machines makes the namespaces.
func machines(c *lab.Config) (func(), error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("F18 needs root, for network namespaces")
	}
	// An address of its own: the kernel would take one of the ports', and another one when the ports change, which everybody's ARP learns late.
	if err := sh("ip", "link", "add", "crash0", "address", "02:00:0a:4d:00:0a", "type", "bridge"); err != nil {
		return nil, err
	}
	undo := []func(){func() { _ = sh("ip", "link", "del", "crash0") }}
	all := func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	steps := [][]string{{"ip", "addr", "add", hub.String() + "/24", "dev", "crash0"}, {"ip", "link", "set", "crash0", "up"}}
	for i, name := range []string{"call1", "call2", "conference1", "conference2", "registrar1", "recovery"} {
		space, port := machine(name), fmt.Sprintf("crash%d", i+1)
		addr := map[string]string{"call1": "10.77.0.11", "conference1": "10.77.0.12", "registrar1": "10.77.0.13", "call2": "10.77.0.14", "conference2": "10.77.0.15",
			"recovery": watcher.String()}[name]
		steps = append(steps, []string{"ip", "netns", "add", space},
			[]string{"ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space},
			[]string{"ip", "link", "set", port, "master", "crash0", "up"},
			inside(space, "ip", "addr", "add", addr+"/24", "dev", "eth0"), inside(space, "ip", "link", "set", "eth0", "up"), inside(space, "ip", "link", "set", "lo", "up"))
		undo = append(undo, func() { _ = errors.Join(sh("ip", "link", "del", port), sh("ip", "netns", "del", space)) }) // a namespace takes its time to end its links
	}
	for _, s := range steps {
		if err := sh(s...); err != nil {
			all()
			return nil, err
		}
	}
	c.Inside, c.Watch, c.NoPIDFiles = hub, watcher, true
	c.Recovery = append(c.Recovery, "--capture-from", hub.String()+"/24")
	c.Bridge = append(c.Bridge, "--api", "127.0.0.1:8090") // elsewhere it wants a token
	c.Enter = func(name string) []string { return inside(machine(name)) }
	return all, nil
}

// cut drops packets between a namespace and addresses: in, out, both, or a percentage of both. heal undoes it.
func cut(space, addresses, way string, percent int) (heal func() error, err error) {
	some := ""
	if percent < 100 {
		some = fmt.Sprintf("numgen random mod 100 < %d ", percent)
	}
	rules := "table inet crashcut {\n"
	if way != "out" {
		rules += fmt.Sprintf("chain i { type filter hook input priority 0; ip saddr %s %sdrop; }\n", addresses, some)
	}
	if way != "in" {
		rules += fmt.Sprintf("chain o { type filter hook output priority 0; ip daddr %s %sdrop; }\n", addresses, some)
	}
	cmd := exec.Command("nft", "-f", "-")
	if space != "" {
		argv := inside(space, "nft", "-f", "-")
		cmd = exec.Command(argv[0], argv[1:]...)
	}
	cmd.Stdin = strings.NewReader(rules + "}\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("nft: %w: %s", err, out)
	}
	return func() error { return sh(inside(space, "nft", "delete", "table", "inet", "crashcut")...) }, nil
}

// partition is F18.
func partition(ctx context.Context, l *bench) error {
	pairs, err := l.Pairs(ctx, min(l.cfg.calls, 20))
	if err != nil {
		return err
	}
	n, _, err := l.struck("call", l.Legs)
	if err != nil {
		return err
	}
	space := machine("recovery")
	one := n.SIP.Addr().String()
	cases := []struct {
		name             string
		space, addresses string
		way              string
		percent          int
		time             time.Duration
		media            bool // the calls' audio is cut, too
	}{
		{"recovery and all farms, both ways", space, farmNet, "both", 100, time.Second, false},
		{"recovery and all farms, both ways", space, farmNet, "both", 100, 5 * time.Second, false},
		{"what recovery sends to the farms", space, farmNet, "out", 100, 5 * time.Second, false},
		{"what the farms send to recovery", space, farmNet, "in", 100, 5 * time.Second, false},
		{"recovery and the node of the calls", space, one, "both", 100, time.Second, false},
		{"5 % between recovery and the farms", space, farmNet, "both", 5, 10 * time.Second, false},
		{"20 % between recovery and the farms", space, farmNet, "both", 20, 10 * time.Second, false},
		{"edge and all farms, both ways", "", farmNet, "both", 100, time.Second, true},
		{"edge and all farms, both ways", "", farmNet, "both", 100, 5 * time.Second, true},
		{"recovery and all farms, both ways", space, farmNet, "both", 100, 30 * time.Second, false},
	}
	var errs []error
	for _, c := range cases {
		l.Mark()
		heal, err := cut(c.space, c.addresses, c.way, c.percent)
		if err != nil {
			return err
		}
		began := time.Now()
		lab.Sleep(ctx, c.time)
		err = heal()
		took := time.Since(began)
		lab.Sleep(ctx, 3*time.Second)
		err = errors.Join(err, l.Undisturbed())
		longest := time.Duration(0)
		for _, p := range l.Legs {
			longest = max(longest, p.Media().Heard().Longest)
		}
		crashes, err2 := l.Crashes(0)
		moved := 0
		for _, crash := range crashes {
			if crash.Detected.After(began) {
				for _, leg := range crash.Legs {
					if leg.Result == "recovered" {
						moved++
					}
				}
			}
		}
		if err = errors.Join(err, err2); moved > 0 {
			err = errors.Join(err, fmt.Errorf("%d legs were recovered that had lost nothing", moved))
		}
		l.Printf("%-38s cut for %4.1f s: %d of %d phones hear on, longest silence %d ms, legs moved %d", c.name, took.Seconds(), l.hearing(), len(l.Legs),
			longest.Milliseconds(), moved)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s for %v: %w", c.name, c.time, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return l.FarewellBoth(ctx, pairs)
}

// hearing counts the phones that hear their far end now.
func (l *bench) hearing() (n int) {
	for _, p := range l.Legs {
		if time.Since(p.Media().Heard().Last) < time.Second {
			n++
		}
	}
	return n
}

// nodeCutOff takes a node away from everybody for 5 s, and lets it come back alive: its calls have one owner, which is another node.
func nodeCutOff(ctx context.Context, l *bench) error {
	pairs, err := l.Pairs(ctx, min(l.cfg.calls, 20))
	if err != nil {
		return err
	}
	n, legs, err := l.struck("call", l.Legs)
	if err != nil {
		return err
	}
	l.Mark()
	port := map[string]string{"call1": "crash1", "call2": "crash2"}[n.ID]
	at := time.Now()
	if err := sh("ip", "link", "set", port, "down"); err != nil {
		return err
	}
	lab.Sleep(ctx, 5*time.Second)
	if err := sh("ip", "link", "set", port, "up"); err != nil {
		return err
	}
	l.Printf("%s was cut off from everybody for 5 s and is back with all its calls:", n.ID)
	o, err := l.settle(ctx, legs, at, 10*time.Second)
	if err != nil {
		return err
	}
	lab.Sleep(ctx, 3*time.Second) // it finds out, and is rid of them behind the fence
	err = o.Judge(lab.Goal{})
	if o.Again > 0 {
		err = errors.Join(err, fmt.Errorf("%d re-INVITEs beside the first: more than one owner", o.Again))
	}
	for _, p := range l.Legs {
		if s := p.Seen(); s.Byes+len(s.Strangers)+len(s.Wrong) > 0 || time.Since(p.Media().Heard().Last) > time.Second {
			err = errors.Join(err, fmt.Errorf("%s after the return: %+v", p.Name, s))
		}
	}
	if err != nil {
		return err
	}
	return l.FarewellBoth(ctx, pairs)
}
