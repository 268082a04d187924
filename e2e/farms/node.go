package farms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Node is a real Asterisk.
type Node struct {
	*Process
	ID, Role string
	SIP      netip.AddrPort
	ARI      string // http://USER:PASSWORD@IP:PORT, as --ari of bridge wants it
	Dir      string // its folder here; /mnt in the chroot
	Version  string

	script string
}

// startNode writes the folder of a node and runs it. more are flags of asterisk-config.
func (c *Config) startNode(role, id string, ip netip.Addr, more ...string) (*Node, error) {
	n := &Node{ID: id, Role: role, SIP: netip.AddrPortFrom(ip, sipPort), Dir: filepath.Join(c.Dir, id),
		ARI: fmt.Sprintf("http://rtcedge:%s@%s", c.ARIPassword, netip.AddrPortFrom(ip, ariPort)), script: filepath.Join(c.Root, "e2e", "peers.sh")}
	args := []string{"asterisk-config", "--role", role, "--name", id, "--ip", ip.String(), "--sip-port", fmt.Sprint(sipPort), "--ari-port", fmt.Sprint(ariPort),
		"--ari-password", c.ARIPassword, "--edge", c.Internal().String(), "--out", n.Dir, "--dir", "/mnt", "--force",
		"--rtp-port-min", "33000", "--rtp-port-max", "34999"}
	if c.Modules != "" && role != "registrar" {
		args = append(args, "--module-dir", "/mnt/modules")
	}
	if role == "registrar" {
		args = append(args, "--accounts", filepath.Join(c.Dir, "accounts"))
	}
	if c.Outbound {
		args = append(args, "--ari-connect", "ws://"+c.Connect().String()+"/ari")
	}
	if c.HEP.IsValid() {
		args = append(args, "--hep", c.HEP.String())
	}
	out, err := exec.Command(c.Binary, append(append(args, c.AsteriskArgs...), more...)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("asterisk-config of %s: %w: %s", id, err, out)
	}
	if c.Modules != "" && role != "registrar" {
		// Into the node's folder: it is the one that the chroot sees.
		if out, err := exec.Command("cp", "-a", c.Modules+"/.", filepath.Join(n.Dir, "modules")).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("modules of %s: %w: %s", id, err, out)
		}
	}
	if n.Process, err = start(c.Dir, id, append(c.enter(id), "sh", n.script, "run", "--bind", n.Dir, "asterisk", "-f", "-q", "-C", "/mnt/asterisk.conf")...); err != nil {
		return nil, err
	}
	return n, n.ready()
}

// ready returns when the node answers ARI with its own name.
func (n *Node) ready() error {
	err := n.until("answer to ARI", time.Minute, func() bool {
		var info struct {
			System struct{ Version string }
			Config struct{ Name string }
		}
		if n.Get("/asterisk/info", &info) != nil || info.Config.Name != n.ID {
			return false
		}
		n.Version = info.System.Version
		return true
	})
	if err != nil {
		return err
	}
	// ARI answers before PJSIP's last module is there.
	return n.until("full boot", time.Minute, func() bool { return strings.Contains(n.CLI("core waitfullybooted"), "fully booted") })
}

// Restart runs a node again that was stopped or killed, as its supervisor would.
func (n *Node) Restart() error {
	_ = os.Remove(filepath.Join(n.Dir, "run", "asterisk.ctl"))
	if err := n.start(); err != nil {
		return err
	}
	return n.ready()
}

// CLI runs a command of Asterisk's console.
func (n *Node) CLI(command string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "sh", n.script, "run", "--bind", n.Dir, "asterisk", "-C", "/mnt/asterisk.conf", "-rx", command).CombinedOutput()
	return string(out)
}

// Messages is Asterisk's own log.
func (n *Node) Messages() string {
	b, _ := os.ReadFile(filepath.Join(n.Dir, "log", "messages"))
	return string(b)
}

var errARI = errors.New("ARI")

// Get asks ARI, path without /ari.
func (n *Node) Get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.ARI+"/ari"+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: GET %s: %s", errARI, path, res.Status)
	}
	return json.Unmarshal(body, into)
}
