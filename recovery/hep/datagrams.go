package hep

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/net/ipv4"
)

// datagrams is the UDP writer: several packets per system call where the system can.
type datagrams struct {
	s    *Sender
	conn *ipv4.PacketConn // sends without a look at the family: the socket is connected
	msgs [batch]ipv4.Message
	bufs [batch][1][]byte

	// single counts down the packets that leave one by one: sendmmsg drops the error that ends it early, so that a dead
	// port would hardly be seen.
	single int
}

func newDatagrams(s *Sender, conn *net.UDPConn) *datagrams {
	d := &datagrams{s: s, conn: ipv4.NewPacketConn(conn)}
	for i := range d.msgs {
		d.msgs[i].Buffers = d.bufs[i][:]
	}
	return d
}

func (d *datagrams) write(n int) (int, error) {
	for i, sp := range d.s.spans[:n] {
		d.bufs[i][0] = d.s.queue.bytes(sp.off, sp.n)
	}
	refused := false // by the first of what is left
	for done := 0; done < n; {
		most := n - done
		if d.single > 0 {
			most = 1
			d.single--
		}
		k, err := d.conn.WriteBatch(d.msgs[done:done+most], 0)
		if k < most {
			d.single = batch
		}
		if k > 0 {
			done += k
			d.s.count.sent.Add(uint64(k))
			refused = false
			continue
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED) && !refused:
			// It tells of an earlier datagram; this one was not tried.
			d.s.drop(DropRefused)
			refused = true
		case errors.Is(err, syscall.ECONNREFUSED):
			d.s.drop(DropNetwork)
			done, refused = done+1, false
		case errors.Is(err, syscall.EMSGSIZE):
			d.s.drop(DropTooLarge)
			done++
		default:
			// The route or our address is gone: a new socket finds the new ones. This packet may be why, so it goes.
			d.s.drop(DropNetwork)
			return done + 1, err
		}
	}
	return n, nil
}
