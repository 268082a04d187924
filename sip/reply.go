package sip

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// ownTagPrefix starts the To tags that we make; the rest proves it.
const ownTagPrefix = "vbe-"

// refuse answers a request with an error and counts why. An ACK gets no answer (RFC 3261 section 17.1.1.3).
func (p *Proxy) refuse(c *pass, code int, reason string, why Drop) {
	c.drop(why)
	if c.msg.Method() != message.Ack {
		p.reply(c, code, reason)
	}
}

// reply answers without state: RFC 3261 sections 8.2.6 and 8.2.7. c.extra holds whole header fields to add.
func (p *Proxy) reply(c *pass, code int, reason string) {
	b, ok := p.buildReply(c, code, reason, false)
	// No amplifier: to an address that may be forged no more bytes leave than came in. Compact names save about 30.
	if ok && !c.proven && len(b) > len(c.raw) {
		b, ok = p.buildReply(c, code, reason, true)
		if ok && len(b) > len(c.raw) && !p.credit.pays(p.key, c.dest, len(c.raw), len(b), c.now) {
			c.drop(DropAmplify)
			return
		}
	}
	if !ok {
		c.drop(DropTooLarge)
		return
	}
	to := transport.Target{Listener: c.in.Listener, Addr: c.dest, Flow: c.in.Flow}
	if c.send.Send(b, to) != nil {
		c.drop(DropSend)
		return
	}
	c.count.replies[code].Add(1)
	p.tapOut(to, b)
}

// replyNames are the names of the fields that an answer copies: long and compact.
var replyNames = [...][2]string{message.ViaField: {"Via: ", "v:"}, message.From: {"From: ", "f:"}, message.To: {"To: ", "t:"},
	message.CallID: {"Call-ID: ", "i:"}, message.CSeq: {"CSeq: ", "CSeq:"}}

// buildReply writes the answer: what RFC 3261 section 8.2.6.2 wants copied and no more. Of a response that is turned down our own
// Via stays out.
func (p *Proxy) buildReply(c *pass, code int, reason string, compact bool) (out []byte, ok bool) {
	m := &c.msg
	size := 512 + len(c.extra)
	for i := range m.Fields() {
		if f := &m.Fields()[i]; copied(f.Kind) {
			size += int(f.End-f.Start) + 8
		}
	}
	if size > cap(c.out) {
		return nil, false
	}
	form := 0
	if compact {
		form = 1
	}
	b := append(c.out[:0], "SIP/2.0 "...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(append(append(b, ' '), reason...), "\r\n"...)
	for i := range m.Fields() {
		f := &m.Fields()[i]
		if !copied(f.Kind) || f.Kind != message.ViaField && f != m.First(f.Kind) {
			continue
		}
		mark := len(b)
		b = append(b, replyNames[f.Kind][form]...)
		at := len(b)
		switch {
		case f.Kind == message.ViaField && f == m.First(message.ViaField):
			b = p.appendTopVia(b, c, f)
		case f.Kind == message.To && (len(m.ToTag()) == 0 || !m.Request()):
			b = p.appendTo(b, c, f)
		default:
			b = append(b, m.Value(f)...)
		}
		if len(b) == at {
			b = b[:mark]
			continue
		}
		b = append(b, "\r\n"...)
	}
	b = append(b, c.extra...)
	if compact {
		return append(b, "l:0\r\n\r\n"...), true
	}
	return append(b, "Content-Length: 0\r\n\r\n"...), true
}

// appendTopVia writes the first Via field: completed for the sender of a request, without our value for that of a response.
func (p *Proxy) appendTopVia(b []byte, c *pass, f *message.Field) []byte {
	m := &c.msg
	if !m.Request() {
		_, rest, _ := message.NextValue(m.Value(f))
		return append(b, rest...)
	}
	v := m.Via()
	at := len(b)
	if b = appendReceived(b, v, m, c.from); len(b) == at {
		b = append(b, v.Raw...)
	}
	return append(b, m.Bytes()[m.At(v.Raw)+len(v.Raw):f.ValEnd]...)
}

func copied(k message.Kind) bool {
	switch k {
	case message.ViaField, message.From, message.To, message.CallID, message.CSeq:
		return true
	}
	return false
}

// appendTo writes To with a tag of ours, in place of the one that a turned-down response has.
func (p *Proxy) appendTo(b []byte, c *pass, f *message.Field) []byte {
	m := &c.msg
	tag := m.ToTag()
	if len(tag) == 0 {
		b = append(append(b, m.Value(f)...), ";tag="...)
		return p.appendTag(b, m)
	}
	at := m.At(tag)
	b = append(b, m.Bytes()[f.Val:at]...)
	b = p.appendTag(b, m)
	return append(b, m.Bytes()[at+len(tag):f.ValEnd]...)
}

// appendTag writes the To tag that we recognise in the ACK: a keyed hash of what answer and ACK have in common.
func (p *Proxy) appendTag(b []byte, m *message.Message) []byte {
	var sum [8]byte
	binary.LittleEndian.PutUint64(sum[:], p.key.sign(hashToTag, m.CallID(), m.FromTag()))
	return base64.RawURLEncoding.AppendEncode(append(b, ownTagPrefix...), sum[:])
}

// ownTag tells if a To tag is one that we made for this call.
func (p *Proxy) ownTag(m *message.Message, tag []byte) bool {
	if len(tag) != len(ownTagPrefix)+11 || string(tag[:len(ownTagPrefix)]) != ownTagPrefix {
		return false
	}
	var b [32]byte
	return string(p.appendTag(b[:0], m)) == string(tag)
}
