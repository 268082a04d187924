package sdp

import (
	"encoding/hex"
	"errors"
	"strings"
)

// Fingerprint is the digest of the certificate that the writer will show (RFC 8122, section 5).
type Fingerprint struct {
	Hash string // lower case: sha-256, sha-1, sha-512, ...
	Sum  []byte
}

// ParseFingerprint reads the value of a=fingerprint: "sha-256 AB:CD:...".
func ParseFingerprint(value string) (Fingerprint, error) {
	f := strings.Fields(value)
	if len(f) != 2 {
		return Fingerprint{}, errors.New("fingerprint: want a hash name and hex pairs")
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(f[1], ":", ""))
	if err != nil || len(sum) == 0 {
		return Fingerprint{}, errors.New("fingerprint: digest is not hex pairs")
	}
	return Fingerprint{Hash: strings.ToLower(f[0]), Sum: sum}, nil
}

// String is the value of the a=fingerprint line.
func (f Fingerprint) String() string {
	var b strings.Builder
	b.WriteString(f.Hash + " ")
	for i, pair := range f.Sum {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{pair})))
	}
	return b.String()
}

// Fingerprints lists those of the media, else those of the session. Unreadable ones are passed over.
func (m *Media) Fingerprints() []Fingerprint {
	values := m.Attrs("fingerprint")
	if len(values) == 0 {
		values = m.session.Attrs("fingerprint")
	}
	var fs []Fingerprint
	for _, v := range values {
		if f, err := ParseFingerprint(v); err == nil {
			fs = append(fs, f)
		}
	}
	return fs
}

// SetFingerprint makes f the only fingerprint of the media.
func (m *Media) SetFingerprint(f Fingerprint) { m.SetAttr("fingerprint", f.String()) }

// Setup is the DTLS role of the writer: active, passive, actpass, holdconn (RFC 4145), from the media or the session.
func (m *Media) Setup() string {
	v, _ := m.inherited("setup")
	return strings.ToLower(strings.TrimSpace(v))
}

// SetSetup writes the DTLS role at the media.
func (m *Media) SetSetup(role string) { m.SetAttr("setup", role) }

// TLSID tells DTLS associations apart (RFC 8842, section 4); "" is none.
func (m *Media) TLSID() string {
	v, _ := m.inherited("tls-id")
	return v
}

func (s *section) removeDTLS() { s.DelAttr("fingerprint", "setup", "tls-id", "connection") }

// RemoveDTLS takes fingerprint, setup, tls-id and connection out of the session and its media.
func (s *Session) RemoveDTLS() {
	s.removeDTLS()
	for _, m := range s.Media {
		m.removeDTLS()
	}
}

// RemoveDTLS takes fingerprint, setup, tls-id and connection out of the media; those of the session stay.
func (m *Media) RemoveDTLS() { m.removeDTLS() }
