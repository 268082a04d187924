package transcode

import "time"

// Room is what a pipe needs no longer than from a Push to the last Next behind it. Pipes of one goroutine may share one. A pipe whose turn
// comes while another one is being emptied, since a packet of that led to it, takes a room of its own from then on.
type Room struct {
	user *Pipe // that was pushed last

	pcm   []int16
	rated []int16
	queue []Packet
	arena []byte
}

// What the hungriest pipe needs: 120 ms at 16 kHz, packets of 10 ms, and Opus at 128 kbit/s in frames of 10 ms, of twice the mean and 64
// bytes at most.
const (
	roomSamples = 16 * int(maxPacket/time.Millisecond)
	roomPackets = int(maxPush/(10*time.Millisecond)) + 2 + reportEnds
	roomBytes   = roomPackets * (2*160 + 64 + eventSize)
)

// NewRoom is large enough for every pipe.
func NewRoom() *Room { return newRoom(roomSamples, roomPackets, roomBytes) }

func newRoom(samples, packets, bytes int) *Room {
	return &Room{
		pcm: make([]int16, samples), rated: make([]int16, 2*halfBlock),
		queue: make([]Packet, 0, packets), arena: make([]byte, 0, bytes),
	}
}

// lend gives the pipe as much as it asks for.
func (r *Room) lend(p *Pipe, samples, packets, bytes int) {
	if r == nil || samples > len(r.pcm) || packets > cap(r.queue) || bytes > cap(r.arena) {
		r = newRoom(samples, packets, bytes)
	}
	p.room, p.pcm, p.rated = r, r.pcm[:samples], r.rated
	p.queue, p.arena = r.queue[:0:packets], r.arena[:0:bytes]
}

// enter begins a turn: what the last one has left is gone.
func (p *Pipe) enter() {
	if u := p.room.user; u != nil && u != p && u.read < len(u.queue) {
		newRoom(len(p.pcm), cap(p.queue), cap(p.arena)).lend(p, len(p.pcm), cap(p.queue), cap(p.arena))
	}
	p.room.user = p
	p.queue, p.arena, p.read = p.queue[:0], p.arena[:0], 0
}
