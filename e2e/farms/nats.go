package farms

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Ports of a NATS node; each has an address of its own.
const (
	natsPort    = 4222
	natsRoutes  = 6222
	natsMonitor = 8222
)

// NATS is a cluster of real nats-server processes: the store of a site.
type NATS struct {
	Nodes []*Process
	addrs []netip.Addr
}

// StartNATS runs a node at each address, with its files below dir, and returns when the cluster takes writes.
func StartNATS(dir string, addrs ...netip.Addr) (*NATS, error) {
	c := &NATS{addrs: addrs}
	routes := make([]string, len(addrs))
	for i, a := range addrs {
		routes[i] = fmt.Sprintf("nats://%s:%d", a, natsRoutes)
	}
	for i, a := range addrs {
		name := fmt.Sprint("nats", i+1)
		files := filepath.Join(dir, name)
		if err := os.MkdirAll(files, 0o755); err != nil {
			return c, err
		}
		p, err := start(dir, name, "nats-server", "-n", name, "-a", a.String(), "-p", fmt.Sprint(natsPort), "-m", fmt.Sprint(natsMonitor), "-js", "-sd", files,
			"--cluster", routes[i], "--cluster_name", "rtcedge", "--routes", strings.Join(routes, ","))
		if err != nil {
			c.Stop()
			return nil, errors.Join(err, errors.New("e2e/peers.sh install brings nats-server"))
		}
		c.Nodes = append(c.Nodes, p)
	}
	for i := range c.Nodes {
		if err := c.Ready(i); err != nil {
			c.Stop()
			return nil, err
		}
	}
	return c, nil
}

// Ready waits until a node has caught up with the cluster.
func (c *NATS) Ready(i int) error {
	url := fmt.Sprintf("http://%s:%d/healthz", c.addrs[i], natsMonitor)
	client := http.Client{Timeout: time.Second}
	return c.Nodes[i].until("health", 30*time.Second, func() bool {
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// Restart runs a node again that was stopped or killed; it does not wait for it.
func (c *NATS) Restart(i int) error { return c.Nodes[i].start() }

// URL is --store of a role.
func (c *NATS) URL() string {
	urls := make([]string, len(c.addrs))
	for i, a := range c.addrs {
		urls[i] = fmt.Sprintf("nats://%s:%d", a, natsPort)
	}
	return strings.Join(urls, ",")
}

// Stop ends all nodes.
func (c *NATS) Stop() {
	for _, p := range c.Nodes {
		p.Stop()
	}
}
