package transport

import (
	"sync"
	"sync/atomic"
)

// idleWriters is how many goroutines wait for a connection that has something to write; more come and go with the load. A new one would
// begin each time with a small stack and copy it twice on the way to the socket.
const idleWriters = 64

// writers are the goroutines that write to connections, one for each that has something to write.
type writers struct {
	next    chan *conn
	end     chan struct{}
	idle    atomic.Int32
	running sync.WaitGroup
}

func (ws *writers) init() { ws.next, ws.end = make(chan *conn), make(chan struct{}) }

// start lets a goroutine write what waits for the connection. It does not wait.
func (ws *writers) start(c *conn) {
	select {
	case ws.next <- c:
	default:
		ws.running.Go(func() { ws.run(c) })
	}
}

func (ws *writers) run(c *conn) {
	for {
		c.write()
		c.writer.Done()
		if ws.idle.Add(1) > idleWriters {
			ws.idle.Add(-1)
			return
		}
		select {
		case c = <-ws.next:
			ws.idle.Add(-1)
		case <-ws.end:
			return
		}
	}
}

// stop ends those that are idle, when no connection is left, and waits.
func (ws *writers) stop() {
	close(ws.end)
	ws.running.Wait()
}
