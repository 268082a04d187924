package rawphone

import (
	"context"
	"slices"
	"sync"
	"time"
)

// pace is how exactly a Pacer keeps a phone's time. Chosen by us.
const pace = 2 * time.Millisecond

// Pacer sends the audio of many phones from one goroutine: a timer and a wake-up for each packet take more of a small machine than the packet.
type Pacer struct {
	frame time.Duration

	mu    sync.Mutex
	slots [][]*Media // by the time in a frame at which they send
	next  int        // slot of the next phone
}

// NewPacer is for phones whose packets hold so much audio.
func NewPacer(frame time.Duration) *Pacer {
	return &Pacer{frame: frame, slots: make([][]*Media, max(1, frame/pace))}
}

// Run sends until ctx ends. What it is late with it sends at once.
func (p *Pacer) Run(ctx context.Context) error {
	tick := time.NewTicker(p.frame / time.Duration(len(p.slots)))
	defer tick.Stop()
	began := time.Now()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for due := int(time.Since(began) * time.Duration(len(p.slots)) / p.frame); sent < due; sent++ {
			p.mu.Lock()
			for _, m := range p.slots[sent%len(p.slots)] {
				m.transmit()
			}
			p.mu.Unlock()
		}
	}
}

func (p *Pacer) add(m *Media) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots[p.next] = append(p.slots[p.next], m)
	p.next = (p.next + 1) % len(p.slots)
}

// remove returns when nothing is sent any more.
func (p *Pacer) remove(m *Media) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.slots {
		p.slots[i] = slices.DeleteFunc(p.slots[i], func(o *Media) bool { return o == m })
	}
}
