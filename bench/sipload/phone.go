//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// link is a phone's way to the proxy: a UDP socket or a connection. A message is written into slot and given to queue.
type link interface {
	slot() []byte
	queue(b []byte, stamp int)
	flush()
	receive(take func(b []byte, arrived int64)) int
	close()
}

// phone is one user agent; thousands of calls share it, each with its own serial number in Call-ID, tags and branches.
type phone struct {
	link
	l        *load
	via      string
	invite   template
	register template
	f        fields
}

// template is a message with places for the serial number, the run and the time.
type template struct {
	text    []byte
	serials []int
	runs    []int
	users   []int
	stamp   int
}

// The placeholders of a template, each as long as what goes there.
const (
	holeSerial = "########"
	holeRun    = "~~~~"
	holeUser   = "u%%%%%"
	noStamp    = "0000000000000000"
)

func newTemplate(text string) template {
	t := template{text: []byte(text), stamp: strings.Index(text, stampName) + len(stampName)}
	for _, h := range []struct {
		hole string
		list *[]int
	}{{holeSerial, &t.serials}, {holeRun, &t.runs}, {holeUser, &t.users}} {
		for at := 0; ; {
			i := strings.Index(text[at:], h.hole)
			if i < 0 {
				break
			}
			*h.list = append(*h.list, at+i)
			at += i + len(h.hole)
		}
	}
	return t
}

func (t *template) fill(b []byte, serial, run uint64, user int) []byte {
	b = append(b, t.text...)
	for _, at := range t.serials {
		putHex(b[at:at+serialSize], serial)
	}
	for _, at := range t.runs {
		putHex(b[at:at+len(holeRun)], run)
	}
	for _, at := range t.users {
		for i, n := len(holeUser)-1, user; i > 0; i, n = i-1, n/10 {
			b[at+i] = byte('0' + n%10)
		}
	}
	return b
}

// userAgent is what a phone tells about itself: the bytes are there because those of real phones are.
const userAgent = "User-Agent: sipload/1.0 (bench; a phone; 001122aabbcc)\r\n" +
	"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO, PRACK\r\nSupported: replaces, timer, path\r\n"

func newPhone(l *load, k link, proto string, local netip.AddrPort) *phone {
	p := &phone{link: k, l: l}
	host := local.String()
	p.via = "Via: SIP/2.0/" + strings.ToUpper(proto) + " " + host + ";rport;branch=z9hG4bK"
	contact := "<sip:caller@" + host
	if proto != "udp" {
		contact += ";transport=" + proto
	}
	contact += ">"
	callID := "Call-ID: " + holeSerial + holeRun + "@sipload\r\n"
	sdp := fmt.Sprintf("v=0\r\no=caller 3724394400 3724394400 IN IP4 %[1]s\r\ns=call\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0 8 9 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"+
		"a=ptime:20\r\na=sendrecv\r\n", local.Addr())
	p.invite = newTemplate("INVITE sip:4930123456@" + l.domain + " SIP/2.0\r\n" + p.via + holeSerial + holeRun + "i\r\nMax-Forwards: 70\r\n" +
		"From: \"The Caller\" <sip:caller@" + l.domain + ">;tag=" + holeSerial + "\r\nTo: <sip:4930123456@" + l.domain + ">\r\n" + callID +
		"CSeq: 1 INVITE\r\nContact: " + contact + "\r\n" +
		"Session-Expires: 1800\r\nMin-SE: 90\r\n" + userAgent + stampName + noStamp + "\r\nContent-Type: application/sdp\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(sdp), sdp))
	p.register = newTemplate("REGISTER sip:" + l.domain + " SIP/2.0\r\n" + p.via + holeSerial + holeRun + "r\r\nMax-Forwards: 70\r\n" +
		"From: <sip:" + holeUser + "@" + l.domain + ">;tag=" + holeSerial + "\r\nTo: <sip:" + holeUser + "@" + l.domain + ">\r\n" + callID +
		"CSeq: 1 REGISTER\r\nContact: " + contact + ";expires=3600\r\n" + userAgent + stampName + noStamp + "\r\nContent-Length: 0\r\n\r\n")
	return p
}

// start sends the first message of a call or registration.
func (p *phone) start(serial uint64) {
	t, k := &p.invite, kindInvite
	if p.l.registers {
		t, k = &p.register, kindRegister
	}
	p.queue(t.fill(p.slot(), serial, p.l.run, p.l.userOf(serial)), t.stamp)
	p.l.sent[k]++
}

// take handles one message from the proxy.
func (p *phone) take(b []byte, arrived int64) {
	f := &p.f
	if !f.scan(b) {
		p.l.strange++
		return
	}
	c, serial := p.l.callOf(f)
	if c == nil {
		return
	}
	code := f.status()
	switch {
	case code == 100:
		p.l.arrive(c, kindTrying, b, f, arrived)
	case code > 100 && code < 200:
		p.l.arrive(c, kindRinging, b, f, arrived)
	case code == 200 && bytes.HasSuffix(value(f.cseq), []byte("INVITE")):
		if p.l.arrive(c, kindAnswer, b, f, arrived) {
			p.inDialog("ACK", 'a', "CSeq: 1 ACK\r\n", kindAck, serial)
			p.inDialog("BYE", 'b', "CSeq: 2 BYE\r\n", kindBye, serial)
		}
	case code == 200 && bytes.HasSuffix(value(f.cseq), []byte("BYE")):
		p.l.arrive(c, kindByeOK, b, f, arrived)
	case code == 200:
		p.l.arrive(c, kindRegistered, b, f, arrived)
	case code == 401:
		if p.l.arrive(c, kindRegister, b, f, arrived) {
			p.authorise(serial)
		}
	case code >= 300:
		if p.l.arrive(c, kindInvite, b, f, arrived) {
			p.l.refused++
			p.acknowledge(serial)
		}
	default:
		p.l.strange++
	}
}

// inDialog sends ACK or BYE along the recorded route, RFC 3261 section 12.2.1.1.
func (p *phone) inDialog(method string, branch byte, cseq string, k kind, serial uint64) {
	f := &p.f
	b := append(append(p.slot(), method...), ' ')
	b = append(append(b, inAngles(f.contact)...), " SIP/2.0\r\n"...)
	b = p.appendVia(b, serial, branch)
	for i := f.routes - 1; i >= 0; i-- {
		b = append(b, f.route[i][len("Record-"):]...)
	}
	b = append(append(append(append(b, "Max-Forwards: 70\r\n"...), f.from...), f.to...), f.callID...)
	b = append(append(append(b, cseq...), userAgent...), stampName...)
	stamp := len(b)
	p.queue(append(b, noStamp+"\r\nContent-Length: 0\r\n\r\n"...), stamp)
	p.l.sent[k]++
}

// acknowledge ends a refused INVITE. The proxy that refused it keeps the ACK to itself, so it is not counted.
func (p *phone) acknowledge(serial uint64) {
	f := &p.f
	b := append(p.slot(), "ACK sip:4930123456@"...)
	b = append(append(b, p.l.domain...), " SIP/2.0\r\n"...)
	b = p.appendVia(b, serial, 'i')
	b = append(append(append(append(b, "Max-Forwards: 70\r\n"...), f.from...), f.to...), f.callID...)
	p.queue(append(b, "CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"...), -1)
}

func (p *phone) appendVia(b []byte, serial uint64, branch byte) []byte {
	b = appendHex(append(b, p.via...), serial, serialSize)
	b = appendHex(b, p.l.run, len(holeRun))
	return append(b, branch, '\r', '\n')
}

// authorise repeats a REGISTER with the digest that the challenge asks for.
func (p *phone) authorise(serial uint64) {
	user := p.l.userOf(serial)
	b := p.register.fill(p.slot(), serial, p.l.run, user)
	// The repeated request is a transaction of its own.
	copy(b[bytes.Index(b, []byte("CSeq: 1")):], "CSeq: 2")
	via := bytes.Index(b, []byte("r\r\nMax-Forwards"))
	b[via] = 's'
	b = b[:len(b)-len("Content-Length: 0\r\n\r\n")]
	b = p.l.digest.append(b, p.f.challenge, user)
	p.queue(append(b, "Content-Length: 0\r\n\r\n"...), p.register.stamp)
	p.l.sent[kindAuthorised]++
}
