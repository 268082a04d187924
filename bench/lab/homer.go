package lab

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Ports of the capture that is asked as HOMER.
const (
	relayPort  = 9070
	homerPort  = 9071
	homerAPI   = 9080
	HomerToken = "lab"
)

// Homer is a capture with HOMER's API in a process of its own, behind a relay that makes it late, deaf and disorderly.
type Homer struct {
	URL string

	conn   *net.UDPConn
	to     netip.AddrPort
	tasks  sync.WaitGroup
	lag    atomic.Int64 // time.Duration
	jitter atomic.Int64
	loss   atomic.Int32 // of 100

	Own          atomic.Bool // recovery's own capture gets everything, at once
	own          netip.AddrPort
	Passed, Lost atomic.Int64
}

// RelayAddr is where HEP has to go so that it reaches HOMER alone.
func RelayAddr(inside netip.Addr) netip.AddrPort { return netip.AddrPortFrom(inside, relayPort) }

// StartHomer runs it until the lab stops. The system must send its HEP to RelayAddr.
func (l *Lab) StartHomer() (*Homer, error) {
	api, hep := netip.AddrPortFrom(l.cfg.Inside, homerAPI), netip.AddrPortFrom(l.cfg.Inside, homerPort)
	if _, err := l.StartCapture(hep, api, HomerToken); err != nil {
		return nil, err
	}
	h := &Homer{URL: "http://" + api.String(), to: hep, own: netip.AddrPortFrom(l.cfg.Watch, 9060)}
	var err error
	if h.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(RelayAddr(l.cfg.Inside))); err != nil {
		return nil, err
	}
	_ = h.conn.SetReadBuffer(4 << 20)
	l.all.Go(func() {
		<-l.run.Done()
		_ = h.conn.Close()
	})
	l.all.Go(h.relay)
	return h, nil
}

// Degrade sets how late, how disorderly and how deaf it is from now on.
func (h *Homer) Degrade(lag, jitter time.Duration, lossPercent int32) {
	h.lag.Store(int64(lag))
	h.jitter.Store(int64(jitter))
	h.loss.Store(lossPercent)
	h.Passed.Store(0)
	h.Lost.Store(0)
}

func (h *Homer) relay() {
	defer h.tasks.Wait()
	buf := make([]byte, 65536)
	for {
		n, err := h.conn.Read(buf)
		if err != nil {
			return
		}
		if h.Own.Load() {
			_, _ = h.conn.WriteToUDPAddrPort(buf[:n], h.own)
		}
		if rand.Int32N(100) < h.loss.Load() {
			h.Lost.Add(1)
			continue
		}
		h.Passed.Add(1)
		wait := time.Duration(h.lag.Load())
		if j := h.jitter.Load(); j > 0 {
			wait += time.Duration(rand.Int64N(j))
		}
		packet := append([]byte(nil), buf[:n]...)
		if wait == 0 {
			_, _ = h.conn.WriteToUDPAddrPort(packet, h.to)
			continue
		}
		h.tasks.Add(1)
		time.AfterFunc(wait, func() {
			defer h.tasks.Done()
			_, _ = h.conn.WriteToUDPAddrPort(packet, h.to)
		})
	}
}

// Recontrol restarts the first recovery with other flags, and returns when it watches all nodes.
func (l *Lab) Recontrol(ctx context.Context, flags ...string) error {
	l.RecoverP[0].Stop()
	p, err := l.StartRecovery(0, flags...)
	if err != nil {
		return err
	}
	l.RecoverP[0] = p
	return l.Watching(ctx)
}
