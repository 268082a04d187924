package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Steer is an attached program with its tables. Set and Clear may be called by any goroutine.
type Steer struct {
	cfg     Config
	table   *ebpf.Map // per address and port: 0, or lane+1
	lanes   *ebpf.Map // sockets
	program *ebpf.Program
	link    *link.NetNsLink
	memory  *ebpf.Memory // of the table, shared with the kernel
	joined  atomic.Int32
}

// New loads the program and attaches it to the network namespace of the calling thread. It needs CAP_BPF and CAP_NET_ADMIN for this,
// CAP_NET_RAW for the sockets that a loop sends by; the error says what is missing.
func New(cfg Config) (*Steer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	// What a loop will need later is tried here, so that there is one place to say no.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("steer: open a raw socket (CAP_NET_RAW): %w", err)
	}
	unix.Close(fd)
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11 maps count as locked memory
		return nil, fmt.Errorf("steer: lift the limit of locked memory: %w", err)
	}
	s := &Steer{cfg: cfg}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Steer) load() error {
	var err error
	if s.table, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "rtcedge_ports", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: uint32(s.cfg.span() * len(s.cfg.Addrs)),
		Flags: unix.BPF_F_MMAPABLE,
	}); err != nil {
		return fmt.Errorf("steer: table of ports (CAP_BPF, Linux 5.9): %w", err)
	}
	if s.memory, err = s.table.Memory(); err != nil {
		return fmt.Errorf("steer: table of ports: %w", err)
	}
	if s.lanes, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "rtcedge_lanes", Type: ebpf.SockMap, KeySize: 4, ValueSize: 8, MaxEntries: uint32(s.cfg.Lanes),
	}); err != nil {
		return fmt.Errorf("steer: table of sockets (CAP_NET_ADMIN): %w", err)
	}
	if s.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "rtcedge_steer", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "MIT",
		Instructions: s.cfg.program(s.table.FD(), s.lanes.FD()),
	}); err != nil {
		return fmt.Errorf("steer: load program (CAP_NET_ADMIN, Linux 5.9): %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("steer: network namespace: %w", err)
	}
	defer ns.Close()
	if s.link, err = link.AttachNetNs(int(ns.Fd()), s.program); err != nil {
		return fmt.Errorf("steer: attach program: %w", err)
	}
	return nil
}

// Join takes a bound UDP socket that packets may be sent to; it returns its lane. A closed socket leaves by itself.
func (s *Steer) Join(fd int) (lane int, err error) {
	n := int(s.joined.Add(1)) - 1
	if n >= s.cfg.Lanes {
		return 0, fmt.Errorf("steer: a loop more than the %d that were announced", s.cfg.Lanes)
	}
	if err := s.lanes.Put(uint32(n), uint64(fd)); err != nil {
		return 0, fmt.Errorf("steer: put the socket of lane %d: %w", n, err)
	}
	return n, nil
}

// Range tells which ports can be set.
func (s *Steer) Range() (addrs []netip.Addr, portMin, portMax uint16) {
	return s.cfg.Addrs, s.cfg.PortMin, s.cfg.PortMax
}

// Set sends the packets of a port to a lane from now on. A port outside the range is left alone.
func (s *Steer) Set(a netip.AddrPort, lane int) { s.write(a, uint32(lane)+1) }

// Clear ends that.
func (s *Steer) Clear(a netip.AddrPort) { s.write(a, 0) }

func (s *Steer) write(a netip.AddrPort, value uint32) {
	if i, ok := s.cfg.place(a); ok {
		b := hostOrder(value)
		_, _ = s.memory.WriteAt(b[:], int64(i)*valueStride) // fails outside the memory only
	}
}

// Close detaches the program. Sockets that have joined stay open, and deaf.
func (s *Steer) Close() error {
	var errs []error
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	if s.program != nil {
		errs = append(errs, s.program.Close())
	}
	for _, m := range []*ebpf.Map{s.lanes, s.table} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
