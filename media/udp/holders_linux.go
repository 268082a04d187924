package udp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chosen by us: steered ports are looked up in what the kernel said at most so long ago. To bind a port and close it again, as a check of
// the moment, cost a tenth of a call's set-up, and the list takes a millisecond. It is about who lives in the range: one who comes later
// than the port was taken is never seen.
const holdersFresh = time.Second

// holders knows which ports of a range have a socket, of whatever process, from the kernel's list (sock_diag(7)).
type holders struct {
	portMin, portMax uint16

	mu    sync.Mutex // guards what follows
	asked time.Time
	held  []netip.AddrPort
	ports [1 << 16 / 64]uint64 // a bit for each port in held: where parties of calls are on the same machine there are many
}

// holds tells if a socket of any process is bound to the port at this address or at all addresses. An error says that the kernel cannot
// be asked.
func (h *holders) holds(a netip.AddrPort, now time.Time) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked.IsZero() || now.Sub(h.asked) >= holdersFresh || now.Before(h.asked) {
		held, err := h.ask(h.held[:0])
		h.held = held
		if err != nil { // for want of a descriptor, say: the next call asks again
			h.asked = time.Time{}
			return false, err
		}
		h.asked = now
		clear(h.ports[:])
		for _, o := range h.held {
			h.ports[o.Port()/64] |= 1 << (o.Port() % 64)
		}
	}
	return h.ports[a.Port()/64]&(1<<(a.Port()%64)) != 0 && slices.ContainsFunc(h.held, func(o netip.AddrPort) bool {
		return o.Port() == a.Port() && (o.Addr() == a.Addr() || o.Addr().IsUnspecified())
	}), nil
}

// Fixed by the kernel: linux/sock_diag.h, linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	diagBytecode     = 1 // INET_DIAG_REQ_BYTECODE
	diagAtLeast      = 2 // INET_DIAG_BC_S_GE: on the local port
	diagAtMost       = 3 // INET_DIAG_BC_S_LE
	diagRequest      = 56
	diagPort         = 4 // offsets in struct inet_diag_msg
	diagAddr         = 8
)

// ask reads the UDP sockets of both families in the range.
func (h *holders) ask(into []netip.AddrPort) ([]netip.AddrPort, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return into, err
	}
	defer unix.Close(fd)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := unix.Sendto(fd, h.question(family), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return into, err
		}
		if into, err = readHolders(fd, into); err != nil {
			return into, err
		}
	}
	return into, nil
}

// question is a struct nlmsghdr, a struct inet_diag_req_v2 and the program that picks the range.
func (h *holders) question(family uint8) []byte {
	const program = 16
	b := make([]byte, unix.NLMSG_HDRLEN+diagRequest+unix.SizeofNlAttr+program)
	order := binary.NativeEndian
	order.PutUint32(b, uint32(len(b)))
	order.PutUint16(b[4:], sockDiagByFamily)
	order.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	r := b[unix.NLMSG_HDRLEN:]
	r[0], r[1] = family, unix.IPPROTO_UDP
	order.PutUint32(r[4:], ^uint32(0)) // in any state
	a := r[diagRequest:]
	order.PutUint16(a, unix.SizeofNlAttr+program)
	order.PutUint16(a[2:], diagBytecode)
	for i, bound := range []struct {
		code uint8
		port uint16
	}{{diagAtLeast, h.portMin}, {diagAtMost, h.portMax}} {
		// struct inet_diag_bc_op: where to go on if it holds, and if not, which is 4 behind the end; then the operand.
		op := a[unix.SizeofNlAttr+8*i:]
		op[0], op[1] = bound.code, 8
		order.PutUint16(op[2:], uint16(program+4-8*i))
		order.PutUint16(op[6:], bound.port)
	}
	return b
}

var errDiag = errors.New("sock_diag: an answer that is none")

// readHolders reads the answer to a question to its end.
func readHolders(fd int, into []netip.AddrPort) ([]netip.AddrPort, error) {
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return into, err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return into, errDiag
			}
			m := b[unix.NLMSG_HDRLEN:size]
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return into, nil
			case unix.NLMSG_ERROR:
				if len(m) < 4 {
					return into, errDiag
				}
				return into, unix.Errno(-*(*int32)(unsafe.Pointer(&m[0])))
			case sockDiagByFamily:
				if len(m) < diagAddr+16 {
					return into, errDiag
				}
				ip := netip.AddrFrom16([16]byte(m[diagAddr:])).Unmap()
				if m[0] == unix.AF_INET {
					ip = netip.AddrFrom4([4]byte(m[diagAddr:]))
				}
				into = append(into, netip.AddrPortFrom(ip, binary.BigEndian.Uint16(m[diagPort:])))
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
