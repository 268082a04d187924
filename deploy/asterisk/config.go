package asterisk

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Roles of a node. A registrar stands alone: an Asterisk that takes everything from the edge's address for one endpoint does
// not ask a phone's REGISTER for its digest (res_pjsip_endpoint_identifier_ip).
const (
	RoleCall       = "call"
	RoleConference = "conference"
	RoleRegistrar  = "registrar"
)

// Fixed by Asterisk.
const (
	socketPath = 107 // bytes of a Unix socket's name (unix(7)), for run/asterisk.ctl
	minPorts   = 4   // RTP and RTCP of two channels
)

// Account is a user that may register: HA1 is MD5(user:realm:password) in hex.
type Account struct{ User, HA1 string }

// Config is one node.
type Config struct {
	Roles []string // call, conference or both; or registrar
	Name  string   // of the node, in HEP, events and channel ids; default: the first role and the last number of IP
	IP    netip.Addr

	SIPPort          int    // default 5080
	ARIPort          int    // default 8088
	ARIUser          string // default rtcedge
	ARIPassword      string // must be given
	PortMin, PortMax int    // of RTP; default 20000 to 29999

	Edges []netip.AddrPort // internal addresses of the edges; calls go out by the first. At least one

	HEP   netip.AddrPort // collector; none: no capture
	HEPID uint32         // default: the last two numbers of IP

	Realm     string    // of the registrar; default rtcedge
	Accounts  []Account // of the registrar
	Trust     bool      // the edge has checked the digest: the registrar does not, and takes requests from the edges' addresses only
	Qualify   int       // seconds between two OPTIONS to a contact, which keep its NAT open; 0: none
	Database  string    // postgres://USER:PASSWORD@HOST:PORT/NAME with the table ps_contacts, shared by registrars; none: this node's own AstDB
	Dir       string    // the folder as Asterisk sees it: inside a chroot it may have another name
	ModuleDir string    // default: Debian's for this machine's architecture
	DataDir   string    // Asterisk's own data, for its XML documentation, without which modules refuse to load; default /usr/share/asterisk
	Verbose   bool      // log every SIP message and dialplan step
	Outbound  string    // ws://HOST:PORT/PATH to which Asterisk itself opens ARI's WebSocket; none: it only listens

	database *url.URL // parsed by validate
}

// name is what is safe as section, section key and part of a channel id.
var name = regexp.MustCompile(`^[A-Za-z0-9_.+-]{1,64}$`)

// secret is what stands unquoted in an Asterisk configuration.
var secret = regexp.MustCompile(`^[A-Za-z0-9_.+/=@:-]{1,128}$`)

// validate checks and fills once.
func (c *Config) validate() error {
	if err := c.checkRoles(); err != nil {
		return err
	}
	if !c.IP.IsValid() || c.IP.IsUnspecified() {
		return errors.New("ip: an address of this node is needed (allowed: one that the edge and media nodes reach)")
	}
	fill := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&c.SIPPort, 5080)
	fill(&c.ARIPort, 8088)
	fill(&c.PortMin, 20000)
	fill(&c.PortMax, 29999)
	if c.PortMax-c.PortMin+1 < minPorts {
		return fmt.Errorf("rtp-port-min, rtp-port-max: %d to %d is less than %d ports", c.PortMin, c.PortMax, minPorts)
	}
	if len(c.Edges) == 0 {
		return errors.New("edge: none given (allowed: IP:PORT of the edge's --internal listener)")
	}
	last := c.IP.AsSlice()
	if c.Name == "" {
		c.Name = fmt.Sprintf("%s%d", c.Roles[0], last[len(last)-1])
	}
	if c.HEPID == 0 {
		c.HEPID = uint32(last[len(last)-2])<<8 | uint32(last[len(last)-1])
	}
	if c.ARIUser == "" {
		c.ARIUser = "rtcedge"
	}
	if c.Realm == "" {
		c.Realm = "rtcedge"
	}
	if c.ModuleDir == "" {
		c.ModuleDir = moduleDir()
	}
	if c.DataDir == "" {
		c.DataDir = "/usr/share/asterisk"
	}
	for what, v := range map[string]string{"name": c.Name, "ari-user": c.ARIUser, "realm": c.Realm} {
		if !name.MatchString(v) {
			return fmt.Errorf("%s: %q (allowed: 1 to 64 letters, digits, and _ . + -)", what, v)
		}
	}
	if !secret.MatchString(c.ARIPassword) {
		return errors.New("ari-password: empty, or with a character that Asterisk's configuration has its own use for (allowed: letters, digits, and _ . + / = @ : -)")
	}
	if err := c.checkRegistrar(); err != nil {
		return err
	}
	return c.checkDirs()
}

func (c *Config) checkRoles() error {
	if len(c.Roles) == 0 {
		return errors.New("role: none given (allowed: call, conference, registrar)")
	}
	for i, r := range c.Roles {
		if !slices.Contains([]string{RoleCall, RoleConference, RoleRegistrar}, r) {
			return fmt.Errorf("role: %q (allowed: call, conference, registrar)", r)
		}
		if slices.Contains(c.Roles[:i], r) {
			return fmt.Errorf("role: %s stands twice", r)
		}
	}
	if c.Is(RoleRegistrar) && len(c.Roles) > 1 {
		return errors.New("role: registrar beside another (allowed: an Asterisk of its own, because one that knows the edge by its address does not check a phone's digest)")
	}
	return nil
}

func (c *Config) checkRegistrar() error {
	if !c.Is(RoleRegistrar) {
		if c.Database != "" || len(c.Accounts) > 0 || c.Trust {
			return errors.New("accounts, database and trust-edge are the registrar's (allowed: with --role registrar)")
		}
		return nil
	}
	if len(c.Accounts) == 0 {
		return errors.New("accounts: none given (allowed: a file with lines of user:realm:hash or user:realm:password=secret)")
	}
	for _, a := range c.Accounts {
		if !name.MatchString(a.User) || a.User == "probe" {
			return fmt.Errorf("accounts: user %q (allowed: 1 to 64 letters, digits, and _ . + -, but not probe, which is the edge's)", a.User)
		}
	}
	if c.Qualify < 0 {
		return fmt.Errorf("qualify: %d (allowed: seconds, or 0 for none)", c.Qualify)
	}
	if c.Database == "" {
		return nil
	}
	u, err := url.Parse(c.Database)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" || u.User == nil || strings.Trim(u.Path, "/") == "" {
		return errors.New("database: not of the form postgres://USER:PASSWORD@HOST[:PORT]/NAME")
	}
	password, _ := u.User.Password()
	for _, v := range []string{u.User.Username(), password, strings.Trim(u.Path, "/")} {
		if v != "" && !secret.MatchString(v) {
			return errors.New("database: user, password or name with a character that Asterisk's configuration has its own use for (allowed: letters, digits, and _ . + / = @ : -)")
		}
	}
	c.database = u
	return nil
}

func (c *Config) checkDirs() error {
	for what, d := range map[string]string{"dir": c.Dir, "module-dir": c.ModuleDir, "data-dir": c.DataDir} {
		if !filepath.IsAbs(d) || strings.ContainsAny(d, ";\n[]") {
			return fmt.Errorf("%s: %q (allowed: an absolute path without ; [ ])", what, d)
		}
	}
	if sock := filepath.Join(c.Dir, "run", "asterisk.ctl"); len(sock) > socketPath {
		return fmt.Errorf("out: Asterisk's control socket would be %s, %d bytes (allowed: %d)", sock, len(sock), socketPath)
	}
	if c.Outbound != "" {
		if u, err := url.Parse(c.Outbound); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" || strings.ContainsAny(c.Outbound, "; \n") {
			return fmt.Errorf("ari-connect: %q (allowed: ws://HOST:PORT/PATH or wss://...)", c.Outbound)
		}
	}
	return nil
}

// moduleDir is where Debian has Asterisk's modules on this machine: the folder is named after the architecture.
func moduleDir() string {
	for _, pattern := range []string{"/usr/lib/*/asterisk/modules", "/usr/lib/asterisk/modules", "/usr/local/lib/asterisk/modules"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf", "386": "i386-linux-gnu"}[runtime.GOARCH]
	if triplet == "" {
		triplet = runtime.GOARCH + "-linux-gnu"
	}
	return "/usr/lib/" + triplet + "/asterisk/modules"
}

// The methods from here on are what the templates ask.

// Is tells if the node has a role.
func (c *Config) Is(role string) bool { return slices.Contains(c.Roles, role) }

// Calls tells if channels come here: every role but the registrar.
func (c *Config) Calls() bool { return !c.Is(RoleRegistrar) }

// EntityID is Asterisk's entity id. It must look like a hardware address, so that the node's name cannot be it; it is made from
// the name, with the bit of local addresses set.
func (c *Config) EntityID() string {
	sum := sha256.Sum256([]byte(c.Name))
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", sum[0]&0xfc|2, sum[1], sum[2], sum[3], sum[4], sum[5])
}

// RoleList is the roles as RTCEDGE_ROLES has them.
func (c *Config) RoleList() string { return strings.Join(c.Roles, ",") }

// SIP is the address of the SIP transports.
func (c *Config) SIP() netip.AddrPort { return netip.AddrPortFrom(c.IP, uint16(c.SIPPort)) }

// DatabaseHost is where the database of contacts runs; the methods below are its other parts.
func (c *Config) DatabaseHost() string { return c.database.Hostname() }

// DatabasePort is 5432 where none is given.
func (c *Config) DatabasePort() string {
	if p := c.database.Port(); p != "" {
		return p
	}
	return "5432"
}

// DatabaseName is the database that holds ps_contacts.
func (c *Config) DatabaseName() string { return strings.Trim(c.database.Path, "/") }

// DatabaseUser is the role that Asterisk logs in as.
func (c *Config) DatabaseUser() string { return c.database.User.Username() }

// DatabasePassword may be empty: then the server trusts the address.
func (c *Config) DatabasePassword() string { p, _ := c.database.User.Password(); return p }
