package media

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/pion/srtp/v3"
)

var srtpSuites = []srtpSuite{srtpCM128Tag80, srtpCM128Tag32, srtpCM256Tag80, srtpCM256Tag32, srtpGCM128, srtpGCM256}

// pionProfile is the reference's name of a suite.
func pionProfile(s srtpSuite) srtp.ProtectionProfile {
	return map[srtpSuite]srtp.ProtectionProfile{
		srtpCM128Tag80: srtp.ProtectionProfileAes128CmHmacSha1_80,
		srtpCM128Tag32: srtp.ProtectionProfileAes128CmHmacSha1_32,
		srtpCM256Tag80: srtp.ProtectionProfileAes256CmHmacSha1_80,
		srtpCM256Tag32: srtp.ProtectionProfileAes256CmHmacSha1_32,
		srtpGCM128:     srtp.ProtectionProfileAeadAes128Gcm,
		srtpGCM256:     srtp.ProtectionProfileAeadAes256Gcm,
	}[s]
}

// srtpKeysFor are fixed test keys.
func srtpKeysFor(s srtpSuite) (key, salt []byte) {
	p, _ := s.params()
	key, salt = make([]byte, p.keyLen), make([]byte, p.saltLen)
	for i := range key {
		key[i] = byte(i*7 + 1)
	}
	for i := range salt {
		salt[i] = byte(i*11 + 3)
	}
	return key, salt
}

func mustSRTP(t testing.TB, s srtpSuite) *srtpContext {
	t.Helper()
	key, salt := srtpKeysFor(s)
	c, err := newSRTPContext(s, key, salt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustPion(t testing.TB, s srtpSuite) *srtp.Context {
	t.Helper()
	key, salt := srtpKeysFor(s)
	c, err := srtp.CreateContext(key, salt, pionProfile(s))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// srtpTestRTP is an RTP packet with CSRCs and a header extension where asked for.
func srtpTestRTP(seq uint16, ssrc uint32, csrcs, extWords int, payload []byte) []byte {
	b := make([]byte, srtpHeaderMin, 64+len(payload))
	b[0] = 0x80 | byte(csrcs)
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], uint32(seq)*160)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	for i := range csrcs {
		b = binary.BigEndian.AppendUint32(b, uint32(0xc0c0c000+i))
	}
	if extWords >= 0 {
		b[0] |= 0x10
		b = append(b, 0xbe, 0xde)
		b = binary.BigEndian.AppendUint16(b, uint16(extWords))
		for range extWords {
			b = append(b, 0x10, 0xff, 0, 0)
		}
	}
	return append(b, payload...)
}

// srtpTestRTCP is a sender report of one sender with room for noise behind it.
func srtpTestRTCP(ssrc uint32, words int, r *rand.Rand) []byte {
	b := make([]byte, 8+4*words)
	b[0], b[1] = 0x80, 200
	binary.BigEndian.PutUint16(b[2:], uint16(1+words))
	binary.BigEndian.PutUint32(b[4:], ssrc)
	for i := 8; i < len(b); i++ {
		b[i] = byte(r.Uint32())
	}
	return b
}

// srtpTestRoom copies a packet into a buffer with the room behind it that the contexts ask for.
func srtpTestRoom(p []byte) []byte {
	b := make([]byte, len(p)+srtpRoom)
	copy(b, p)
	return b
}

func srtpTestNoise(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// TestB21SameAsPionBothWays compares every suite with an independent implementation: byte-equal SRTP and SRTCP one way, and
// what pion protects opens here. Sizes, CSRCs, extensions and sequence jumps are random, several rollovers included.
func TestB21SameAsPionBothWays(t *testing.T) {
	for _, suite := range srtpSuites {
		t.Run(suite.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(suite)))
			ours, theirs := mustSRTP(t, suite), mustPion(t, suite)
			open, theirOpen := mustSRTP(t, suite), mustPion(t, suite)
			seq := uint16(65000)
			for i := range 3000 {
				seq += uint16(1 + r.IntN(200))
				p := srtpTestRTP(seq, 0x11223344+uint32(i%2), r.IntN(16), r.IntN(6)-1, srtpTestNoise(r, r.IntN(1200)))
				want, err := theirs.EncryptRTP(nil, p, nil)
				if err != nil {
					t.Fatal(err)
				}
				buf := srtpTestRoom(p)
				n, ok := ours.protectRTP(buf, len(p))
				if !ok || !bytes.Equal(buf[:n], want) {
					t.Fatalf("packet %d (seq %d): protected differs from pion's", i, seq)
				}
				if plain, err := theirOpen.DecryptRTP(nil, buf[:n], nil); err != nil || !bytes.Equal(plain, p) {
					t.Fatalf("packet %d: pion does not open ours: %v", i, err)
				}
				copy(buf, want)
				n, fault := open.unprotectRTP(buf, len(want))
				if fault != faultNone || !bytes.Equal(buf[:n], p) {
					t.Fatalf("packet %d: fault %d opening pion's", i, fault)
				}
			}
			for i := range 500 {
				p := srtpTestRTCP(0x11223344+uint32(i%3), r.IntN(60), r)
				want, err := theirs.EncryptRTCP(nil, p, nil)
				if err != nil {
					t.Fatal(err)
				}
				buf := srtpTestRoom(p)
				n, ok := ours.protectRTCP(buf, len(p))
				if !ok {
					t.Fatalf("report %d not protected", i)
				}
				if plain, err := theirOpen.DecryptRTCP(nil, buf[:n], nil); err != nil || !bytes.Equal(plain, p) {
					t.Fatalf("report %d: pion does not open ours: %v", i, err)
				}
				copy(buf, want)
				n, fault := open.unprotectRTCP(buf, len(want))
				if fault != faultNone || !bytes.Equal(buf[:n], p) {
					t.Fatalf("report %d: fault %d opening pion's", i, fault)
				}
			}
		})
	}
}

type srtpVectors struct {
	B2 struct{ Key, IV, Keystream string } `json:"rfc3711_B2"`
	B3 struct {
		MasterKey  string `json:"master_key"`
		MasterSalt string `json:"master_salt"`
		CipherKey  string `json:"cipher_key"`
		CipherSalt string `json:"cipher_salt"`
		AuthKey    string `json:"auth_key_94"`
	} `json:"rfc3711_B3"`
	SRTP, SRTCP []srtpVector
}

type srtpVector struct {
	Profile    string
	MasterKey  string `json:"master_key"`
	MasterSalt string `json:"master_salt"`
	ROC        uint32
	Index      uint32
	RTP, SRTP  string
	RTCP       string
	SRTCP      string
}

func srtpUnhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestB21Vectors checks RFC 3711 B.2 and B.3 and packets of an implementation that reproduces libsrtp's.
func TestB21Vectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/srtp-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v srtpVectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}

	key, salt := srtpUnhex(t, v.B3.MasterKey), srtpUnhex(t, v.B3.MasterSalt)
	for label, want := range map[byte]string{
		srtpLabelCipher: v.B3.CipherKey, srtpLabelAuth: v.B3.AuthKey, srtpLabelSalt: v.B3.CipherSalt,
	} {
		got := make([]byte, len(want)/2)
		master, err := srtpMaster(key)
		if err != nil {
			t.Fatal(err)
		}
		srtpDerive(master, salt, label, got)
		if hex.EncodeToString(got) != want {
			t.Errorf("B.3 label %d: %x, want %s", label, got, want)
		}
	}
	// The keystream of B.2 is that of a derivation with the IV as salt.
	got := make([]byte, len(v.B2.Keystream)/2)
	master, err := srtpMaster(srtpUnhex(t, v.B2.Key))
	if err != nil {
		t.Fatal(err)
	}
	srtpDerive(master, srtpUnhex(t, v.B2.IV)[:14], 0, got)
	if hex.EncodeToString(got) != v.B2.Keystream {
		t.Errorf("B.2: %x, want %s", got, v.B2.Keystream)
	}

	for i, e := range v.SRTP {
		plain, sealed := srtpUnhex(t, e.RTP), srtpUnhex(t, e.SRTP)
		st := srtpState{Streams: []srtpStreamState{{
			SSRC: binary.BigEndian.Uint32(plain[8:]), RTP: e.ROC > 0, ROC: e.ROC - 1, Seq: 0xffff,
		}}}
		c := vectorContext(t, e)
		c.restoreSender(st)
		buf := srtpTestRoom(plain)
		if n, ok := c.protectRTP(buf, len(plain)); !ok || !bytes.Equal(buf[:n], sealed) {
			t.Errorf("srtp %d: protected %x, want %x", i, buf[:n], sealed)
		}
		c = vectorContext(t, e)
		c.restoreReceiver(st)
		copy(buf, sealed)
		if n, fault := c.unprotectRTP(buf, len(sealed)); fault != faultNone || !bytes.Equal(buf[:n], plain) {
			t.Errorf("srtp %d: fault %d", i, fault)
		}
	}
	for i, e := range v.SRTCP {
		plain, sealed := srtpUnhex(t, e.RTCP), srtpUnhex(t, e.SRTCP)
		c := vectorContext(t, e)
		c.restoreReceiver(srtpState{Streams: []srtpStreamState{{
			SSRC: binary.BigEndian.Uint32(plain[4:]), RTCP: true, RTCPIndex: e.Index - 1,
		}}})
		buf := srtpTestRoom(plain)
		if n, ok := c.protectRTCP(buf, len(plain)); !ok || !bytes.Equal(buf[:n], sealed) {
			t.Errorf("srtcp %d: protected %x, want %x", i, buf[:n], sealed)
		}
		c = vectorContext(t, e)
		copy(buf, sealed)
		if n, fault := c.unprotectRTCP(buf, len(sealed)); fault != faultNone || !bytes.Equal(buf[:n], plain) {
			t.Errorf("srtcp %d: fault %d", i, fault)
		}
	}
}

func vectorContext(t *testing.T, e srtpVector) *srtpContext {
	t.Helper()
	c, err := newSRTPContext(srtpSuiteByName(e.Profile), srtpUnhex(t, e.MasterKey), srtpUnhex(t, e.MasterSalt))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
