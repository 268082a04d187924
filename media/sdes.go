package media

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rtcedge/media/sdp"
)

// SDES (RFC 4568): keys in the a=crypto lines of the SDP. Each side names the key that it sends with. Ours stays for the life of the
// stream, theirs may be new in every offer and answer.

// sdesPolicy says which suites are for a party, best first.
type sdesPolicy struct {
	suites []srtpSuite
}

// sdesSuites is the order of our offers: first what every phone has, since some look at one line only; 32 bit tags last. In answers
// the offerer's order counts.
func sdesSuites() []srtpSuite {
	return []srtpSuite{srtpCM128Tag80, srtpGCM128, srtpGCM256, srtpCM256Tag80, srtpCM256Tag32, srtpCM128Tag32}
}

// accepting is the policy for a received offer: "off" forbids only our own offers, as in rtpengine.
func (p sdesPolicy) accepting() sdesPolicy {
	if len(p.suites) == 0 {
		return sdesPolicy{suites: sdesSuites()}
	}
	return p
}

// newSDESPolicy reads the words of NG's SDES list: off, no-SUITE, only-SUITE, order:SUITE;SUITE. Others concern the form of our
// lines (pad, lifetime) and have no effect here.
func newSDESPolicy(words []string) sdesPolicy {
	p := sdesPolicy{suites: sdesSuites()}
	var only []srtpSuite
	for _, w := range words {
		if strings.EqualFold(w, "off") || strings.EqualFold(w, "disable") || strings.EqualFold(w, "no") {
			return sdesPolicy{}
		}
		if name, ok := sdesCut(w, "no-"); ok {
			p.suites = slices.DeleteFunc(p.suites, func(s srtpSuite) bool { return strings.EqualFold(s.String(), name) })
		} else if name, ok := sdesCut(w, "only-"); ok {
			only = append(only, sdesSuite(name))
		} else if list, ok := sdesCut(w, "order:"); ok {
			p.reorder(strings.Split(list, ";"))
		}
	}
	if only != nil {
		p.suites = slices.DeleteFunc(p.suites, func(s srtpSuite) bool { return !slices.Contains(only, s) })
	}
	return p
}

// reorder puts the named suites first.
func (p *sdesPolicy) reorder(names []string) {
	var first []srtpSuite
	for _, name := range names {
		if s := sdesSuite(name); slices.Contains(p.suites, s) && !slices.Contains(first, s) {
			first = append(first, s)
		}
	}
	rest := slices.DeleteFunc(p.suites, func(s srtpSuite) bool { return slices.Contains(first, s) })
	p.suites = append(first, rest...)
}

func sdesCut(word, prefix string) (string, bool) {
	if len(word) < len(prefix) || !strings.EqualFold(word[:len(prefix)], prefix) {
		return "", false
	}
	return word[len(prefix):], true
}

func sdesSuite(name string) srtpSuite { return srtpSuiteByName(strings.ToUpper(name)) }

// sdesKey is the key of one direction. It is plain data, for a session record.
type sdesKey struct {
	Suite   srtpSuite
	Tag     int
	KeySalt []byte // master key and master salt, one behind the other
	MKI     []byte // as it stands in packets; nil is none
}

func newSDESKey(suite srtpSuite, tag int) sdesKey {
	p, _ := suite.params()
	k := sdesKey{Suite: suite, Tag: tag, KeySalt: make([]byte, p.keyLen+p.saltLen)}
	rand.Read(k.KeySalt) // never fails (crypto/rand)
	return k
}

// same tells if two keys make the same context.
func (k sdesKey) same(o sdesKey) bool {
	return k.Suite == o.Suite && bytes.Equal(k.KeySalt, o.KeySalt) && bytes.Equal(k.MKI, o.MKI)
}

func (k sdesKey) line() sdp.Crypto {
	return sdp.Crypto{Tag: k.Tag, Suite: k.Suite.String(), Keys: []sdp.CryptoKey{{KeySalt: k.KeySalt, MKI: k.MKI}}}
}

func (k sdesKey) context() (*srtpContext, error) {
	p, ok := k.Suite.params()
	if !ok || len(k.KeySalt) != p.keyLen+p.saltLen {
		return nil, errors.New("sdes: no key was agreed on")
	}
	c, err := newSRTPContext(k.Suite, k.KeySalt[:p.keyLen], k.KeySalt[p.keyLen:])
	if err != nil {
		return nil, err
	}
	if err := c.useMKI(k.MKI); err != nil {
		return nil, err
	}
	return c, nil
}

// readSDESKey makes a key of a line that we can use; the error says why not.
func readSDESKey(l sdp.Crypto) (sdesKey, error) {
	suite := srtpSuiteByName(l.Suite)
	p, ok := suite.params()
	if !ok {
		return sdesKey{}, fmt.Errorf("suite %.40q unknown", l.Suite)
	}
	if len(l.Keys) != 1 {
		return sdesKey{}, fmt.Errorf("%d master keys, one is supported", len(l.Keys))
	}
	// A lifetime binds the one who sends with the key: he makes a new one before it ends (RFC 4568 section 6.1).
	k := l.Keys[0]
	if want := p.keyLen + p.saltLen; len(k.KeySalt) != want {
		return sdesKey{}, fmt.Errorf("key and salt of %d bytes, %s has %d", len(k.KeySalt), p.name, want)
	}
	if len(k.MKI) > srtpMaxMKI {
		return sdesKey{}, fmt.Errorf("MKI of %d bytes, at most %d", len(k.MKI), srtpMaxMKI)
	}
	for _, param := range l.Params {
		if !sdesParam(param) {
			return sdesKey{}, fmt.Errorf("session parameter %.40q not supported", param)
		}
	}
	return sdesKey{Suite: suite, Tag: l.Tag, KeySalt: k.KeySalt, MKI: k.MKI}, nil
}

// sdesParam tells if a session parameter asks for nothing that we lack. RFC 4568 section 6.3: what is unknown makes the line
// unusable, unless a minus in front says that it may be ignored.
func sdesParam(p string) bool {
	switch {
	case strings.HasPrefix(p, "-"), strings.HasPrefix(p, "WSH="), p == "KDR=0", p == "FEC_ORDER=FEC_SRTP":
		return true
	}
	return false
}

// sdesParty is the SDES state of one stream of one party, on the control side.
type sdesParty struct {
	Local  sdesKey // what we send with; zero until agreed on
	Remote sdesKey // what it sends with

	own []sdesKey // a key per suite that we have named to it

	rx, tx       *srtpContext
	rxKey, txKey *sdesKey // of rx and tx
}

// offer makes the lines for an offer to the party. A suite keeps its tag and key in each offer; the one in use comes first.
func (s *sdesParty) offer(policy sdesPolicy) []sdp.Crypto {
	var lines []sdp.Crypto
	for _, suite := range policy.suites {
		l := s.key(suite).line()
		if suite == s.Local.Suite {
			lines = slices.Insert(lines, 0, l)
		} else {
			lines = append(lines, l)
		}
	}
	return lines
}

// answered takes the party's answer to our offer.
func (s *sdesParty) answered(lines []sdp.Crypto) error {
	if len(lines) == 0 {
		return errors.New("sdes answer: no crypto line that can be read")
	}
	// RFC 4568 section 5.1.3: exactly one, by the tag of the line that was chosen. Phones that always write tag 1 exist, and each
	// of our suites is offered once: so the suite decides.
	remote, err := readSDESKey(lines[0])
	if err != nil {
		return fmt.Errorf("sdes answer: %w", err)
	}
	if !slices.ContainsFunc(s.own, func(k sdesKey) bool { return k.Suite == remote.Suite }) {
		return fmt.Errorf("sdes answer: %v was not offered", remote.Suite)
	}
	s.agree(s.key(remote.Suite), remote)
	return nil
}

// offered takes the party's offer and chooses its first line that we support and the policy allows.
func (s *sdesParty) offered(lines []sdp.Crypto, policy sdesPolicy) error {
	remote, err := usableLine(lines, policy)
	if err != nil {
		return err
	}
	local := s.key(remote.Suite)
	local.Tag = remote.Tag // RFC 4568 section 5.1.2: the answer names the tag of the line that it takes
	s.agree(local, remote)
	return nil
}

// usableLine finds the first line of an offer that we support and the policy allows.
func usableLine(lines []sdp.Crypto, policy sdesPolicy) (sdesKey, error) {
	reason := errors.New("no crypto line that can be read")
	for _, l := range lines {
		remote, err := readSDESKey(l)
		if err != nil {
			reason = err
			continue
		}
		if slices.Contains(policy.suites, remote.Suite) {
			return remote, nil
		}
		reason = fmt.Errorf("%v is not allowed", remote.Suite)
	}
	return sdesKey{}, fmt.Errorf("sdes offer: no usable line of %d: %w", len(lines), reason)
}

// answer is the line for our answer after offered.
func (s *sdesParty) answer() sdp.Crypto { return s.Local.line() }

// forget ends SRTP with the party. Should it come back, then with other keys: contexts start at index 0 again, and an
// index must not be used twice under one key.
func (s *sdesParty) forget() { *s = sdesParty{} }

// contexts returns what opens the party's packets and what seals packets to it. A context stays as long as its key does. A new
// receiver gets to know the one before it on the worker's goroutine (stream.adopt), which both belong to.
func (s *sdesParty) contexts() (rx, tx *srtpContext, err error) {
	if s.rx == nil || !s.rxKey.same(s.Remote) {
		rx, err := s.Remote.context()
		if err != nil {
			return nil, nil, err
		}
		key := s.Remote
		s.rx, s.rxKey = rx, &key
	}
	if s.tx == nil || !s.txKey.same(s.Local) {
		tx, err := s.Local.context()
		if err != nil {
			return nil, nil, err
		}
		key := s.Local
		s.tx, s.txKey = tx, &key
	}
	return s.rx, s.tx, nil
}

// key returns our key for a suite, made when first asked for.
func (s *sdesParty) key(suite srtpSuite) sdesKey {
	tag := 0
	for _, k := range s.own {
		if k.Suite == suite {
			return k
		}
		tag = max(tag, k.Tag)
	}
	k := newSDESKey(suite, tag+1)
	s.own = append(s.own, k)
	return k
}

// agree ends a negotiation. A key that goes out of use is never used again, for the reason that forget has.
func (s *sdesParty) agree(local, remote sdesKey) {
	if s.Local.Suite != local.Suite {
		s.own = slices.DeleteFunc(s.own, func(k sdesKey) bool { return k.Suite == s.Local.Suite })
	}
	s.Local, s.Remote = local, remote
}
