package farm

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rtcedge/media/udp"
	"rtcedge/sip/auth"
)

// Role is one of the three farms.
type Role string

// The farms.
const (
	RoleCall       Role = "call"       // calls, for ARI
	RoleConference Role = "conference" // conferences, for ARI
	RoleRegistrar  Role = "registrar"  // REGISTER
)

// Fixed by the specifications.
const (
	defaultExpires = 3600 * time.Second // RFC 3261, section 10.2.1.1
	timerT1        = 500 * time.Millisecond
)

// Chosen by us.
const (
	defaultDrainTimeout = 3 * time.Second
	// Mappings of 14 s were seen: the question and, should it be lost, both repetitions of it within 1.5 s come before.
	defaultQualify     = 12 * time.Second
	defaultMaxCalls    = 1000 // a port pair each: well within the default port range
	defaultPortMin     = 20000
	defaultPortMax     = 29999
	minExpires         = 60 * time.Second // a shorter one than the edge's keep-alive is a flood (RFC 3261, section 10.3)
	maxExpires         = 2 * time.Hour
	defaultMaxContacts = 10
	defaultMaxUsers    = 10000
)

// Config is what a farm needs. ARI must be given, but where the farm is a registrar only.
type Config struct {
	Listen []string // SIP listeners PROTO:IP:PORT, udp or tcp; port 0 takes a free one; default udp:127.0.0.1:5070
	Roles  []Role   // farms to be; default all three

	ARI         netip.AddrPort // HTTP listener of ARI
	ARIUser     string         // of ARI's Basic authentication; default "rtcedge"
	ARIPassword string         // of ARI's Basic authentication; must be given

	ARIClients int // event sockets at a time; more are refused with 503; default 64
	ARIQueue   int // events that wait for one client; one that is slower is cut; default 4096

	NodeID       string // the node's name in events and /asterisk/info; default the address of the first listener
	RecordingDir string // of ARI's recordings; default a new temporary one, which stays
	SoundsDir    string // of sound:NAME, NAME.wav or NAME.ulaw; default none: only the built-in sounds

	RTPAddr netip.Addr // address of media, in SDP and of the sockets; default the first listener's
	PortMin uint16     // first port of media; default 20000
	PortMax uint16     // last port of media; default 29999

	Auth       auth.Provider // whose passwords REGISTER is checked with; nil: the registrar does not challenge, and any user may register
	Known      auth.Provider // who is a user where somebody else checks passwords; default Auth. A user who has not registered is absent (480), any other name unknown (404)
	AuthSecret []byte        // makes and proves nonces; default random. Farms and edges that share it check each other's challenges
	Realm      string        // of the challenge and of the users in Auth; default "rtcedge"
	Domains    []string      // domains of the users, all naming the same set of users; default any

	Edge netip.AddrPort // next hop to a contact that was registered without Path; default the contact's own address

	DrainTimeout   time.Duration // how long Run waits for BYEs to be answered when it ends; default 3 s
	T1             time.Duration // round-trip estimate (RFC 3261, section 17.1.1.1): 2xx are sent again after it, the ACK is awaited for 64 of it; default 500 ms
	DefaultExpires time.Duration // of a REGISTER that names none; default 3600 s
	MinExpires     time.Duration // shorter wishes are refused with 423; default 60 s
	MaxExpires     time.Duration // longer wishes are shortened; default 2 h
	MaxCalls       int           // calls at a time; more are refused with 503; default 1000
	MaxContacts    int           // contacts of one user; default 10
	MaxUsers       int           // users with contacts; default 10000
	Qualify        time.Duration // every registered contact gets an OPTIONS in each, which keeps its way through a NAT open; default 12 s, negative is off

	Logger *slog.Logger // default: none
}

func (c *Config) validate() error {
	if len(c.Listen) == 0 {
		c.Listen = []string{"udp:127.0.0.1:5070"}
	}
	if len(c.Roles) == 0 {
		c.Roles = []Role{RoleCall, RoleConference, RoleRegistrar}
	}
	for _, r := range c.Roles {
		if r != RoleCall && r != RoleConference && r != RoleRegistrar {
			return fmt.Errorf("roles: %q is none of call, conference, registrar", r)
		}
	}
	switch calls := slices.ContainsFunc(c.Roles, func(r Role) bool { return r != RoleRegistrar }); {
	case calls && !c.ARI.IsValid():
		return errors.New("ari: an address is needed: calls and conferences are controlled by it")
	case c.ARI.IsValid() && c.ARIPassword == "":
		return errors.New("ari: a password is needed")
	}
	if c.PortMin == 0 {
		c.PortMin = defaultPortMin
	}
	if c.PortMax == 0 {
		c.PortMax = defaultPortMax
	}
	if _, pairs := udp.Pairs(c.PortMin, c.PortMax); pairs < 2 {
		return fmt.Errorf("media ports %d-%d: at least two pairs of an even port and its successor are needed", c.PortMin, c.PortMax)
	}
	if c.RTPAddr.IsValid() && c.RTPAddr.IsUnspecified() {
		return fmt.Errorf("media address %s: it stands in SDP, so it must be one that others can send to", c.RTPAddr)
	}
	c.Domains = slices.Clone(c.Domains)
	for i, d := range c.Domains {
		c.Domains[i] = strings.ToLower(d)
	}
	orString(&c.ARIUser, "rtcedge")
	orString(&c.Realm, "rtcedge")
	for _, d := range []struct {
		name  string
		value *time.Duration
		other time.Duration
	}{
		{"drain timeout", &c.DrainTimeout, defaultDrainTimeout},
		{"t1", &c.T1, timerT1},
		{"default expires", &c.DefaultExpires, defaultExpires},
		{"min expires", &c.MinExpires, minExpires},
		{"max expires", &c.MaxExpires, maxExpires},
	} {
		if *d.value < 0 {
			return fmt.Errorf("%s: %v is negative", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.other
		}
	}
	if c.Qualify == 0 {
		c.Qualify = defaultQualify
	}
	if c.MinExpires > c.MaxExpires {
		return fmt.Errorf("min expires %v is more than max expires %v", c.MinExpires, c.MaxExpires)
	}
	for _, n := range []struct {
		name  string
		value *int
		other int
	}{
		{"max calls", &c.MaxCalls, defaultMaxCalls},
		{"max contacts", &c.MaxContacts, defaultMaxContacts},
		{"max users", &c.MaxUsers, defaultMaxUsers},
	} {
		if *n.value < 0 {
			return fmt.Errorf("%s: %d is negative", n.name, *n.value)
		}
		if *n.value == 0 {
			*n.value = n.other
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orString(s *string, other string) {
	if *s == "" {
		*s = other
	}
}

// listener is one bound SIP socket.
type listener struct {
	proto  string // udp or tcp
	addr   netip.AddrPort
	packet net.PacketConn // of udp
	stream net.Listener   // of tcp
}

// listen binds what PROTO:IP:PORT names.
func listen(name string) (*listener, error) {
	proto, rest, ok := strings.Cut(name, ":")
	addr, err := netip.ParseAddrPort(rest)
	if !ok || err != nil || proto != "udp" && proto != "tcp" {
		return nil, fmt.Errorf("listen %q: not of the form udp:IP:PORT or tcp:IP:PORT", name)
	}
	if addr.Addr().IsUnspecified() {
		return nil, fmt.Errorf("listen %q: the address stands in Contact, so it must be one that others can send to", name)
	}
	l := &listener{proto: proto}
	if proto == "udp" {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return nil, fmt.Errorf("listen %s: %w", name, err)
		}
		l.packet, l.addr = conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
	} else {
		ln, err := net.Listen("tcp", addr.String())
		if err != nil {
			return nil, fmt.Errorf("listen %s: %w", name, err)
		}
		l.stream, l.addr = ln, ln.Addr().(*net.TCPAddr).AddrPort()
	}
	return l, nil
}

func (l *listener) close() {
	if l.packet != nil {
		_ = l.packet.Close() // nothing can be done about it, and nothing is left unsent
	} else {
		_ = l.stream.Close()
	}
}
