package mediatest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/srtp/v3"

	"rtcedge/media/sdp"
)

const (
	dtlsProfile = "UDP/TLS/RTP/SAVP"
	dtlsSuite   = "AES_CM_128_HMAC_SHA1_80" // the one that the peer takes from use_srtp
)

// dtlsEnd is the peer's side of DTLS-SRTP (RFC 5763 and 5764). It is the client, and only once: whoever wants another handshake is not served.
type dtlsEnd struct {
	cert tls.Certificate
	lib  *net.UDPConn // pion's
	pipe *net.UDPConn // what lib talks to, as if it were the far end
}

func newDTLSEnd() (*dtlsEnd, error) {
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		return nil, err
	}
	d := &dtlsEnd{cert: cert}
	local := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	if d.lib, err = net.ListenUDP("udp4", local); err != nil {
		return nil, err
	}
	if d.pipe, err = net.ListenUDP("udp4", local); err != nil {
		d.lib.Close()
		return nil, err
	}
	return d, nil
}

func (d *dtlsEnd) close() {
	d.lib.Close()
	d.pipe.Close()
}

// describe puts the fingerprint in, and the role: the client's.
func (d *dtlsEnd) describe(m *sdp.Media, role string) {
	sum := sha256.Sum256(d.cert.Certificate[0])
	m.SetFingerprint(sdp.Fingerprint{Hash: "sha-256", Sum: sum[:]})
	m.SetSetup(role)
}

// agree checks the far end's side.
func (d *dtlsEnd) agree(m *sdp.Media, s *session) error {
	prints := m.Fingerprints()
	i := slices.IndexFunc(prints, func(f sdp.Fingerprint) bool { return f.Hash == "sha-256" })
	switch role := m.Setup(); {
	case i < 0:
		return errors.New("the SDP has no fingerprint of sha-256")
	case role != "passive" && role != "actpass":
		return fmt.Errorf("the far end's DTLS role is %q, and this peer is the client", role)
	}
	s.suite, s.print = dtlsSuite, string(prints[i].Sum)
	return nil
}

// handshake makes the keys, before which nothing is sent.
func (p *Peer) handshake(ctx context.Context) {
	s := p.session.Load()
	if s == nil {
		return
	}
	go func() {
		for buf := make([]byte, 2048); ; {
			n, err := p.dtls.pipe.Read(buf)
			if err != nil {
				return
			}
			_, _ = p.rtp.WriteToUDPAddrPort(buf[:n], s.rtp)
		}
	}()
	keys, err := p.dtls.keys(ctx, s.print)
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.tx, err = srtp.CreateContext(keys.LocalMasterKey, keys.LocalMasterSalt, srtp.ProtectionProfileAes128CmHmacSha1_80)
	}
	if err == nil {
		p.rx, err = srtp.CreateContext(keys.RemoteMasterKey, keys.RemoteMasterSalt, srtp.ProtectionProfileAes128CmHmacSha1_80,
			srtp.SRTPReplayProtection(256), srtp.SRTCPReplayProtection(256))
	}
	p.in.dtls.Err = err
}

func (d *dtlsEnd) keys(ctx context.Context, print string) (*srtp.SessionKeys, error) {
	conn, err := dtls.ClientWithOptions(d.lib, d.pipe.LocalAddr(), dtls.WithCertificates(d.cert), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80))
	if err != nil {
		return nil, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("DTLS: %w", err)
	}
	state, ok := conn.ConnectionState()
	if !ok || len(state.PeerCertificates) == 0 {
		return nil, errors.New("DTLS: the far end has no certificate")
	}
	// RFC 5763 section 5: the certificate is that of the SDP.
	if sum := sha256.Sum256(state.PeerCertificates[0]); string(sum[:]) != print {
		return nil, errors.New("DTLS: the far end's certificate is not that of its SDP")
	}
	cfg := srtp.Config{Profile: srtp.ProtectionProfileAes128CmHmacSha1_80}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, true); err != nil {
		return nil, err
	}
	return &cfg.Keys, nil
}

// takeDTLS is a packet of a handshake.
func (p *Peer) takeDTLS(b []byte) {
	p.mu.Lock()
	keyed := p.rx != nil
	if keyed {
		p.in.dtls.Late++
	}
	p.mu.Unlock()
	if !keyed {
		_, _ = p.dtls.pipe.WriteTo(b, p.dtls.lib.LocalAddr())
	}
}
