package ng

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxDatagram is the largest UDP payload over IPv4.
const maxDatagram = 65507

// stuckAfter is chosen by us: a command that is worked off by the reader and takes so long gets the socket another reader, within as
// much time again.
const stuckAfter = 50 * time.Millisecond

// serveUDP reads datagrams until ctx ends and waits for those in work.
func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn) error {
	socket, err := takeUDP(c)
	if err != nil {
		return err
	}
	defer socket.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, 1)
	start := func() *udpReader {
		r := &udpReader{server: s, socket: socket, others: &wg}
		wg.Go(func() {
			if err := r.run(ctx); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		return r
	}
	reader := start()
	ticker := time.NewTicker(stuckAfter)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-ticker.C:
			if reader.stuck() {
				reader = start()
			}
		}
	}
}

// udpReader takes the messages of a socket. A goroutine for each would cost as much as the command, with the processors that it wakes and
// the stack that it grows: a short command is worked off by the reader itself if no other message waits behind it.
type udpReader struct {
	server *Server
	socket *udpSocket
	others *sync.WaitGroup // messages that have a goroutine

	since    atomic.Int64 // Unix ns: at work on a message; 0 is reading
	replaced atomic.Bool
}

func (r *udpReader) run(ctx context.Context) error {
	s, l := r.server, r.socket.line()
	for !r.replaced.Load() {
		msg, from, err := l.read(ctx)
		if msg == nil || err != nil {
			return err
		}
		if !s.acquire(ctx) {
			return nil
		}
		if l.alone && short(msg) {
			r.since.Store(time.Now().UnixNano())
			if answer := s.datagram(ctx, from, msg); answer != nil {
				l.send(answer, &l.peer)
			}
			r.since.Store(0)
			s.release()
			continue
		}
		msg, to := slices.Clone(msg), l.peer
		r.others.Go(func() {
			defer s.release()
			if answer := s.datagram(ctx, from, msg); answer != nil {
				r.socket.send(answer, &to)
			}
		})
	}
	return nil
}

// stuck tells, once, that the reader does not come back to its socket. It ends when it does.
func (r *udpReader) stuck() bool {
	since := r.since.Load()
	return since != 0 && time.Now().UnixNano()-since >= int64(stuckAfter) && r.replaced.CompareAndSwap(false, true)
}

// short tells by its first look if a message is a command that neither waits nor reads files.
func short(msg []byte) bool {
	const key = "7:command"
	i := bytes.Index(msg, []byte(key))
	if i < 0 {
		return false
	}
	value := msg[i+len(key):]
	for _, word := range []string{"5:offer", "6:answer", "6:delete", "4:ping"} {
		if len(value) >= len(word) && string(value[:len(word)]) == word {
			return true
		}
	}
	return false
}

// datagram makes the answer to a message; nil is none.
func (s *Server) datagram(ctx context.Context, from netip.AddrPort, msg []byte) []byte {
	answer := s.message(ctx, from.Addr().Unmap(), msg)
	if len(answer) > maxDatagram {
		s.stats.refused(RefusedTooBig)
		cookie, _, _ := cutCookie(msg)
		resp := Error(fmt.Sprintf("the answer of %d bytes fits no datagram: ask by TCP or HTTP, or set a limit", len(answer)))
		answer = appendBencode(append([]byte(cookie), ' '), resp.dict())
	}
	return answer
}
