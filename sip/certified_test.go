package sip

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/dispatch"
	"rtcedge/sip/transport"
)

// issuer is a certificate authority of a test.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t}
	c := i.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	i.cert, i.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	return i
}

// issue completes and signs; the first one signs itself.
func (i *issuer) issue(tmpl *x509.Certificate) tls.Certificate {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	tmpl.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := tmpl, key
	if i.cert != nil {
		parent, signer = i.cert, i.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		i.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func client(cn string, dns ...string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: dns, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// TestB08TrunkByCertificate: a provider that proves its name by a client certificate is not challenged; everybody else is.
func TestB08TrunkByCertificate(t *testing.T) {
	ca, other := newIssuer(t), newIssuer(t)
	server := ca.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	farm := newPeer(t, "127.0.0.1")
	secure := tcpOn("127.0.0.1")
	secure.Proto = transport.TLS
	cfg := Config{Auth: users(t), Trunks: []Trunk{{Certificate: "Carrier.example"}},
		Transport: transport.Config{Listeners: []transport.ListenerConfig{udpOn("127.0.0.1"), secure}, TLS: transport.TLSConfig{Certificates: []tls.Certificate{server}, ClientCAs: file}}}
	cfg.Farms.Farms[dispatch.Call] = []dispatch.NodeConfig{{Addr: farm.addr()}}
	p := start(t, cfg)
	at := p.Listeners()[1].Addr().String()
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	invite := func(id string, cert *tls.Certificate) string {
		t.Helper()
		tc := &tls.Config{RootCAs: roots}
		if cert != nil {
			// GetClientCertificate sends it also where the server's list of authorities does not fit.
			tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		c, err := tls.Dial("tcp", at, tc)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(c, "INVITE sip:600@%s SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:5070;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\nFrom: <sip:x@carrier.example>;tag=f\r\nTo: <sip:600@x>\r\nCall-ID: %[2]s\r\nCSeq: 1 INVITE\r\nContact: <sip:x@127.0.0.1>\r\nContent-Length: 0\r\n\r\n", at, id)
		if id == "passes" {
			return farm.get()
		}
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			return err.Error()
		}
		return string(b[:n])
	}
	right := ca.issue(client("any", "carrier.example"))
	if got := invite("passes", &right); !strings.HasPrefix(got, "INVITE sip:600@") {
		t.Errorf("the right certificate:\n%s", got)
	}
	wrong := ca.issue(client("carrier.example", "other.example"))
	for what, cert := range map[string]*tls.Certificate{"none": nil, "another name": &wrong} {
		if got := invite("no", cert); !strings.HasPrefix(got, "SIP/2.0 407 ") {
			t.Errorf("%s:\n%s", what, got)
		}
	}
	forged := other.issue(client("any", "carrier.example"))
	if got := invite("no", &forged); !strings.Contains(got, "certificate") {
		t.Errorf("a certificate of another authority:\n%s", got)
	}
	// Without the authorities nothing could be proved.
	cfg.Transport.TLS.ClientCAs = ""
	cfg.Secret = []byte("0123456789abcdef0123456789abcdef")
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "authorities") {
		t.Errorf("without authorities: %v", err)
	}
}

// TestB08CertificateNames: RFC 5922 section 7: a sip: URI counts more than a DNS name, that more than the common name; no wildcards.
func TestB08CertificateNames(t *testing.T) {
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	for what, c := range map[string]struct {
		cert x509.Certificate
		want bool
	}{
		"DNS":                 {x509.Certificate{DNSNames: []string{"a.example", "Carrier.Example"}}, true},
		"URI":                 {x509.Certificate{URIs: uri("sip:carrier.example")}, true},
		"URI of another":      {x509.Certificate{URIs: uri("sip:other.example"), DNSNames: []string{"carrier.example"}}, false},
		"URI of a person":     {x509.Certificate{URIs: uri("sip:joe@carrier.example")}, false},
		"common name":         {x509.Certificate{Subject: pkix.Name{CommonName: "carrier.example"}}, true},
		"common name besides": {x509.Certificate{Subject: pkix.Name{CommonName: "carrier.example"}, DNSNames: []string{"x.example"}}, false},
		"wildcard":            {x509.Certificate{DNSNames: []string{"*.example"}}, false},
		"nothing":             {x509.Certificate{}, false},
		"http URI and a DNS":  {x509.Certificate{URIs: uri("https://x"), DNSNames: []string{"carrier.example"}}, true},
	} {
		if got := certifies(&c.cert, "carrier.example"); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
