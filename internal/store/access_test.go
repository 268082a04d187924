package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// TestF34StoreAsksWhoComes: the embedded server lets nobody in without its token, and an external one nobody without its account; who is not let in is
// told so, counted, and goes on trying.
func TestF34StoreAsksWhoComes(t *testing.T) {
	at := netip.MustParseAddrPort(freeAddr(t))
	own := open(t, Config{Listen: at, Token: "of the secret"})
	if _, err := bucket(t, own, "crashes").Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	friend := open(t, Config{URL: "nats://" + at.String(), Token: "of the secret"})
	if e, err := bucket(t, friend, "crashes").Get(t.Context(), "k"); err != nil || string(e.Value) != "v" {
		t.Fatalf("with the token: %s %v", e.Value, err)
	}
	for _, stranger := range []Config{
		{URL: "nats://" + at.String()},
		{URL: "nats://" + at.String(), Token: "guess"},
		{URL: "nats://user:password@" + at.String(), Token: "of the secret"}, // an account in the URL goes before it
	} {
		s := open(t, stranger)
		until(t, "the stranger is refused", func() bool { return s.Stats().Refused > 0 })
		if s.Stats().Connected {
			t.Errorf("%+v is connected", stranger)
		}
	}
	if !friend.Stats().Connected || friend.Stats().Refused != 0 {
		t.Errorf("the friend: %+v", friend.Stats())
	}

	if _, err := New(Config{Listen: netip.MustParseAddrPort("192.0.2.1:4222")}); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("a listener on a network without a token: %v", err)
	}
	if _, err := New(Config{URL: "mysql://user:hidden@192.0.2.1"}); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("the error of a wrong URL: %v", err)
	}
	if got := redact("nats://u:p@h:1,tls://p@ss@i:2,nats://j:3"); got != "nats://***@h:1,tls://***@i:2,nats://j:3" {
		t.Error(got)
	}
}

// TestF34StoreByTLS: an external server with an account and a certificate.
func TestF34StoreByTLS(t *testing.T) {
	cert, ca := certificate(t)
	srv, err := server.NewServer(&server.Options{JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, Host: "127.0.0.1", Port: server.RANDOM_PORT,
		Username: "rtcedge", Password: "pass", TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(startTimeout) {
		t.Fatal("the server is not ready")
	}
	at := srv.Addr().(*net.TCPAddr).String()
	good := open(t, Config{URL: "tls://rtcedge:pass@" + at, CA: ca})
	if _, err := bucket(t, good, "crashes").Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Config{{URL: "tls://rtcedge:pass@" + at}, {URL: "tls://rtcedge:guess@" + at, CA: ca}} { // certificate, password
		s := open(t, bad)
		until(t, "it is refused", func() bool { return s.Stats().Refused > 0 })
		if s.Stats().Connected {
			t.Errorf("%s is connected", bad.URL)
		}
	}
	if _, err := New(Config{URL: "nats://" + at, CA: ca}); err == nil {
		t.Error("certificates without TLS are taken")
	}
}

// certificate makes one of 127.0.0.1 that signs itself.
func certificate(t *testing.T) (cert tls.Certificate, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca
}
