package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificates holds the TLS configurations made of the certificate files, and makes new ones when the files change.
// Connections that are open keep what they began with.
type certificates struct {
	cfg TLSConfig
	log *slog.Logger

	current atomic.Pointer[tlsSet]

	mu     sync.Mutex // one reload at a time; guards the rest
	stamps []stamp
}

// tlsSet is immutable.
type tlsSet struct {
	sip  *tls.Config
	wss  *tls.Config
	dial *tls.Config
}

// stamp is what tells one version of a file from the next.
type stamp struct {
	modified time.Time
	size     int64
}

func loadCertificates(cfg TLSConfig, log *slog.Logger) (*certificates, error) {
	cs := &certificates{cfg: cfg, log: log}
	return cs, cs.reload()
}

// reload reads all files. On an error everything stays as it was.
func (cs *certificates) reload() error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	stamps := cs.look()
	set, err := cs.read()
	if err != nil {
		return err
	}
	cs.stamps = stamps
	cs.current.Store(set)
	return nil
}

func (cs *certificates) read() (*tlsSet, error) {
	// crypto/tls takes the first certificate that suits the client's SNI and signature algorithms, else the first of all.
	// RFC 5630 and RFC 8996: nothing below TLS 1.2.
	server := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, f := range cs.cfg.Files {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		server.Certificates = append(server.Certificates, cert)
	}
	server.Certificates = append(server.Certificates, cs.cfg.Certificates...)
	dial := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: server.Certificates, InsecureSkipVerify: cs.cfg.SkipVerify}
	var err error
	if cs.cfg.ClientCAs != "" {
		if server.ClientCAs, err = readPool(cs.cfg.ClientCAs); err != nil {
			return nil, fmt.Errorf("client authorities: %w", err)
		}
		server.ClientAuth = tls.VerifyClientCertIfGiven
		if cs.cfg.RequireClientCert {
			server.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	if cs.cfg.RootCAs != "" {
		if dial.RootCAs, err = readPool(cs.cfg.RootCAs); err != nil {
			return nil, fmt.Errorf("root authorities: %w", err)
		}
	}
	wss := server.Clone()
	wss.NextProtos = []string{"http/1.1"} // browsers offer h2 as well, which has no hijack
	return &tlsSet{sip: server, wss: wss, dial: dial}, nil
}

func readPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %w", file, errors.New("no PEM certificate in it"))
	}
	return pool, nil
}

func (cs *certificates) server(p Proto) *tls.Config {
	if p == WSS {
		return cs.current.Load().wss
	}
	return cs.current.Load().sip
}

func (cs *certificates) client(name string) *tls.Config {
	c := cs.current.Load().dial.Clone()
	c.ServerName = name
	return c
}

// watch looks at the files until ctx ends. Polling, since certificates are replaced by rename and through symbolic links,
// which inotify on the file does not see.
func (cs *certificates) watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !cs.changed() {
			continue
		}
		err := cs.reload()
		switch {
		case err == nil:
			cs.log.Info("certificates reloaded")
			said = ""
		case err.Error() != said: // once, not at every look
			said = err.Error()
			cs.log.Error("certificates not reloaded, the old ones stay", "error", err)
		}
	}
}

func (cs *certificates) changed() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	now := cs.look()
	for i := range now {
		if now[i] != cs.stamps[i] {
			return true
		}
	}
	return false
}

// look takes the stamp of every file; a missing file has the zero stamp.
func (cs *certificates) look() []stamp {
	names := []string{cs.cfg.ClientCAs, cs.cfg.RootCAs}
	for _, f := range cs.cfg.Files {
		names = append(names, f.Cert, f.Key)
	}
	stamps := make([]stamp, len(names))
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}
