package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rtcedge/internal/config"
)

// common is the knobs that every role has.
type common struct {
	admin       netip.AddrPort
	logLevel    string
	drainNotice time.Duration
	drainLimit  time.Duration
}

func (c *common) declare(s *config.Set, admin netip.AddrPort, notice, limit time.Duration) {
	s.Addr(&c.admin, "admin", admin, "admin port: /metrics /healthz /readyz /status /calls /debug/pprof/")
	s.Enum(&c.logLevel, "log-level", "info", "least level that is logged; rtpengine's numbers work too", logLevels()...)
	s.Duration(&c.drainNotice, "drain-notice", notice, 0, "after SIGTERM, not ready but still taking calls for so long, for load balancers to notice")
	s.Duration(&c.drainLimit, "drain-limit", limit, 0, "after the notice, calls may go on for so long before the process ends")
}

func logLevels() []string {
	return []string{"debug", "info", "warn", "error", "0", "1", "2", "3", "4", "5", "6", "7"}
}

// level maps our words and rtpengine's (syslog's) numbers.
func (c *common) level() slog.Level {
	switch c.logLevel {
	case "debug", "7":
		return slog.LevelDebug
	case "warn", "4":
		return slog.LevelWarn
	case "error", "0", "1", "2", "3":
		return slog.LevelError
	}
	return slog.LevelInfo
}

func defaultAdmin() netip.AddrPort { return loopback(8080) }

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// flagError names the flag whose value was refused by the package that it configures.
func flagError(role, flag string, err error, allowed string) error {
	return usage(fmt.Errorf("%s: --%s: %w (allowed: %s)", role, flag, err, allowed))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// checkProtoAddr accepts PROTO:IP:PORT with one of the protocols.
func checkProtoAddr(protos ...string) func(string) error {
	return func(text string) error {
		_, _, err := splitProtoAddr(text, protos...)
		return err
	}
}

func splitProtoAddr(text string, protos ...string) (proto string, addr netip.AddrPort, err error) {
	proto, rest, ok := strings.Cut(text, ":")
	if !ok || !slices.Contains(protos, proto) {
		return "", netip.AddrPort{}, errors.New("unknown protocol")
	}
	if addr, err = netip.ParseAddrPort(rest); err != nil {
		return "", netip.AddrPort{}, errors.New("not an IP address with a port")
	}
	return proto, addr, nil
}

func protoAddrAllowed(protos ...string) string {
	return strings.Join(protos, "|") + ":IP:PORT like " + protos[0] + ":192.0.2.1:5060"
}
