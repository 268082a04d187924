package bridge

import (
	"sync"
	"time"
)

// Notice is one event of the API's stream.
type Notice struct {
	Event      string    `json:"event"`
	Call       string    `json:"call"`
	Conference string    `json:"conference,omitempty"`
	Leg        string    `json:"leg,omitempty"`
	Value      string    `json:"value,omitempty"`
	Node       NodeID    `json:"node,omitempty"`
	Time       time.Time `json:"time"`
}

// listenerQueue is how far a listener may be behind; then it is cut, and connects again.
const listenerQueue = 1024

// hub hands notices to the listeners of the API. A slow one never delays a call.
type hub struct {
	mu  sync.Mutex // guards the rest
	all map[chan Notice]bool
}

func newHub() *hub { return &hub{all: map[chan Notice]bool{}} }

func (h *hub) tell(n Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.all {
		select {
		case c <- n:
		default:
			delete(h.all, c)
			close(c)
		}
	}
}

func (h *hub) listen() (<-chan Notice, func()) {
	c := make(chan Notice, listenerQueue)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.all[c] {
			delete(h.all, c)
			close(c)
		}
	}
}
