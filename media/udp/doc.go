// Package udp is the socket layer of RTP: many UDP ports on one goroutine, no allocation per packet.
//
// It is not a net.PacketConn and has no deadlines, errors with text or contexts on the packet path: a datagram is lent
// to a Receiver, which changes it in place and writes it out through another socket of the same loop.
//
// # A datagram, in steps
//
//  1. Loop.Listen opens a socket (raw descriptor, non-blocking, buffer and traffic class set) and puts it in a slot.
//  2. Loop.Run waits in epoll; each event carries its slot. One recvfrom per event: RTP sockets hold one packet at a
//     time, a second read that says EAGAIN would cost more than it finds.
//  3. The Receiver of the slot gets the packet: bytes, source, time of arrival. The buffer has Tailroom behind it.
//  4. Conn.WriteTo sends at once. A full send buffer is a dropped packet, as on every UDP path.
//
// Everything on a loop (Receive, Tick, functions given to Do) runs on one goroutine at a time. Sockets are closed there
// too (Loop.Close), because a descriptor closed elsewhere could be reused while an event for it is still in hand.
//
// # Steered ports
//
// With a Steering (media/xdp) the ports of its range have no socket. One socket per loop gets the packets of all of them, 64 with one
// recvmmsg, each with the port that it was sent to; what goes out is collected and leaves from one raw socket per local address with
// one sendmmsg, at the latest after half a millisecond. The Receiver sees no difference. The files steered and outbatch
// hold this in the order of a packet's way. What is different:
//
//   - The kernel does not hold the ports. Listen asks it, ten times a second at most, which ones others have; one that binds a port
//     later gets nothing while a call has it. An operator reserves the range (net.ipv4.ip_local_reserved_ports).
//   - One receive buffer is common to the ports of a loop.
//
// Two implementations stand behind the same types: Linux system calls (_linux.go files) and the net package's AddrPort
// methods, which run everywhere and which the conformance test compares with. Listen and ListenPair open sockets with
// blocking reads for those who serve a few ports with a goroutine each.
//
// Sockets are not connected after the source is learnt. connect(2) saves about a tenth of the cost per packet, but the
// kernel then hides every other source: a client behind a NAT that rebinds would be deaf until the next re-INVITE, and
// an attacker's packets could not be counted.
package udp
