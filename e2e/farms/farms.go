package farms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Ports of each address: every part has an address of its own, so that ports need not differ.
const (
	sipPort   = 5080 // of a farm node
	ariPort   = 8088
	edgePort  = 5060
	ngPort    = 2223
	adminPort = 8080
	apiPort   = 8090
)

// Config is the system. Root, Binary, Dir, Public and Inside must be given.
type Config struct {
	Root   string     // of the checkout: e2e/peers.sh is there
	Binary string     // rtcedge
	Dir    string     // for configurations and logs
	Public netip.Addr // SIP and media of phones, port 5060
	Inside netip.Addr // what farms see of the edge; the nodes have the addresses from the next full ten on

	Call, Conference, Registrar int // nodes; default 1 of each

	Users       int            // accounts 1001...; default 9
	ARIPassword string         // default: a random one
	Database    string         // of the registrars
	Capture     netip.AddrPort // where recovery takes HEP; a second controller has the next port
	HEP         netip.AddrPort // where farms and edge send it; default: Capture; neither: no capture
	Secret      string         // of the edge; default: a random one

	AsteriskArgs, MediaArgs, EdgeArgs []string   // more flags of asterisk-config, media and sip
	Bridge                            []string   // flags of `rtcedge bridge` beside --ari and --api; nil: no bridge
	Recovery                          []string   // flags of `rtcedge recovery` beside those that follow from the system; nil: no recovery
	Controllers                       int        // how many of them; default 1
	Watch                             netip.Addr // where recovery is; default: Inside
	NoPIDFiles                        bool       // recovery sees the nodes over the network only, as those of other machines
	Outbound                          bool       // Asterisk opens ARI's WebSocket to the bridge; otherwise the bridge opens it
	Modules                           string     // a module directory of asterisk-patch/build.sh for call and conference nodes; "": Debian's

	// Enter is what runs a node's or role's command somewhere else: the prefix of its command line; nil: here.
	Enter func(name string) []string
}

// Account is one that may register.
type Account struct{ User, Password string }

// System is what runs.
type System struct {
	Config
	Accounts []Account
	Nodes    []*Node
	Media    *Process
	Edge     *Process
	BridgeP  *Process   // nil without a bridge
	RecoverP []*Process // the controllers
	Others   []*Process
}

// Internal is the edge's address as farms see it.
func (c *Config) Internal() netip.AddrPort { return netip.AddrPortFrom(c.Inside, edgePort) }

// SIP is where phones register and call, UDP and TCP.
func (c *Config) SIP() netip.AddrPort { return netip.AddrPortFrom(c.Public, edgePort) }

// Admin is the admin port of the edge, media and bridge.
func (c *Config) Admin(part string) netip.AddrPort {
	return netip.AddrPortFrom(c.Inside, adminPort+map[string]uint16{"sip": 0, "media": 1, "bridge": 2, "recovery": 3}[part])
}

// NG is the media proxy's control port.
func (c *Config) NG() netip.AddrPort { return netip.AddrPortFrom(c.Inside, ngPort) }

// API is the bridge's.
func (c *Config) API() netip.AddrPort { return netip.AddrPortFrom(c.Inside, apiPort) }

// Connect is where nodes reach the bridge with Outbound.
func (c *Config) Connect() netip.AddrPort { return netip.AddrPortFrom(c.Inside, apiPort+1) }

// addr is the address of a node: the first ones are .11, .12 and .13 where Inside ends with .1 or .10, the second ones .14 to .16.
func (c *Config) addr(role string, i int) netip.Addr {
	a := c.Inside.As4()
	a[3] = (a[3]+9)/10*10 + map[string]byte{"call": 1, "conference": 2, "registrar": 3}[role] + byte(3*i)
	return netip.AddrFrom4(a)
}

func (c *Config) fill() error {
	if c.Root == "" || c.Binary == "" || c.Dir == "" || !c.Public.Is4() || !c.Inside.Is4() {
		return errors.New("farms: Root, Binary, Dir, Public and Inside must be given")
	}
	for _, n := range []*int{&c.Call, &c.Conference, &c.Registrar} {
		if *n == 0 {
			*n = 1
		}
	}
	if c.Controllers == 0 && c.Recovery != nil {
		c.Controllers = 1
	}
	if !c.HEP.IsValid() {
		c.HEP = c.Capture
	}
	if !c.Watch.IsValid() {
		c.Watch = c.Inside
	}
	if c.Users == 0 {
		c.Users = 9
	}
	if c.ARIPassword == "" {
		c.ARIPassword = rand.Text()
	}
	return os.MkdirAll(c.Dir, 0o755)
}

// Start brings everything up. On an error nothing is left running.
func Start(cfg Config) (s *System, err error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s = &System{Config: cfg}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	var lines strings.Builder
	for i := range cfg.Users {
		a := Account{fmt.Sprint(1001 + i), strings.ToLower(rand.Text()[:12])}
		s.Accounts = append(s.Accounts, a)
		fmt.Fprintf(&lines, "%s:rtcedge:password=%s\n", a.User, a.Password)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "accounts"), []byte(lines.String()), 0o600); err != nil {
		return s, err
	}
	if err := s.startNodes(); err != nil {
		return s, err
	}
	if s.Media, err = s.StartMedia(); err != nil {
		return s, err
	}
	if s.Edge, err = s.StartEdge(); err != nil {
		return s, err
	}
	if cfg.Bridge != nil {
		if s.BridgeP, err = s.StartBridge(); err != nil {
			return s, err
		}
	}
	for i := range cfg.Controllers {
		p, err := s.StartRecovery(i)
		if err != nil {
			return s, err
		}
		s.RecoverP = append(s.RecoverP, p)
	}
	return s, nil
}

// startNodes starts all nodes at once: each takes a second or more.
func (s *System) startNodes() error {
	type result struct {
		node *Node
		err  error
	}
	results := make(chan result)
	nodes := 0
	for _, role := range []struct {
		name  string
		nodes int
	}{{"call", s.Call}, {"conference", s.Conference}, {"registrar", s.Registrar}} {
		for i := range role.nodes {
			var more []string
			if role.name == "registrar" && s.Database != "" {
				more = []string{"--database", s.Database}
			}
			nodes++
			go func() {
				n, err := s.startNode(role.name, fmt.Sprintf("%s%d", role.name, i+1), s.addr(role.name, i), more...)
				results <- result{n, err}
			}()
		}
	}
	var errs []error
	for range nodes {
		r := <-results
		if r.node != nil && r.node.Process != nil {
			s.Nodes = append(s.Nodes, r.node)
		}
		errs = append(errs, r.err)
	}
	slices.SortFunc(s.Nodes, func(a, b *Node) int { return strings.Compare(a.ID, b.ID) })
	return errors.Join(errs...)
}

// StartMedia runs `rtcedge media`.
func (s *System) StartMedia() (*Process, error) {
	return s.role("media", append([]string{"--listen-ng", s.NG().String(), "--interface", "pub/" + s.Public.String(), "--interface", "priv/" + s.Inside.String(),
		"--port-min", "10000", "--port-max", "19999"}, s.MediaArgs...)...)
}

// StartEdge runs `rtcedge sip`.
func (s *System) StartEdge() (*Process, error) {
	args := []string{"--listen", "udp:" + s.SIP().String(), "--listen", "tcp:" + s.SIP().String(), "--internal", "udp:" + s.Internal().String(),
		"--media", "ng:" + s.NG().String()}
	for _, role := range []string{"call", "conference", "registrar"} {
		var nodes []string
		for _, n := range s.Farm(role) {
			nodes = append(nodes, "udp:"+n.SIP.String())
		}
		args = append(args, "--farm", role+"="+strings.Join(nodes, ","))
	}
	if s.HEP.IsValid() {
		args = append(args, "--hep", "udp:"+s.HEP.String())
		for i := 1; i < s.Controllers && s.HEP == s.Capture; i++ {
			args = append(args, "--hep", "udp:"+s.capture(i).String())
		}
	}
	if s.Secret != "" {
		args = append(args, "--secret", s.Secret)
	}
	return s.role("sip", append(args, s.EdgeArgs...)...)
}

// StartBridge runs `rtcedge bridge` with every node. More than one can run: api is the second's.
func (s *System) StartBridge(more ...string) (*Process, error) {
	args := []string{"--api", s.API().String()}
	if s.Outbound {
		args = append(args, "--ari-listen", s.Connect().String())
	}
	for _, n := range s.Nodes {
		if s.Outbound {
			args = append(args, "--ari-node", n.ID+"="+s.ARIPassword)
		} else {
			args = append(args, "--ari", n.ARI)
		}
	}
	return s.role("bridge", append(append(args, s.Bridge...), more...)...)
}

// capture is where a controller takes HEP.
func (c *Config) capture(i int) netip.AddrPort {
	return netip.AddrPortFrom(c.Capture.Addr(), c.Capture.Port()+uint16(i))
}

// Controller is the admin port of the i-th recovery.
func (c *Config) Controller(i int) netip.AddrPort {
	return netip.AddrPortFrom(c.Watch, c.Admin("recovery").Port()+uint16(i))
}

// StartRecovery runs the i-th `rtcedge recovery` over the call and conference nodes; a capture of its own comes to each.
func (s *System) StartRecovery(i int, more ...string) (*Process, error) {
	args := []string{"--capture", "udp:" + s.capture(i).String(), "--edge-admin", "http://" + s.Admin("sip").String(), "--media", "ng:" + s.NG().String()}
	for _, n := range s.Nodes {
		if n.Role == "registrar" {
			continue
		}
		args = append(args, "--farm", n.ARI)
		if !s.NoPIDFiles {
			args = append(args, "--pid-file", n.ARI[strings.LastIndexByte(n.ARI, '@')+1:]+"="+filepath.Join(n.Dir, "run", "asterisk.pid"))
		}
	}
	name := "recovery"
	if i > 0 {
		name += fmt.Sprint(i + 1)
	}
	return s.program(name, "recovery", s.Controller(i), append(append(args, s.Recovery...), more...)...)
}

// StartCapture runs a recovery that is nothing but a capture with HOMER's API: the one node that it watches never lived. It ends with the system.
func (s *System) StartCapture(hep, api netip.AddrPort, token string) (*Process, error) {
	admin := netip.AddrPortFrom(s.Inside, s.Admin("recovery").Port()+100)
	p, err := s.program("homer", "recovery", admin, "--capture", "udp:"+hep.String(), "--capture-api", api.String(), "--capture-api-token", token,
		"--farm", "http://none:none@"+netip.AddrPortFrom(s.Inside, 1).String())
	if err == nil {
		s.Others = append(s.Others, p)
	}
	return p, err
}

// role runs a role of rtcedge and waits for its admin port to be ready.
func (s *System) role(name string, args ...string) (*Process, error) {
	return s.program(name, name, s.Admin(name), args...)
}

// program is a role under a name and an admin port of its own.
func (s *System) program(name, role string, admin netip.AddrPort, args ...string) (*Process, error) {
	argv := append(s.enter(name), s.Binary, role, "--admin", admin.String(), "--drain-notice", "0s", "--drain-limit", "2s")
	p, err := start(s.Dir, name, append(argv, args...)...)
	if err != nil {
		return nil, err
	}
	return p, p.until("listener at its admin port", 15*time.Second, func() bool { return reachable(admin.String()) })
}

func (c *Config) enter(name string) []string {
	if c.Enter == nil {
		return nil
	}
	return slices.Clone(c.Enter(name))
}

func reachable(addr string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// Farm is the nodes of a role.
func (s *System) Farm(role string) []*Node {
	var out []*Node
	for _, n := range s.Nodes {
		if n.Role == role {
			out = append(out, n)
		}
	}
	return out
}

// Processes is all that runs.
func (s *System) Processes() []*Process {
	var out []*Process
	for _, n := range s.Nodes {
		out = append(out, n.Process)
	}
	for _, p := range slices.Concat([]*Process{s.Media, s.Edge, s.BridgeP}, s.RecoverP, s.Others) {
		if p != nil {
			out = append(out, p)
		}
	}
	return out
}

// Stop ends everything, the last one first.
func (s *System) Stop() {
	all := s.Processes()
	for i := len(all) - 1; i >= 0; i-- {
		all[i].Stop()
	}
}
