//go:build !linux

package xdp

import (
	"errors"
	"net/netip"
)

// Steer does not exist here: New says so.
type Steer struct{ cfg Config }

// New returns errors.ErrUnsupported.
func New(Config) (*Steer, error) { return nil, errors.ErrUnsupported }

func (s *Steer) Join(int) (int, error)                                { return 0, errors.ErrUnsupported }
func (s *Steer) Range() (addrs []netip.Addr, portMin, portMax uint16) { return nil, 0, 0 }
func (s *Steer) Set(netip.AddrPort, int)                              {}
func (s *Steer) Clear(netip.AddrPort)                                 {}
func (s *Steer) Close() error                                         { return nil }
