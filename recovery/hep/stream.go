package hep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// maxWrite is the most that one write holds, chosen by us: a slow collector takes it within StallTimeout.
const maxWrite = 64 << 10

// stream is the TCP writer: records that lie side by side leave in one write, out of the queue's own memory.
type stream struct {
	s    *Sender
	conn net.Conn
}

// overTCP also reads, since only a reader notices soon that the collector has closed; what it says is of no interest.
func (s *Sender) overTCP(ctx context.Context, conn net.Conn) error {
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		_, _ = io.Copy(io.Discard, conn)
		conn.Close() // ends a write that hangs
	}()
	defer func() {
		conn.Close()
		<-lost
	}()
	err := s.serve(ctx, conn, &stream{s: s, conn: conn}, lost)
	if errors.Is(err, net.ErrClosed) {
		return errLost
	}
	return err
}

func (w *stream) write(n int) (int, error) {
	spans := w.s.spans[:n]
	for done := 0; done < n; {
		first := spans[done]
		end, size := done+1, first.n
		for end < n && spans[end].off == first.off+size && size+spans[end].n <= maxWrite {
			size += spans[end].n
			end++
		}
		wrote, err := w.conn.Write(w.s.queue.bytes(first.off, size))
		for ; done < end && wrote >= int(spans[done].n); done++ {
			wrote -= int(spans[done].n)
			w.s.count.sent.Add(1)
		}
		if err != nil {
			return done, fmt.Errorf("write: %w", err)
		}
	}
	return n, nil
}
