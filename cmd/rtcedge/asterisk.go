package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rtcedge/deploy/asterisk"
	"rtcedge/internal/config"
	"rtcedge/sip/auth"
)

type asteriskRole struct {
	asterisk.Config
	roles    []string
	edges    []string
	out      string
	hepID    int
	accounts string
	qualify  time.Duration
	force    bool
}

// runAsteriskConfig writes the folder of one Asterisk and starts nothing.
func runAsteriskConfig(e *env) error {
	c, err := parseAsteriskConfig(e)
	if err != nil {
		return err
	}
	generated := c.ARIPassword == ""
	if generated {
		c.ARIPassword = rand.Text()
	}
	node, err := asterisk.New(c.Config)
	if err != nil {
		return usage(fmt.Errorf("asterisk-config: --%w", err))
	}
	overwritten, err := node.Write(c.out, c.force)
	if errors.Is(err, asterisk.ErrForeign) {
		return usage(fmt.Errorf("asterisk-config: --out: %w (allowed: --force overwrites)", err))
	}
	if err != nil {
		return fmt.Errorf("asterisk-config: %w", err)
	}
	for _, f := range overwritten {
		fmt.Fprintf(e.out, "overwritten: %s\n", filepath.Join(c.out, f))
	}
	if generated {
		fmt.Fprintf(e.out, "ARI: user %s, password %s\n", c.ARIUser, c.ARIPassword)
	}
	fmt.Fprintf(e.out, "%s: %s written; run it with: asterisk -f -C %s\n", node.Name(), c.out, filepath.Join(c.Dir, "asterisk.conf"))
	return nil
}

func parseAsteriskConfig(e *env) (*asteriskRole, error) {
	c := new(asteriskRole)
	s := config.New("asterisk-config", e.getenv)
	words := []string{asterisk.RoleCall, asterisk.RoleConference, asterisk.RoleRegistrar}
	s.List(&c.roles, "role", nil, "ROLE[,...]", "what this Asterisk is for; a registrar stands alone", strings.Join(words, ", "), func(t string) error {
		for r := range strings.SplitSeq(t, ",") {
			if !slices.Contains(words, r) {
				return fmt.Errorf("unknown role %q", r)
			}
		}
		return nil
	})
	s.IP(&c.IP, "ip", netip.Addr{}, "address of SIP, media and ARI")
	s.List(&c.edges, "edge", nil, "IP:PORT", "internal address of an edge (its --internal); calls go out by the first", "IP:PORT", func(t string) error {
		_, err := netip.ParseAddrPort(t)
		return err
	})
	s.String(&c.out, "out", "", "DIR", "folder to write; it is made")
	s.String(&c.Dir, "dir", "", "DIR", "the same folder as Asterisk sees it, in a chroot or container; none: --out")
	s.String(&c.Name, "name", "", "NAME", "of the node, in events and capture; none: the role and the last number of --ip")
	s.Int(&c.SIPPort, "sip-port", 5080, 1, 65535, "PORT", "SIP, UDP and TCP")
	s.Int(&c.ARIPort, "ari-port", 8088, 1, 65535, "PORT", "ARI over HTTP and WebSocket")
	s.String(&c.ARIUser, "ari-user", "rtcedge", "NAME", "user of ARI")
	s.String(&c.ARIPassword, "ari-password", "", "TEXT", "password of ARI; none: a random one, printed")
	s.String(&c.Outbound, "ari-connect", "", "URL", "ws://HOST:PORT/PATH to which Asterisk opens its events and REST by itself; none: it only listens")
	s.Int(&c.PortMin, "rtp-port-min", 20000, 1024, 65535, "PORT", "first UDP port of media")
	s.Int(&c.PortMax, "rtp-port-max", 29999, 1024, 65535, "PORT", "last UDP port of media")
	s.Addr(&c.HEP, "hep", netip.AddrPort{}, "HEP collector (UDP) for all SIP and RTCP")
	s.Int(&c.hepID, "hep-id", 0, 0, 1<<31-1, "N", "capture id of this node; 0: the last two numbers of --ip")
	s.String(&c.accounts, "accounts", "", "FILE", "registrar: users, as --auth of other roles has them, of --realm, with an MD5 hash or password")
	s.String(&c.Realm, "realm", "rtcedge", "NAME", "registrar: digest realm")
	s.Bool(&c.Trust, "trust-edge", false, "registrar: the edge has checked the digest (its --auth); only edges may speak to this registrar")
	s.Duration(&c.qualify, "qualify", 12*time.Second, 0, "registrar: OPTIONS to each contact, which keeps its NAT open; 0 is off")
	s.String(&c.Database, "database", "", "URL", "registrar: postgres://USER:PASSWORD@HOST:PORT/NAME with the shared table of contacts; none: contacts of this node alone")
	s.String(&c.ModuleDir, "module-dir", "", "DIR", "Asterisk's modules; none: Debian's")
	s.String(&c.DataDir, "data-dir", "/usr/share/asterisk", "DIR", "Asterisk's own data, for its XML documentation")
	s.Bool(&c.Verbose, "verbose", false, "log each SIP message and dialplan step")
	s.Bool(&c.force, "force", false, "overwrite files that somebody else wrote or changed")
	if err := usage(s.Parse(e.args, e.out)); err != nil {
		return nil, err
	}
	return c, usage(c.complete(e))
}

// complete turns the flags' texts into the package's types.
func (c *asteriskRole) complete(e *env) error {
	for _, text := range c.roles {
		c.Roles = append(c.Roles, strings.Split(text, ",")...)
	}
	for _, text := range c.edges {
		c.Edges = append(c.Edges, netip.MustParseAddrPort(text))
	}
	if c.out == "" {
		return errors.New("asterisk-config: --out: none given (allowed: a folder)")
	}
	if c.Dir == "" {
		dir, err := filepath.Abs(c.out)
		if err != nil {
			return err
		}
		c.Dir = dir
	}
	c.HEPID = uint32(c.hepID)
	if c.qualify%time.Second != 0 {
		return fmt.Errorf("asterisk-config: --qualify: %s (allowed: whole seconds)", c.qualify)
	}
	c.Qualify = int(c.qualify / time.Second)
	if c.accounts == "" {
		return nil
	}
	text, err := os.ReadFile(c.accounts)
	if err != nil {
		return fmt.Errorf("asterisk-config: --accounts: %w", err)
	}
	users, err := auth.ParseUsers(text)
	if err != nil {
		return fmt.Errorf("asterisk-config: --accounts: %s: %w", c.accounts, err)
	}
	for _, u := range users.Realm(c.Realm) {
		ha1, ok := u.Credential.HA1(auth.MD5)
		if !ok {
			return fmt.Errorf("asterisk-config: --accounts: user %s has no MD5 hash (allowed: user:realm:MD5 hash, or user:realm:password=secret)", u.Name)
		}
		c.Accounts = append(c.Accounts, asterisk.Account{User: u.Name, HA1: ha1})
	}
	if len(c.Accounts) == 0 {
		return fmt.Errorf("asterisk-config: --accounts: %s has no user of realm %s", c.accounts, c.Realm)
	}
	return nil
}
