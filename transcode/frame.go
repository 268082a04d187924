package transcode

// The functions occur in the order in which samples meet them.

// emit takes decoded samples, gathers them to frames and sends the full ones.
func (p *Pipe) emit(pcm []int16) {
	if p.listener != nil {
		p.listener.listen(pcm)
	}
	if p.decRate == p.encRate {
		p.gather(pcm)
		return
	}
	for len(pcm) > 0 {
		var n int
		if p.decRate < p.encRate {
			block := pcm[:min(len(pcm), halfBlock)]
			n = p.doubler.double(p.rated, block)
			pcm = pcm[len(block):]
		} else {
			block := pcm[:min(len(pcm), 2*halfBlock)]
			n = p.halver.halve(p.rated, block)
			pcm = pcm[len(block):]
		}
		p.gather(p.rated[:n])
	}
}

// gather cuts samples into frames; a remainder stays in pending.
func (p *Pipe) gather(pcm []int16) {
	if len(p.pending) > 0 {
		n := min(len(pcm), p.frame-len(p.pending))
		p.pending = append(p.pending, pcm[:n]...)
		pcm = pcm[n:]
		if len(p.pending) < p.frame {
			return
		}
		p.sendFrame(p.pending)
		p.pending = p.pending[:0]
	}
	for len(pcm) >= p.frame {
		p.sendFrame(pcm[:p.frame])
		pcm = pcm[p.frame:]
	}
	p.pending = append(p.pending, pcm...)
}

// sendFrame encodes a frame, or reports the digit that sounds in it.
func (p *Pipe) sendFrame(frame []int16) {
	if p.listener != nil && p.reportDigit() {
		p.stamp += p.ticks
		p.marker = true
		return
	}
	room := len(p.arena)
	if cap(p.arena)-room < p.frameMax {
		p.stats.Overflow++
		p.stamp += p.ticks
		return
	}
	n := p.enc.encode(p.arena[room:room+p.frameMax], frame)
	if n == 0 || n <= 2 && p.cfg.OpusDTX && p.cfg.To.Codec == Opus {
		// RFC 7587 section 3.1.3: a frame of silence is not sent, time passes.
		p.stamp += p.ticks
		p.marker = true
		return
	}
	p.arena = p.arena[:room+n]
	p.sendVoice(p.arena[room:])
}

// sendCrossed sends a G.711 payload of one frame in the other law.
func (p *Pipe) sendCrossed(payload []byte) {
	room := len(p.arena)
	if cap(p.arena)-room < p.frameMax {
		p.stats.Overflow++
		p.stamp += p.ticks
		return
	}
	p.arena = p.arena[:room+len(payload)]
	p.cross(p.arena[room:], payload)
	p.sendVoice(p.arena[room:])
}

func (p *Pipe) sendVoice(payload []byte) {
	p.send(Packet{Timestamp: p.stamp, Marker: p.marker, Payload: payload})
	p.marker = false
	p.stamp += p.ticks
}

// send queues a packet and numbers it. Its payload lies in the arena.
func (p *Pipe) send(pkt Packet) {
	if pkt.Payload == nil || len(p.queue) == cap(p.queue) {
		p.stats.Overflow++
		return
	}
	pkt.Seq = p.seq
	p.seq++
	p.queue = append(p.queue, pkt)
}

// keep copies a payload into the arena, nil if that is full.
func (p *Pipe) keep(payload []byte) []byte {
	room := len(p.arena)
	if cap(p.arena)-room < len(payload) {
		return nil
	}
	p.arena = append(p.arena, payload...)
	return p.arena[room:]
}

// position is the outgoing timestamp that belongs to the source's clock.
func (p *Pipe) position() uint32 {
	return p.stamp + uint32(len(p.pending)*p.cfg.To.Rate/p.encRate)
}
