package media

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

	"rtcedge/media/udp"
)

// Config is the list of an engine's knobs. The zero value is a proxy on the loopback address.
type Config struct {
	// Interfaces are the local addresses that media uses, by name. The first is the default one; a name may stand twice,
	// once with an IPv4 and once with an IPv6 address. None is "default/127.0.0.1".
	Interfaces []Interface
	// PortMin and PortMax bound the UDP ports. A stream needs a pair (even RTP, odd RTCP) on each side. 30000-39999.
	PortMin, PortMax uint16
	// NumThreads is the number of workers, one event loop each. Default: one per core.
	NumThreads int
	// Timeout ends a call that received no packet for so long. 60 s; negative is never.
	Timeout time.Duration
	// SilentTimeout takes its place while a party is on hold. 3600 s; negative is never.
	SilentTimeout time.Duration
	// DeleteDelay is how long a deleted call keeps its ports, so that late packets and a repeated offer find them. 30 s;
	// negative is at once. A delete request may carry its own.
	DeleteDelay time.Duration
	// TOS is the traffic class byte of outgoing packets. 184 (expedited forwarding); negative is unmarked.
	TOS int
	// MaxSessions bounds the calls; further offers get "load limit". 0 is no bound but the ports.
	MaxSessions int
	// RecvBuffer is the receive buffer of each socket in bytes. 0 is 512 KiB, which the kernel doubles: 0.13 s of 10,000 small packets a second at one
	// port, where the default of 208 KiB holds 0.03 s. It costs memory only while packets wait.
	RecvBuffer int
	// OpusComplexity is the effort of the encoder, 1 (cheap) to 10; 0 is 1. Speech of a telephone codec is not nearer to itself after 10
	// than after 1, for four times the work (TestB31OpusComplexityGainsNothing).
	OpusComplexity int
	// RecordingDir is where recordings go; it must exist. "" is none, and commands that ask for one get an error.
	RecordingDir string
	// ForwardTo is where start forwarding sends PCM: tcp://HOST:PORT or tls://HOST:PORT. "" is nowhere, and the command is refused.
	ForwardTo string
	// TeardownURL is told by XML-RPC, in TeardownFormat, of each call that timed out; %% in it stands for the address of the call's controller:
	// the key xmlrpc-callback, else where its first request came from. "" is nobody.
	TeardownURL    string
	TeardownFormat TeardownFormat
	// MediaDir is where play media finds its files; "" is nowhere, blobs only.
	MediaDir string
	// Certificate is what DTLS shows. Nodes that take over each other's calls share one, else the next re-INVITE of a call that moved
	// begins a new handshake. nil makes one; ECDSA P-256 is what all browsers take.
	Certificate *tls.Certificate
	// Steering delivers the packets of the ports of its range without a socket per port (media/xdp, batches in and out). It must have
	// a lane for each worker and outlive Run. nil is a socket per port.
	Steering udp.Steering
	// Portable uses the net package instead of Linux system calls.
	Portable bool
	// Now is the clock of timeouts and arrival times. time.Now.
	Now func() time.Time
	// Logger gets what concerns a whole call. slog.Default.
	Logger *slog.Logger
	// Ended is called once at the end of each call with its numbers, with no lock held, on the goroutine that ended it; it
	// must not block. nil is none.
	Ended func(CallEnd)
	// Changed is called after each command that changed a call, with no lock held; it must not block. A new record of the
	// call (Engine.Export) is worth storing then. nil is none.
	Changed func(callID string)
	// Digit is called at the end of each key that a party has pressed: of telephone-events and, where a request has detect-DTMF, of tones in
	// the voice. A worker calls it; it must not block. nil is none.
	Digit func(Digit)
	// OnRecord gets session records for Engine.Restore on another node, a few kB of JSON with keys in clear: a quarter of a second
	// after each change of a call, handshakes and learnt sources included, and each minute while it lasts; nil when it has ended. At
	// the end of Run it gets the last one of every call, and no nil. One goroutine calls it; it must not block. nil is none.
	OnRecord func(callID string, record []byte)
}

// Interface is a local address with the name that "direction" of an offer uses.
type Interface struct {
	Name       string
	Addr       netip.Addr
	Advertised netip.Addr // what SDP says instead of Addr, for 1:1 NAT; invalid is Addr
}

// ParseInterface reads rtpengine's form NAME/IP!ADVERTISED; name and advertised address may be left out.
func ParseInterface(text string) (Interface, error) {
	i := Interface{Name: "default"}
	addr := text
	if name, rest, ok := strings.Cut(text, "/"); ok {
		i.Name, addr = name, rest
	}
	addr, advertised, natted := strings.Cut(addr, "!")
	var err error
	if i.Addr, err = netip.ParseAddr(addr); err != nil || i.Name == "" {
		return Interface{}, fmt.Errorf("interface %q: want NAME/IP or NAME/IP!ADVERTISED", text)
	}
	if natted {
		if i.Advertised, err = netip.ParseAddr(advertised); err != nil {
			return Interface{}, fmt.Errorf("interface %q: the advertised address %q is no IP address", text, advertised)
		}
	}
	return i, nil
}

// Chosen by us.
const (
	defaultPortMin, defaultPortMax = 30000, 39999
	defaultTimeout                 = 60 * time.Second
	defaultSilentTimeout           = time.Hour
	defaultDeleteDelay             = 30 * time.Second
	defaultTOS                     = 184 // DSCP EF
	defaultRecvBuffer              = 512 << 10
	minPairs                       = 2 // one relayed audio stream: a pair facing each party
)

// validate checks the configuration and fills in defaults.
func (c *Config) validate() error {
	if len(c.Interfaces) == 0 {
		c.Interfaces = []Interface{{Name: "default", Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}}
	}
	c.Interfaces = append([]Interface(nil), c.Interfaces...)
	for i := range c.Interfaces {
		if err := c.Interfaces[i].validate(); err != nil {
			return err
		}
	}
	if c.PortMin == 0 && c.PortMax == 0 {
		c.PortMin, c.PortMax = defaultPortMin, defaultPortMax
	}
	if _, pairs := udp.Pairs(c.PortMin, c.PortMax); c.PortMin > c.PortMax || pairs < minPairs {
		return fmt.Errorf("media ports %d-%d: too small, a call needs %d pairs of an even port and the next one, %d ports",
			c.PortMin, c.PortMax, minPairs, 2*minPairs)
	}
	if c.TOS > 255 {
		return fmt.Errorf("tos %d: want 0 to 255", c.TOS)
	}
	if c.Certificate != nil && (len(c.Certificate.Certificate) == 0 || c.Certificate.PrivateKey == nil) {
		return errors.New("certificate: want a chain of at least one, with its private key")
	}
	if c.OpusComplexity < 0 || c.OpusComplexity > 10 {
		return fmt.Errorf("opus complexity %d: want 1 to 10, or 0 for the default", c.OpusComplexity)
	}
	if c.MaxSessions < 0 || c.NumThreads < 0 || c.RecvBuffer < 0 {
		return fmt.Errorf("max sessions %d, threads %d, receive buffer %d: none may be negative", c.MaxSessions, c.NumThreads,
			c.RecvBuffer)
	}
	if c.NumThreads == 0 {
		c.NumThreads = runtime.GOMAXPROCS(0)
	}
	if c.RecvBuffer == 0 {
		c.RecvBuffer = defaultRecvBuffer
	}
	fill(&c.Timeout, defaultTimeout)
	fill(&c.SilentTimeout, defaultSilentTimeout)
	fill(&c.DeleteDelay, defaultDeleteDelay)
	switch {
	case c.TOS == 0:
		c.TOS = defaultTOS
	case c.TOS < 0:
		c.TOS = 0
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func fill(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// validate checks one interface, by binding a socket to it for a moment.
func (i *Interface) validate() error {
	i.Addr = i.Addr.Unmap()
	switch {
	case i.Name == "":
		i.Name = "default"
	case strings.ContainsAny(i.Name, "/! "):
		return fmt.Errorf("interface name %q: no slash, exclamation mark or blank", i.Name)
	}
	if !i.Addr.IsValid() || i.Addr.IsUnspecified() || i.Addr.IsMulticast() {
		return fmt.Errorf("interface %s: address %s cannot be used, want one of this machine's", i.Name, i.Addr)
	}
	if !i.Advertised.IsValid() {
		i.Advertised = i.Addr
	}
	if i.Advertised = i.Advertised.Unmap(); i.Advertised.Is4() != i.Addr.Is4() {
		return fmt.Errorf("interface %s: %s and its advertised address %s are of different families", i.Name, i.Addr, i.Advertised)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(i.Addr, 0)))
	if err != nil {
		return fmt.Errorf("interface %s: %w", i.Name, err)
	}
	return conn.Close()
}
