//go:build !linux

package transport

import (
	"context"
	"errors"
	"net"
)

// batch is a Linux matter; elsewhere every datagram is sent at once.
type batch struct{}

func (*batch) add([]byte, Target) error { return ErrBadTarget }

func (l *Listener) openUDP() error {
	if l.cfg.Packet != nil {
		l.openPortable(l.cfg.Packet)
		return nil
	}
	network := "udp4"
	if !l.cfg.Addr.Addr().Unmap().Is4() {
		network = "udp6"
	}
	var cfg net.ListenConfig
	pc, err := cfg.ListenPacket(context.Background(), network, l.cfg.Addr.String())
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err
		}
		return err
	}
	l.openPortable(pc)
	return nil
}

// startWorkers has nothing to start: each socket has its own reader.
func (t *Transport) startWorkers() (stop func(), err error) { return func() {}, nil }
