package ng

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// messageTime is what a peer gets to finish a message that it began, and to take an answer: chosen by us, so that a slow
// one does not hold a connection.
const messageTime = 10 * time.Second

// serveTCP accepts until the listener is closed, then closes the connections and waits for them.
func (s *Server) serveTCP(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ng server: accept tcp %s: %w", l.Addr(), err)
		}
		if !s.connect() {
			_ = c.Close() // nothing was said yet
			continue
		}
		wg.Go(func() {
			defer s.disconnect()
			s.serveConn(ctx, c)
		})
	}
}

// connect takes a place for a connection.
func (s *Server) connect() bool {
	select {
	case s.conns <- struct{}{}:
		s.stats.connections(1)
		return true
	default:
		s.stats.refused(RefusedFull)
		return false
	}
}

func (s *Server) disconnect() {
	<-s.conns
	s.stats.connections(-1)
}

// serveConn reads messages one after the other and answers each when it is done.
func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) }) // ends the read below
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		cancel()
		stop()
		_ = c.Close()
	}()
	// wait allows reads for d. The look at ctx comes last, so that the deadline set at its end is never overwritten.
	wait := func(d time.Duration) error {
		if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
			return err
		}
		return ctx.Err()
	}
	from := addrPort(c.RemoteAddr()).Addr()
	var mu sync.Mutex // one answer at a time
	r := bufio.NewReaderSize(c, 16<<10)
	for {
		if wait(s.cfg.Idle) != nil || skipLineEnds(r) != nil || wait(messageTime) != nil {
			return
		}
		msg, err := readMessage(r)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.stats.refused(RefusedMalformed)
			}
			return // where the next message starts is not known
		}
		if !s.acquire(ctx) {
			return
		}
		wg.Go(func() {
			defer s.release()
			answer := s.message(ctx, from, msg)
			mu.Lock()
			defer mu.Unlock()
			if answer == nil || c.SetWriteDeadline(time.Now().Add(messageTime)) != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				cancel() // the stream is cut inside an answer
			}
		})
	}
}

// skipLineEnds waits for the first byte of a message; people who type end theirs with a line end.
func skipLineEnds(r *bufio.Reader) error {
	for {
		c, err := r.ReadByte()
		if err != nil {
			return err
		}
		if c != '\r' && c != '\n' {
			return r.UnreadByte()
		}
	}
}

// readMessage reads "COOKIE SP DICTIONARY" from a stream: nothing but the dictionary itself says where it ends.
func readMessage(r *bufio.Reader) ([]byte, error) {
	m := messageReader{r: r}
	for {
		c, err := m.take()
		if err != nil {
			return nil, err
		}
		if c == ' ' {
			break
		}
		if len(m.b) > maxCookie {
			return nil, errors.New("cookie too long")
		}
	}
	first, err := r.Peek(1)
	if err != nil {
		return nil, err
	}
	switch first[0] {
	case 'd':
		err = m.bencode()
	case '{':
		err = m.json()
	default:
		err = errors.New("neither bencode nor JSON")
	}
	return m.b, err
}

type messageReader struct {
	r *bufio.Reader
	b []byte
}

var errTooBig = fmt.Errorf("more than %d bytes", MaxMessage)

func (m *messageReader) take() (byte, error) {
	c, err := m.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if len(m.b) == MaxMessage {
		return 0, errTooBig
	}
	m.b = append(m.b, c)
	return c, nil
}

// bencode takes tokens until the dictionary is closed.
func (m *messageReader) bencode() error {
	for depth := 0; ; {
		c, err := m.take()
		if err != nil {
			return err
		}
		switch {
		case c == 'd' || c == 'l':
			if depth++; depth > maxDepth {
				return errTooDeep
			}
		case c == 'e':
			if depth--; depth == 0 {
				return nil
			}
		case c == 'i':
			for c != 'e' {
				if c, err = m.take(); err != nil {
					return err
				}
			}
		case c >= '0' && c <= '9':
			if err := m.text(int(c - '0')); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q, want d, l, i, e or a length", c)
		}
	}
}

// text takes the rest of a length and the bytes behind it; n is the first digit.
func (m *messageReader) text(n int) error {
	for {
		c, err := m.take()
		if err != nil {
			return err
		}
		if c == ':' {
			break
		}
		if c < '0' || c > '9' {
			return fmt.Errorf("%q inside a length", c)
		}
		if n = n*10 + int(c-'0'); n > MaxMessage {
			return errTooBig
		}
	}
	if len(m.b)+n > MaxMessage {
		return errTooBig
	}
	at := len(m.b)
	m.b = append(m.b, make([]byte, n)...)
	_, err := io.ReadFull(m.r, m.b[at:])
	return err
}

func (m *messageReader) json() error {
	var scan jsonScan
	for {
		c, err := m.take()
		if err != nil {
			return err
		}
		if done, err := scan.next(c); err != nil || done {
			return err
		}
	}
}
