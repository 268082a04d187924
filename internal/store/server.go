package store

import (
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// startServer runs JetStream inside the process. done ends it and removes what was temporary.
func startServer(cfg Config) (srv *server.Server, done func(), err error) {
	dir := cfg.Dir
	remove := func() {}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "rtcedge-store-"); err != nil {
			return nil, nil, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
	}
	name := strings.ReplaceAll(cfg.Name, " ", "-") // NATS takes no blanks
	o := &server.Options{ServerName: name, JetStream: true, StoreDir: dir, DontListen: !cfg.Listen.IsValid(), NoSigs: true, NoLog: true, MaxControlLine: 4096,
		Authorization: cfg.Token}
	if cfg.Listen.IsValid() {
		o.Host, o.Port = cfg.Listen.Addr().String(), int(cfg.Listen.Port())
		if o.Port == 0 {
			o.Port = server.RANDOM_PORT
		}
	}
	if srv, err = server.NewServer(o); err != nil {
		remove()
		return nil, nil, err
	}
	srv.Start()
	done = func() {
		srv.Shutdown()
		srv.WaitForShutdown()
		remove()
	}
	if !srv.ReadyForConnections(startTimeout) {
		done()
		return nil, nil, fmt.Errorf("not ready after %v (folder %s)", startTimeout, dir)
	}
	return srv, done, nil
}
