package homer

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"slices"

	"rtcedge/recovery/hep"
)

// kinds of Call-IDs, in the order in which they go.
const (
	kindOther = iota // no call, or one that nobody answered
	kindEnded        // each of its dialogs had its BYE
	kindOpen         // it rings
	kindCall         // a dialog lives
	kinds
)

// EvictedNames are the labels of Stats.Evicted.
func EvictedNames() [kinds]string { return [kinds]string{"other", "ended", "ringing", "call"} }

// maxDialogs are counted of one Call-ID, chosen by us: a forked INVITE has as many as phones answer at once.
const maxDialogs = 8

// kindAfter is the kind of a Call-ID behind one more message. It goes by responses: whatever a stranger asks for, a call is what was accepted, and it ends
// when its BYE is. A response counts where the request went to whoever sent it.
func (s *Store) kindAfter(c *call, p *hep.Packet) int {
	code := status(p.Payload)
	if code <= 100 {
		return c.kind
	}
	_, method, _ := bytes.Cut(hep.Field(p.Payload, "cseq", 0), []byte(" "))
	invite, bye := bytes.Equal(method, []byte("INVITE")), bytes.Equal(method, []byte("BYE"))
	if !invite && !bye || !c.asked(method, p.Source) {
		return c.kind
	}
	switch dialog := s.dialog(p.Payload); {
	case bye && code/100 == 2:
		c.dialogs = slices.DeleteFunc(c.dialogs, func(d uint64) bool { return d == dialog })
		if len(c.dialogs) == 0 && c.kind == kindCall {
			return kindEnded
		}
	case invite && code/100 == 2:
		if len(c.dialogs) < maxDialogs && !slices.Contains(c.dialogs, dialog) {
			c.dialogs = append(c.dialogs, dialog)
		}
		return kindCall
	case invite && code < 200 && c.kind == kindOther:
		return kindOpen
	case invite && code >= 300 && c.kind == kindOpen:
		return kindOther
	}
	return c.kind
}

// asked tells whether such a request went there.
func (c *call) asked(method []byte, to netip.AddrPort) bool {
	for i := len(c.messages) - 1; i >= 0; i-- {
		if m := &c.messages[i]; m.Destination == to && len(m.Raw) > len(method) && m.Raw[:len(method)] == string(method) && m.Raw[len(method)] == ' ' {
			return true
		}
	}
	return false
}

// dialog is the same number for both directions of a dialog.
func (s *Store) dialog(raw []byte) uint64 {
	return maphash.Bytes(s.seed, tagOf(hep.Field(raw, "from", 'f'))) ^ maphash.Bytes(s.seed, tagOf(hep.Field(raw, "to", 't')))
}

// tagOf is the tag of a From or To field.
func tagOf(value []byte) []byte {
	if end := bytes.LastIndexByte(value, '>'); end >= 0 {
		value = value[end+1:]
	}
	for len(value) > 0 {
		var param []byte
		param, value, _ = bytes.Cut(value, []byte(";"))
		if name, tag, ok := bytes.Cut(param, []byte("=")); ok && bytes.EqualFold(bytes.TrimSpace(name), []byte("tag")) {
			return bytes.TrimSpace(tag)
		}
	}
	return nil
}

// status is the code of a response; 0 is none.
func status(raw []byte) int {
	const version = "SIP/2.0 "
	if len(raw) < len(version)+3 || string(raw[:len(version)]) != version {
		return 0
	}
	code := 0
	for _, c := range raw[len(version) : len(version)+3] {
		if c < '0' || c > '9' {
			return 0
		}
		code = 10*code + int(c-'0')
	}
	return code
}
