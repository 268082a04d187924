package mediatest

import (
	"context"
	"crypto/sha256"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"rtcedge/media/sdp"
)

// TestDTLS: a peer shakes hands with the certificate that the answer names, opens what is sealed with those keys, and counts what comes of another handshake.
func TestDTLS(t *testing.T) {
	p := newPeer(t, Config{DTLS: true, RTCPInterval: -1, Loop: true})
	if _, err := p.Offer(); err != nil {
		t.Fatal(err)
	}
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	at := sock.LocalAddr().(*net.UDPAddr).AddrPort()
	answer := sdp.New(sdp.Origin{ID: "1", Version: "1"}, at.Addr())
	m := answer.AddMedia("audio", int(at.Port()), dtlsProfile, sdp.Codec{PT: 0, Name: "PCMU", Rate: 8000, Channels: 1})
	sum := sha256.Sum256(cert.Certificate[0])
	m.SetFingerprint(sdp.Fingerprint{Hash: "sha-256", Sum: sum[:]})
	m.SetSetup("passive")
	if err := p.SetAnswer(answer.Bytes()); err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.Addr().Port())
	server, err := dtls.ServerWithOptions(sock, net.UDPAddrFromAddrPort(to), dtls.WithCertificates(cert), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	limit, end := context.WithTimeout(ctx, 10*time.Second)
	defer end()
	if err := server.HandshakeContext(limit); err != nil {
		t.Fatal(err)
	}
	state, _ := server.ConnectionState()
	cfg := srtp.Config{Profile: srtp.ProtectionProfileAes128CmHmacSha1_80}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, false); err != nil {
		t.Fatal(err)
	}
	seal, err := srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	if err != nil {
		t.Fatal(err)
	}
	before := p.Report()
	for seq := uint16(65530); p.Report().Received < 20 && limit.Err() == nil; seq++ { // the peer may have its keys a little later
		b, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, SequenceNumber: seq, Timestamp: uint32(seq) * 160}, Payload: make([]byte, 160)}).Marshal()
		if b, err = seal.EncryptRTP(nil, b, nil); err != nil {
			t.Fatal(err)
		}
		_, _ = sock.WriteToUDPAddrPort(b, to)
		time.Sleep(5 * time.Millisecond)
	}
	_, _ = sock.WriteToUDPAddrPort([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, to)
	for p.Report().DTLS.Late == before.DTLS.Late && limit.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if r := p.Report(); r.DTLS.Err != nil || r.Received < 20 || r.DTLS.Late != before.DTLS.Late+1 || len(r.SSRCs) != 1 {
		t.Errorf("after the handshake: %+v, %d packets, SSRCs %v", r.DTLS, r.Received, r.SSRCs)
	}
}
