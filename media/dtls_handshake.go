package media

import (
	"context"
	"errors"
	"io"

	piondtls "github.com/pion/dtls/v3"
	"github.com/pion/logging"
)

// srtpExporter is the label of RFC 5764 section 4.2.
const srtpExporter = "EXTRACTOR-dtls_srtp"

// dtlsProfiles are the protection profiles, best first (RFC 5764 section 4.1.2, RFC 7714 section 14.2). As server we choose by this
// order. GCM is both the strongest and, with the processor's help, the cheapest.
func dtlsProfiles() []piondtls.SRTPProtectionProfile {
	return []piondtls.SRTPProtectionProfile{
		piondtls.SRTP_AEAD_AES_128_GCM, piondtls.SRTP_AEAD_AES_256_GCM,
		piondtls.SRTP_AES128_CM_HMAC_SHA1_80, piondtls.SRTP_AES128_CM_HMAC_SHA1_32,
	}
}

func dtlsSuite(p piondtls.SRTPProtectionProfile) srtpSuite {
	switch p {
	case piondtls.SRTP_AEAD_AES_128_GCM:
		return srtpGCM128
	case piondtls.SRTP_AEAD_AES_256_GCM:
		return srtpGCM256
	case piondtls.SRTP_AES128_CM_HMAC_SHA1_80:
		return srtpCM128Tag80
	case piondtls.SRTP_AES128_CM_HMAC_SHA1_32:
		return srtpCM128Tag32
	}
	return srtpPlain
}

// dtlsKeys is what a handshake brings: the contexts, and the keys that made them, for a session record.
type dtlsKeys struct {
	suite         srtpSuite
	rx, tx        *srtpContext
	local, remote []byte // key and salt, one behind the other
}

// handshake runs one handshake until it has ended or ctx has. proven is the ClientHello with a cookie that began it, nil if none was
// asked for.
func (a *dtlsAgent) handshake(ctx context.Context, conn *dtlsConn, active bool, proven *dtlsProven, pins dtlsPins) (dtlsKeys, dtlsFault) {
	stranger := false
	shared := []piondtls.Option{
		piondtls.WithCertificates(a.cert),
		piondtls.WithSRTPProtectionProfiles(dtlsProfiles()...),
		piondtls.WithInsecureSkipVerify(true), // of a chain: the fingerprint is checked instead
		piondtls.WithVerifyConnection(func(s *piondtls.State) error {
			if len(s.PeerCertificates) == 0 || !pins.match(s.PeerCertificates[0]) {
				stranger = true
				return errors.New("the certificate is not the one that the SDP names")
			}
			return nil
		}),
		piondtls.WithFlightInterval(a.cfg.Retransmit),
		piondtls.WithLoggerFactory(&logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}),
	}
	var c *piondtls.Conn
	var err error
	if active {
		c, err = piondtls.ClientWithOptions(conn, dtlsPeer{}, clientOptions(shared)...)
	} else {
		c, err = piondtls.ServerWithOptions(conn, dtlsPeer{}, serverOptions(shared, proven == nil)...)
	}
	if err != nil {
		return dtlsKeys{}, dtlsProtocol
	}
	if proven != nil {
		conn.resume(proven, func() []byte { return pionCookie(c) })
	}
	err = c.HandshakeContext(ctx)
	conn.mute()
	defer c.Close()
	switch {
	case stranger:
		return dtlsKeys{}, dtlsFingerprint
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil:
		return dtlsKeys{}, dtlsTimeout
	case ctx.Err() != nil && err != nil:
		return dtlsKeys{}, dtlsCancelled
	case err != nil:
		return dtlsKeys{}, dtlsProtocol
	}
	return exportSRTP(c, active)
}

func clientOptions(shared []piondtls.Option) []piondtls.ClientOption {
	var opts []piondtls.ClientOption
	for _, o := range shared {
		opts = append(opts, o)
	}
	return opts
}

func serverOptions(shared []piondtls.Option, verified bool) []piondtls.ServerOption {
	opts := []piondtls.ServerOption{
		piondtls.WithClientAuth(piondtls.RequireAnyClientCert), // RFC 5763 section 5: both sides show one
		piondtls.WithInsecureSkipVerifyHello(verified),
	}
	for _, o := range shared {
		opts = append(opts, o)
	}
	return opts
}

// exportSRTP makes the contexts of both directions (RFC 5764 section 4.2: the client's key, the server's, and their salts).
func exportSRTP(c *piondtls.Conn, active bool) (dtlsKeys, dtlsFault) {
	profile, _ := c.SelectedSRTPProtectionProfile()
	k := dtlsKeys{suite: dtlsSuite(profile)}
	p, ok := k.suite.params()
	if !ok {
		return dtlsKeys{}, dtlsProtocol
	}
	state, ok := c.ConnectionState()
	if !ok {
		return dtlsKeys{}, dtlsProtocol
	}
	b, err := state.ExportKeyingMaterial(srtpExporter, nil, 2*(p.keyLen+p.saltLen))
	if err != nil {
		return dtlsKeys{}, dtlsProtocol
	}
	keys, salts := b[:2*p.keyLen], b[2*p.keyLen:]
	client := append(append([]byte(nil), keys[:p.keyLen]...), salts[:p.saltLen]...)
	server := append(append([]byte(nil), keys[p.keyLen:]...), salts[p.saltLen:]...)
	k.local, k.remote = server, client
	if active {
		k.local, k.remote = client, server
	}
	var errRx, errTx error
	k.rx, errRx = newSRTPContext(k.suite, k.remote[:p.keyLen], k.remote[p.keyLen:])
	k.tx, errTx = newSRTPContext(k.suite, k.local[:p.keyLen], k.local[p.keyLen:])
	if errRx != nil || errTx != nil {
		return dtlsKeys{}, dtlsProtocol
	}
	return k, dtlsOK
}
