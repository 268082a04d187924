// Package xdp is the kernel's part of the packet path: what makes media faster where the kernel and our capabilities allow it, and what
// media does without elsewhere.
//
// It knows no calls and no RTP, and it never forwards a packet by itself. Today it holds one layer, steering:
//
//  1. New loads a program of type sk_lookup (Linux 5.9) and attaches it to the network namespace. It is written with
//     cilium/ebpf/asm, so neither a compiler nor headers are needed.
//  2. Each loop of media/udp opens one socket and Joins with it.
//  3. A port that a session takes is Set to the loop of the session: one store into memory that the program reads, no system call.
//  4. For a UDP packet to one of the addresses, with a port of the range that is set, the program picks that loop's socket. All
//     else, also a port that is not set, goes on to the ordinary look-up: ICMP "port unreachable" and other programs' sockets stay as they are.
//  5. Close detaches. So does the end of the process, however it ends: the program lives as long as the link's descriptor.
//
// Connected sockets come before the program (kernel: __udp4_lib_lookup), so an outgoing query of another process that happens to use
// such a port still gets its answer.
//
// IPv6 ports are not steered; they keep a socket each.
package xdp
