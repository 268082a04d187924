package mediatest

import (
	"context"
	"time"

	"github.com/pion/rtcp"
)

// RTCP is what the far end reported.
type RTCP struct {
	Sent            int // compound packets that we sent
	SenderReports   int
	ReceiverReports int // RR packets
	Descriptions    int
	Byes            int
	Feedback        int // any other kind
	Malformed       int

	Blocks       int           // report blocks about our SSRC
	FractionLost float64       // of the last block
	TotalLost    int           // of the last block
	RoundTrip    time.Duration // by LSR and DLSR, the last one; 0 is unknown
	Packets      uint32        // packets that the far end's last sender report counts
	LastSR       rtcp.SenderReport
}

// report sends a sender report each interval, and a BYE at the end.
func (p *Peer) report(ctx context.Context) {
	tick := time.NewTicker(p.cfg.RTCPInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.sendReport(true)
			return
		case <-tick.C:
			p.sendReport(false)
		}
	}
}

func (p *Peer) sendReport(bye bool) {
	s := p.session.Load()
	if s == nil {
		return
	}
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	o := &p.out
	if o.packets == 0 {
		return
	}
	now := time.Now()
	c, err := newCoder(s.coder)
	if err != nil {
		return
	}
	sr := &rtcp.SenderReport{
		SSRC: o.ssrc, NTPTime: ntp(now), RTPTime: o.lastTimestamp + c.ticks(now.Sub(o.lastSent)),
		PacketCount: o.packets, OctetCount: o.octets, Reports: p.blocks(now),
	}
	packets := []rtcp.Packet{sr, &rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
		Source: o.ssrc, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: p.id}},
	}}}}
	if bye {
		packets = append(packets, &rtcp.Goodbye{Sources: []uint32{o.ssrc}})
	}
	b, err := rtcp.Marshal(packets)
	if err == nil && p.tx != nil && s.suite != "" {
		b, err = p.tx.EncryptRTCP(nil, b, nil)
	}
	if err != nil {
		o.failed++
		return
	}
	if s.mux {
		_, err = p.rtp.WriteToUDPAddrPort(b, s.rtp)
	} else {
		_, err = p.rtcp.WriteToUDPAddrPort(b, s.rtcp)
	}
	if err != nil {
		o.failed++
		return
	}
	p.mu.Lock()
	p.in.rtcp.Sent++
	p.mu.Unlock()
}

// blocks is the reception report of the current stream; sendMu is held, so mu may be taken.
func (p *Peer) blocks(now time.Time) []rtcp.ReceptionReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.in
	if r.seen == nil {
		return nil
	}
	block := rtcp.ReceptionReport{SSRC: r.ssrc, TotalLost: uint32(max(r.lost(), 0)), LastSequenceNumber: uint32(r.highest - 1<<16)}
	if r.coder != nil {
		block.Jitter = uint32(r.jitter * float64(r.coder.clock))
	}
	if !r.lastSR.IsZero() && r.srSSRC == r.ssrc {
		block.LastSenderReport = r.srNTP
		block.Delay = uint32(now.Sub(r.lastSR) * 65536 / time.Second)
	}
	return []rtcp.ReceptionReport{block}
}

// reports reads what came; mu is held.
func (r *receiver) reports(packets []rtcp.Packet, own uint32, now time.Time) {
	for _, packet := range packets {
		switch x := packet.(type) {
		case *rtcp.SenderReport:
			r.rtcp.SenderReports++
			r.rtcp.Packets, r.rtcp.LastSR = x.PacketCount, *x
			r.lastSR, r.srNTP, r.srSSRC = now, uint32(x.NTPTime>>16), x.SSRC
			r.blocksOf(x.Reports, own, now)
		case *rtcp.ReceiverReport:
			r.rtcp.ReceiverReports++
			r.blocksOf(x.Reports, own, now)
		case *rtcp.SourceDescription:
			r.rtcp.Descriptions++
		case *rtcp.Goodbye:
			r.rtcp.Byes++
		default:
			r.rtcp.Feedback++
		}
	}
}

func (r *receiver) blocksOf(blocks []rtcp.ReceptionReport, own uint32, now time.Time) {
	for _, b := range blocks {
		if b.SSRC != own {
			continue
		}
		r.rtcp.Blocks++
		r.rtcp.FractionLost, r.rtcp.TotalLost = float64(b.FractionLost)/256, int(b.TotalLost)
		if b.LastSenderReport != 0 { // RFC 3550 section 6.4.1
			ticks := int32(uint32(ntp(now)>>16) - b.LastSenderReport - b.Delay)
			r.rtcp.RoundTrip = time.Duration(ticks) * time.Second / 65536
		}
	}
}

// ntp is the time as RTCP carries it: seconds since 1900 in 32.32 bits.
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}
