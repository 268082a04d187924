//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/netip"
)

// node is one farm node: it answers whatever the proxy brings.
type node struct {
	*udpSocket
	l       *load
	contact string
	answer  string // the 200's last lines and its SDP
	f       fields
}

func newNode(l *load, s *udpSocket) *node {
	host := s.local.String()
	n := &node{udpSocket: s, l: l, contact: "Contact: <sip:farm@" + host + ">\r\n"}
	sdp := fmt.Sprintf("v=0\r\no=farm 1837 1838 IN IP4 %[1]s\r\ns=farm\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio 12000 RTP/AVP 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n", s.local.Addr())
	n.answer = fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(sdp), sdp)
	return n
}

// take handles one message from the proxy.
func (n *node) take(b []byte, arrived int64) {
	f := &n.f
	if !f.scan(b) {
		n.l.strange++
		return
	}
	if bytes.HasPrefix(f.first, []byte("OPTIONS ")) { // a probe
		n.respond("SIP/2.0 200 OK\r\n", false, kinds, emptyBody)
		return
	}
	c, _ := n.l.callOf(f)
	if c == nil {
		return
	}
	switch f.first[0] {
	case 'I':
		if n.l.arrive(c, kindInvite, b, f, arrived) {
			n.respond("SIP/2.0 100 Trying\r\n", false, kindTrying, emptyBody)
			n.respond("SIP/2.0 180 Ringing\r\n", true, kindRinging, emptyBody)
			n.respond("SIP/2.0 200 OK\r\n", true, kindAnswer, n.answer)
		}
	case 'A':
		n.l.arrive(c, kindAck, b, f, arrived)
	case 'B':
		if n.l.arrive(c, kindBye, b, f, arrived) {
			n.respond("SIP/2.0 200 OK\r\n", false, kindByeOK, emptyBody)
		}
	case 'R':
		if n.l.arrive(c, kindAuthorised, b, f, arrived) {
			n.respond("SIP/2.0 200 OK\r\n", false, kindRegistered, emptyBody)
		}
	default:
		n.l.strange++
	}
}

// server is what Asterisk tells about itself in every answer.
const server = "Server: Asterisk PBX 22.5.2 (sipload)\r\n" +
	"Allow: OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, MESSAGE, REFER\r\n" +
	"Supported: 100rel, timer, replaces, norefersub, histinfo\r\n"

const emptyBody = "Content-Length: 0\r\n\r\n"

// respond answers the request in n.f, RFC 3261 section 8.2.6. A dialog-making answer has a To tag, Record-Route and Contact.
func (n *node) respond(line string, dialog bool, k kind, rest string) {
	f := &n.f
	b := append(n.slot(), line...)
	for i := range f.vias {
		b = append(b, f.via[i]...)
	}
	if dialog {
		for i := range f.routes {
			b = append(b, f.route[i]...)
		}
	}
	b = append(b, f.from...)
	if dialog && !bytes.Contains(f.to, []byte(";tag=")) {
		b = append(append(b, f.to[:len(f.to)-2]...), ";tag=7f3a51c09b2e4d68\r\n"...)
	} else {
		b = append(b, f.to...)
	}
	b = append(append(b, f.callID...), f.cseq...)
	if dialog {
		b = append(append(b, n.contact...), "P-Asserted-Identity: \"The Callee\" <sip:4930123456@127.0.0.1>\r\n"...)
	}
	if k == kindRegistered {
		b = append(append(b, f.contact[:len(f.contact)-2]...), "\r\n"...)
	}
	b = append(b, server+stampName...)
	stamp := len(b)
	n.queue(append(append(b, noStamp+"\r\n"...), rest...), stamp)
	if k < kinds {
		n.l.sent[k]++
	}
}

// nodeAddr is the address of the i-th farm node: one loopback address each.
func nodeAddr(first netip.AddrPort, i int) netip.AddrPort {
	a := first.Addr()
	for range i {
		a = a.Next()
	}
	return netip.AddrPortFrom(a, first.Port())
}
