package media

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"

	"rtcedge/media/sdp"
)

// Roles of a=setup (RFC 4145 section 4, RFC 5763 section 5).
const (
	setupActive  = "active"
	setupPassive = "passive"
	setupActpass = "actpass"
)

// answerSetup chooses our role in the answer to an offer with this a=setup; "" is none. Where the offerer leaves it to us we are
// passive: it sends its ClientHello when it is ready, and we are ready always. preferActive is NG's DTLS=active.
func answerSetup(offered string, preferActive bool) (ours string, err error) {
	switch offered {
	case setupActpass:
		if preferActive {
			return setupActive, nil
		}
		return setupPassive, nil
	case setupActive, "": // RFC 4145 section 4: the default of an offer
		return setupPassive, nil
	case setupPassive:
		return setupActive, nil
	}
	return "", fmt.Errorf("setup %.20q: want actpass, active or passive", offered)
}

// answeredSetup is our role by the answer to our offer of actpass.
func answeredSetup(answer string) (active bool, err error) {
	switch answer {
	case setupActive, setupActpass: // actpass in an answer is wrong (RFC 5763 section 5); who writes it waits for nobody
		return false, nil
	case setupPassive, "": // RFC 4145 section 4: the default of an answer
		return true, nil
	}
	return false, fmt.Errorf("setup %.20q in an answer: want active or passive", answer)
}

// dtlsPins are the digests one of which the peer's certificate must have.
type dtlsPins []sdp.Fingerprint

// newDTLSPins takes from a party's fingerprints those of the best hash that we know: one of them must be right (RFC 8122 section
// 5). MD5 and MD2 are none.
func newDTLSPins(all []sdp.Fingerprint) (dtlsPins, error) {
	if len(all) == 0 {
		return nil, errors.New("fingerprint is needed for DTLS-SRTP")
	}
	for _, hash := range [...]string{"sha-512", "sha-384", "sha-256", "sha-1"} {
		var pins dtlsPins
		for _, f := range all {
			if f.Hash == hash && len(f.Sum) == len(dtlsDigest(hash, nil)) {
				pins = append(pins, f)
			}
		}
		if pins != nil {
			return pins, nil
		}
	}
	return nil, fmt.Errorf("fingerprint with hash %.20q: want sha-256, sha-384, sha-512 or sha-1", all[0].Hash)
}

// match tells if a certificate is one of those that the SDP named.
func (p dtlsPins) match(der []byte) bool {
	return slices.ContainsFunc(p, func(f sdp.Fingerprint) bool { return bytes.Equal(f.Sum, dtlsDigest(f.Hash, der)) })
}

func (p dtlsPins) equal(o dtlsPins) bool {
	return slices.EqualFunc(p, o, func(a, b sdp.Fingerprint) bool { return a.Hash == b.Hash && bytes.Equal(a.Sum, b.Sum) })
}

func dtlsDigest(hash string, der []byte) []byte {
	switch hash {
	case "sha-512":
		sum := sha512.Sum512(der)
		return sum[:]
	case "sha-384":
		sum := sha512.Sum384(der)
		return sum[:]
	case "sha-256":
		sum := sha256.Sum256(der)
		return sum[:]
	}
	sum := sha1.Sum(der)
	return sum[:]
}
