package mediatest

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/pion/srtp/v3"

	"rtcedge/media/sdp"
)

// suite is an SDES suite as pion knows it.
type suite struct {
	name            string
	profile         srtp.ProtectionProfile
	keyLen, saltLen int
}

func lookupSuite(name string) (suite, bool) {
	for _, s := range []suite{
		{"AES_CM_128_HMAC_SHA1_80", srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
		{"AES_CM_128_HMAC_SHA1_32", srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
		{"AES_256_CM_HMAC_SHA1_80", srtp.ProtectionProfileAes256CmHmacSha1_80, 32, 14},
		{"AES_256_CM_HMAC_SHA1_32", srtp.ProtectionProfileAes256CmHmacSha1_32, 32, 14},
		{"AEAD_AES_128_GCM", srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
		{"AEAD_AES_256_GCM", srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
	} {
		if s.name == name {
			return s, true
		}
	}
	return suite{}, false
}

// newCryptoLine makes an a=crypto line with a fresh key.
func newCryptoLine(tag int, name string) (sdp.Crypto, error) {
	s, ok := lookupSuite(name)
	if !ok {
		return sdp.Crypto{}, fmt.Errorf("crypto suite %q unknown", name)
	}
	key := make([]byte, s.keyLen+s.saltLen)
	rand.Read(key)
	return sdp.Crypto{Tag: tag, Suite: name, Keys: []sdp.CryptoKey{{KeySalt: key}}}, nil
}

// cryptoContext makes pion's context of a line.
func cryptoContext(c sdp.Crypto) (*srtp.Context, error) {
	s, ok := lookupSuite(c.Suite)
	if !ok {
		return nil, fmt.Errorf("crypto suite %q unknown", c.Suite)
	}
	if len(c.Keys) != 1 || len(c.Keys[0].KeySalt) != s.keyLen+s.saltLen {
		return nil, errors.New("crypto line has no key of the suite's length")
	}
	key := c.Keys[0].KeySalt
	return srtp.CreateContext(key[:s.keyLen], key[s.keyLen:], s.profile,
		srtp.SRTPReplayProtection(256), srtp.SRTCPReplayProtection(256))
}
