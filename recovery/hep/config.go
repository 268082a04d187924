package hep

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"time"
)

// Proto is what carries the packets to the collector.
type Proto string

// The transports of HEP that a Sender speaks.
const (
	OverUDP Proto = "udp"
	OverTCP Proto = "tcp"
)

// Config are the knobs of a Sender. Addr must be given.
type Config struct {
	// Addr is where the collector listens.
	Addr netip.AddrPort

	// Proto is udp or tcp. Default udp. Over UDP a burst may be lost in the collector's receive buffer.
	Proto Proto

	// CaptureID tells this process from others in the collector (chunk 0x0c). Default 0.
	CaptureID uint32

	// NodeName is the same for people (chunk 0x13), at most 255 bytes. Default: not sent.
	NodeName string

	// AuthKey is what some collectors ask for (chunk 0x0e), at most 255 bytes. It travels in clear. Default: not sent.
	AuthKey string

	// QueueMessages and QueueBytes bound what waits for the collector; what comes on top is dropped. Both are rounded up
	// to a power of two. The memory is taken at the start. Defaults 8192 messages and 8 MiB; at least 128 KiB.
	QueueMessages int
	QueueBytes    int

	// StallTimeout ends a connection that takes nothing for so long, so that a collector that hangs behind a balancer is
	// given up for another. Default 10 s. Without effect on UDP.
	StallTimeout time.Duration

	// Log is told when the collector is reached and when it is lost. Default: nothing is logged.
	Log *slog.Logger
}

// Bounds of the configuration, chosen by us: one second of a busy edge with one core, in memory that nobody misses. A
// record of 64 KiB needs twice its room when it comes to stand at the slab's end. Positions are counted in 32 bits.
const (
	defaultMessages = 8192
	defaultBytes    = 8 << 20
	minBytes        = 128 << 10
	maxBytes        = 1 << 30
	maxMessages     = 1 << 24
	defaultStall    = 10 * time.Second
	maxText         = 255
)

func (c *Config) validate() error {
	if !c.Addr.IsValid() || c.Addr.Port() == 0 {
		return fmt.Errorf("collector address %q: want IP:PORT", c.Addr)
	}
	switch c.Proto {
	case "":
		c.Proto = OverUDP
	case OverUDP, OverTCP:
	default:
		return fmt.Errorf("protocol %q: want udp or tcp", c.Proto)
	}
	if len(c.NodeName) > maxText || len(c.AuthKey) > maxText {
		return fmt.Errorf("node name and auth key: at most %d bytes", maxText)
	}
	if c.QueueMessages < 0 || c.QueueMessages > maxMessages || c.QueueBytes < 0 || c.QueueBytes > maxBytes {
		return fmt.Errorf("queue: at most %d messages and %d bytes", maxMessages, maxBytes)
	}
	if c.QueueMessages == 0 {
		c.QueueMessages = defaultMessages
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = defaultBytes
	}
	c.QueueMessages, c.QueueBytes = powerOfTwo(c.QueueMessages), powerOfTwo(max(c.QueueBytes, minBytes))
	if c.StallTimeout < 0 {
		return errors.New("stall timeout: negative")
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = defaultStall
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func powerOfTwo(n int) int { return 1 << bits.Len(uint(n-1)) }
