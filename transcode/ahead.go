package transcode

// Ahead reads what the next Push will need, a field of each cache line, and changes nothing: a caller with packets for many pipes
// lets the processor wait for the memory of all of them at once. The sum has no meaning.
func (p *Pipe) Ahead() uint64 {
	sum := uint64(p.decRate) + uint64(p.order.next) + uint64(p.clock) + uint64(p.plc.lost) + uint64(len(p.recent)) + uint64(p.seq) +
		uint64(p.stamp) + uint64(p.read) + p.stats.Late + p.stats.Overflow
	const line = 64
	for i := 0; i < len(p.recent); i += line {
		sum += uint64(p.recent[i])
	}
	for i := 0; i < len(p.plc.history); i += line / 2 {
		sum += uint64(p.plc.history[i])
	}
	return sum
}
