// Package simnet is a network in memory for tests in virtual time: hosts with net.PacketConn sockets, joined by one net with
// delay, jitter and loss, some of them behind a NAT. It is no model of congestion or of TCP.
//
// A datagram's way:
//
//  1. WriteTo copies it and, for a host behind a NAT, gives it the public address of its mapping (nat.go).
//  2. The net drops it with the probability Config.Loss, or delivers it after Config.Delay and up to Config.Jitter.
//  3. A NAT lets it in or drops it; then it waits in the bounded queue of the socket for ReadFrom.
//
// All waiting is time.AfterFunc and channels, so that a test inside testing/synctest sees a delay of seconds in no time. Chance
// comes from Config.Seed: a run can be repeated.
//
// NAT kinds are those of RFC 4787: mapping endpoint-independent or address- and port-dependent ("symmetric"), filtering
// endpoint-independent or address- and port-dependent ("port restricted").
package simnet
