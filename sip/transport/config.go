package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"time"
)

// Proto is a transport protocol of SIP.
type Proto uint8

// The protocols of RFC 3261 section 18 and RFC 7118.
const (
	UDP Proto = iota
	TCP
	TLS
	WS
	WSS
	protos
)

var protoNames = [protos]string{"udp", "tcp", "tls", "ws", "wss"}

// String returns the name that URIs and our configuration use, in lower case.
func (p Proto) String() string {
	if p < protos {
		return protoNames[p]
	}
	return "proto(?)"
}

// ParseProto is the inverse of String; case does not matter.
func ParseProto(s string) (Proto, error) {
	for p, name := range protoNames {
		if strings.EqualFold(s, name) {
			return Proto(p), nil
		}
	}
	return 0, fmt.Errorf("unknown transport %q: allowed are udp, tcp, tls, ws, wss", s)
}

// Secure tells whether the protocol runs over TLS.
func (p Proto) Secure() bool { return p == TLS || p == WSS }

// Stream tells whether the protocol keeps connections: every one but UDP.
func (p Proto) Stream() bool { return p != UDP }

// ListenerConfig describes one listener.
type ListenerConfig struct {
	// Proto is the protocol. Default UDP.
	Proto Proto
	// Addr is the address to bind. Port 0 takes a free one. An IPv6 wildcard does not include IPv4: name both.
	Addr netip.AddrPort
	// Advertise is host[:port] as others reach this listener, where a 1:1 NAT or a load balancer stands before it.
	// Default: the bound address. The transport only keeps it for the caller.
	Advertise string
	// Internal marks the side that the farms see. The transport only keeps it for the caller.
	Internal bool
	// Packet is an open packet socket to use instead of binding Addr, for a simulated network in tests. UDP only; Run
	// closes it. Default: none.
	Packet net.PacketConn
}

// String returns proto:ip:port, the form in which the configuration names a listener.
func (c ListenerConfig) String() string { return c.Proto.String() + ":" + c.Addr.String() }

// TLSConfig is for the TLS and WSS listeners and for dialled TLS connections.
type TLSConfig struct {
	// Files are certificate and key pairs in PEM. The first one that suits the client's SNI is used, the first of all
	// if none does. Files that change on disk are read again.
	Files []CertificateFile
	// Certificates are used after Files: for a self-signed one that was made at start.
	Certificates []tls.Certificate
	// CheckInterval is how often the files are looked at for a change. Default 5 s.
	CheckInterval time.Duration
	// ClientCAs is a PEM file with the authorities of client certificates; it is read again like Files. Default: client
	// certificates are not asked for.
	ClientCAs string
	// RequireClientCert refuses a client that shows no certificate of ClientCAs. Default: it may show none.
	RequireClientCert bool
	// RootCAs is a PEM file with the authorities that a dialled peer's certificate must come from. Default: those of
	// the system.
	RootCAs string
	// SkipVerify accepts any certificate of a dialled peer. Default: verify.
	SkipVerify bool
}

// CertificateFile names a certificate (with its chain) and its key, both PEM.
type CertificateFile struct {
	Cert string
	Key  string
}

// Config is all that the transport needs. The zero value of each field is its default.
type Config struct {
	// Listeners are opened in this order. At least one.
	Listeners []ListenerConfig
	// Workers is the number of UDP workers; each owns a socket of every UDP listener. Default: the number of cores.
	Workers int
	// RecvBuffer and SendBuffer are the kernel's buffers per UDP socket in bytes. Default 8 MiB and 4 MiB: a stall of
	// 40 ms at 14,000 messages/s overflows 256 KiB.
	RecvBuffer int
	SendBuffer int
	// MaxMessage is the largest message on a stream, in bytes. Default 64 KiB. A larger one closes its connection.
	MaxMessage int
	// ConnQueue is how many bytes may wait for one connection. Default 256 KiB. More are dropped.
	ConnQueue int
	// MaxConns is the number of connections of all listeners together. Default 20,000. More are closed at once.
	MaxConns int
	// MaxConnsPerSource is the number of connections from one address (IPv6: one /64). Default 2,000: an office
	// behind one NAT.
	MaxConnsPerSource int
	// MaxDials is the number of connections that may be in the state of being opened. Default 256.
	MaxDials int
	// MessageTimeout closes a connection that has not completed its TLS handshake, HTTP upgrade or first message, or any
	// later message, this long after it began. Default 8 s, so that with the timer's slack it is closed within 10 s.
	MessageTimeout time.Duration
	// IdleTimeout closes a connection on which nothing came in. Default 1 h: phones that re-register every hour do so
	// after half of that time. Dead peers are found earlier, by TCP keep-alive and WebSocket ping.
	IdleTimeout time.Duration
	// WriteTimeout closes a connection that takes no bytes. Default 5 s.
	WriteTimeout time.Duration
	// DialTimeout ends the opening of a connection, TLS handshake included. Default 4 s.
	DialTimeout time.Duration
	// PingInterval is the time between WebSocket pings; a peer that misses two is closed. Default 30 s: below the usual
	// 60 s of HTTP proxies.
	PingInterval time.Duration
	// WSPath is the path of the WebSocket endpoint. Default /ws.
	WSPath string
	// WSOrigins are the origins (host patterns as in path.Match) from which a browser may connect. Default: all, since
	// SIP over WebSocket carries its own credentials and no cookies.
	WSOrigins []string
	// TLS is needed for TLS and WSS listeners.
	TLS TLSConfig
	// Log gets certificate reloads and nothing that a stranger can trigger. Default: nothing is logged.
	Log *slog.Logger
}

// Chosen by us.
const (
	batchSize     = 64        // messages per recvmmsg and sendmmsg; beyond 64 the measured gain is nil
	smallBuffer   = 4 << 10   // read buffer of an idle connection: four usual messages
	maxDatagram   = 65535     // larger than any UDP payload, so nothing is cut
	arenaSize     = 128 << 10 // bytes of one send batch: 64 messages of 2 KiB
	errorsPerWake = 64        // ICMP errors taken from one socket before messages are read again
	maxUpgrade    = 8 << 10   // bytes of an HTTP upgrade request
)

// maxUDPPayload is the largest payload of a UDP datagram over IPv4: 65,535 less the IP and UDP headers.
const maxUDPPayload = 65535 - 20 - 8

func (c *Config) validate() error {
	if len(c.Listeners) == 0 {
		return errors.New("no listener")
	}
	for _, l := range c.Listeners {
		if l.Proto >= protos {
			return fmt.Errorf("listener %s: unknown transport", l)
		}
		if l.Packet != nil && l.Proto != UDP {
			return fmt.Errorf("listener %s: a packet socket carries udp only", l)
		}
		if l.Packet == nil && !l.Addr.IsValid() {
			return fmt.Errorf("listener %s: no address", l)
		}
	}
	if c.needsTLS() && len(c.TLS.Files)+len(c.TLS.Certificates) == 0 {
		return errors.New("a tls or wss listener needs a certificate")
	}
	if c.TLS.RequireClientCert && c.TLS.ClientCAs == "" {
		return errors.New("client certificates are required but no client authorities are given")
	}
	fill(&c.Workers, runtime.GOMAXPROCS(0))
	fill(&c.RecvBuffer, 8<<20)
	fill(&c.SendBuffer, 4<<20)
	fill(&c.MaxMessage, 64<<10)
	fill(&c.ConnQueue, 256<<10)
	fill(&c.MaxConns, 20000)
	fill(&c.MaxConnsPerSource, 2000)
	fill(&c.MaxDials, 256)
	fill(&c.MessageTimeout, 8*time.Second)
	fill(&c.IdleTimeout, time.Hour)
	fill(&c.WriteTimeout, 5*time.Second)
	fill(&c.DialTimeout, 4*time.Second)
	fill(&c.PingInterval, 30*time.Second)
	fill(&c.TLS.CheckInterval, 5*time.Second)
	fill(&c.WSPath, "/ws")
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"workers", c.Workers}, {"receive buffer", c.RecvBuffer}, {"send buffer", c.SendBuffer}, {"largest message", c.MaxMessage},
		{"connection queue", c.ConnQueue}, {"connections", c.MaxConns}, {"connections per source", c.MaxConnsPerSource}, {"dials", c.MaxDials},
	} {
		if n.value < 0 {
			return fmt.Errorf("%s: %d is negative", n.name, n.value)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"message timeout", c.MessageTimeout}, {"idle timeout", c.IdleTimeout}, {"write timeout", c.WriteTimeout},
		{"dial timeout", c.DialTimeout}, {"ping interval", c.PingInterval}, {"certificate check interval", c.TLS.CheckInterval},
	} {
		if d.value < 0 {
			return fmt.Errorf("%s: %v is negative", d.name, d.value)
		}
	}
	if c.ConnQueue < c.MaxMessage {
		return fmt.Errorf("connection queue of %d bytes is smaller than the largest message of %d", c.ConnQueue, c.MaxMessage)
	}
	return nil
}

func (c *Config) needsTLS() bool {
	for _, l := range c.Listeners {
		if l.Proto.Secure() {
			return true
		}
	}
	return false
}

// fill sets a default.
func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
