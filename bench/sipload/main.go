//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"rtcedge/bench/meter"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sipload:", err)
	}
	os.Exit(code)
}

// options are the knobs of the command line.
type options struct {
	scenario       string
	proxy, via     string
	phones         string
	farm           string
	clients, nodes int
	rate           float64
	span           time.Duration
	max            bool
	pid, core      int
	domain, realm  string
	password       string
	users          int
	profile        string
}

// The scenarios. A registration goes over UDP.
const (
	udpCall  = "udp-call"
	tcpCall  = "tcp-call"
	wsCall   = "ws-call"
	register = "register-digest"
)

func run(args []string, out io.Writer) (int, error) {
	var o options
	f := pflag.NewFlagSet("sipload", pflag.ContinueOnError)
	f.StringVar(&o.scenario, "scenario", udpCall, "udp-call, tcp-call, ws-call or register-digest")
	f.StringVar(&o.proxy, "proxy", "127.0.0.1:5060", "UDP address of the proxy, as the farm sees it, IP:PORT")
	f.StringVar(&o.via, "via", "", "address of the proxy for the phones, IP:PORT (default: --proxy); WebSocket path is /ws")
	f.StringVar(&o.phones, "phones", "127.0.0.2", "loopback address of the phones")
	f.StringVar(&o.farm, "farm", "127.0.0.11:5080", "address of the first farm node; the others have the next addresses and the same port")
	f.IntVar(&o.clients, "clients", 4, "sockets or connections of the phones, 1 to 1000")
	f.IntVar(&o.nodes, "nodes", 3, "farm nodes, 1 to 16")
	f.Float64Var(&o.rate, "rate", 20000, "messages per second that shall come out of the proxy; with --max: where the search begins")
	f.DurationVar(&o.span, "time", 4*time.Second, "for which calls are started, 100ms to 60s")
	f.BoolVar(&o.max, "max", false, "search for the greatest rate below 0.1 % loss; --time is that of each run")
	f.IntVar(&o.pid, "pid", 0, "process of the proxy, whose processor time is measured; 0: not measured")
	f.IntVar(&o.core, "core", -1, "core that the proxy is pinned to; its softirq thread counts too; -1: none")
	f.StringVar(&o.domain, "domain", "bench.invalid", "SIP domain")
	f.StringVar(&o.realm, "realm", "bench.invalid", "digest realm")
	f.StringVar(&o.password, "password", "secret", "password of all accounts u00000, u00001, ...")
	f.IntVar(&o.users, "users", 1000, "accounts, 1 to 100000")
	f.StringVar(&o.profile, "cpuprofile", "", "file for a profile of sipload itself")
	if err := f.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return 0, nil
	} else if err != nil {
		return 2, err
	}
	if err := o.check(); err != nil {
		return 2, err
	}
	l, err := o.open()
	if err != nil {
		return 1, err
	}
	defer l.close()
	if err := l.warmUp(10 * time.Second); err != nil {
		return 1, err
	}
	if o.profile != "" {
		w, err := os.Create(o.profile)
		if err != nil {
			return 1, err
		}
		defer w.Close()
		if err := pprof.StartCPUProfile(w); err != nil {
			return 1, err
		}
		defer pprof.StopCPUProfile()
	}
	// The loop never sleeps; the collector would only take turns with it.
	runtime.LockOSThread()
	if o.max {
		fmt.Fprintf(out, "%s max %s\n", o.scenario, l.search(out, o.scenario, o.rate, o.span))
		return 0, nil
	}
	fmt.Fprintf(out, "%s run %s\n", o.scenario, l.offer(o.rate, o.span))
	return 0, nil
}

func (o *options) check() error {
	switch {
	case o.scenario != udpCall && o.scenario != tcpCall && o.scenario != wsCall && o.scenario != register:
		return fmt.Errorf("--scenario %q: allowed are udp-call, tcp-call, ws-call, register-digest", o.scenario)
	case o.clients < 1 || o.clients > 1000:
		return fmt.Errorf("--clients %d: allowed are 1 to 1000", o.clients)
	case o.nodes < 1 || o.nodes > 16:
		return fmt.Errorf("--nodes %d: allowed are 1 to 16", o.nodes)
	case o.users < 1 || o.users > 100000:
		return fmt.Errorf("--users %d: allowed are 1 to 100000", o.users)
	case o.rate < 10 || o.rate > 2e6:
		return fmt.Errorf("--rate %v: allowed are 10 to 2000000", o.rate)
	case o.span < 100*time.Millisecond || o.span > time.Minute:
		return fmt.Errorf("--time %v: allowed are 100ms to 60s", o.span)
	}
	return nil
}

// open opens all sockets. Only loopback addresses are accepted: this is a flood.
func (o *options) open() (l *load, err error) {
	if o.via == "" {
		o.via = o.proxy
	}
	var proxy, via, farm netip.AddrPort
	for _, a := range []struct {
		name, text string
		to         *netip.AddrPort
	}{{"--proxy", o.proxy, &proxy}, {"--via", o.via, &via}, {"--farm", o.farm, &farm}} {
		if *a.to, err = netip.ParseAddrPort(a.text); err != nil || !a.to.Addr().Is4() || !a.to.Addr().IsLoopback() {
			return nil, fmt.Errorf("%s %q: allowed is 127.x.y.z:PORT", a.name, a.text)
		}
	}
	phones, err := netip.ParseAddr(o.phones)
	if err != nil || !phones.Is4() || !phones.IsLoopback() {
		return nil, fmt.Errorf("--phones %q: allowed is 127.x.y.z", o.phones)
	}
	l = &load{domain: o.domain, registers: o.scenario == register, users: o.users, digest: newDigest(o.realm, o.password, o.domain, o.users)}
	if l.meter, err = meter.New(o.pid, o.core); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for i := range o.nodes {
		s, err := openUDP(nodeAddr(farm, i), proxy)
		if err != nil {
			return nil, err
		}
		l.nodes = append(l.nodes, newNode(l, s))
	}
	if o.scenario == tcpCall || o.scenario == wsCall {
		return l, l.openStreams(o, phones, via)
	}
	for range o.clients {
		s, err := openUDP(netip.AddrPortFrom(phones, 0), via)
		if err != nil {
			return nil, err
		}
		l.phones = append(l.phones, newPhone(l, s, "udp", s.local))
	}
	return l, nil
}

func (l *load) openStreams(o *options, phones netip.Addr, via netip.AddrPort) error {
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	for i := range o.clients {
		s, err := openStream(phones, via, o.scenario == wsCall)
		if err != nil {
			return err
		}
		proto := "tcp"
		if s.ws {
			proto = "ws"
		}
		l.streams = append(l.streams, s)
		l.phones = append(l.phones, newPhone(l, s, proto, s.local))
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)} // Fd is data for us: the phone's place
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &ev); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}
