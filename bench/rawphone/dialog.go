package rawphone

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
)

// Dialog is the phone's half of a SIP dialog. From and To are the values without their tags.
type Dialog struct {
	CallID    string
	Local     string // "name" <uri>
	LocalTag  string
	Remote    string
	RemoteTag string
	CSeq      uint32 // of the phone's last request
	FarCSeq   uint32 // of the far end's last request
	Target    string // where the far end wants its requests
	Route     []string

	FarPlaced   bool     // the far end placed the call
	RecordRoute []string // as the dialog-making message had it
	Far         *Message // the far end's half of the offer and answer
	Offer       *Message // of the far end: its newest INVITE
}

// token is a random identifier.
func token() string { return strings.ToLower(rand.Text()[:16]) }

// stripTag is a From or To value without its parameters.
func stripTag(value string) string {
	if i := strings.IndexByte(value, '>'); i >= 0 {
		return value[:i+1]
	}
	return "<" + URIOf(value) + ">"
}

// Place begins a dialog that the phone calls for. Its requests have no tag and no route set before Answered.
func (p *Phone) Place(to string) *Dialog {
	return &Dialog{CallID: token() + "@" + p.Addr().Addr().String(), Local: p.identity(), LocalTag: token(),
		Remote: "<" + to + ">", Target: to, CSeq: 100}
}

// Answered takes over what the 2xx brings: tag, target, route set (RFC 3261 section 12.1.2).
func (d *Dialog) Answered(ok *Message) {
	d.RemoteTag = Param(ok.Get("To"), "tag")
	d.Target = URIOf(ok.Get("Contact"))
	d.RecordRoute = ok.All("Record-Route")
	d.Route = slices.Clone(d.RecordRoute)
	slices.Reverse(d.Route)
	d.Far = ok
}

// Called begins a dialog that an INVITE of the far end makes (RFC 3261 section 12.1.1).
func (p *Phone) Called(invite *Message) *Dialog {
	n, _ := invite.CSeq()
	return &Dialog{CallID: invite.Get("Call-ID"), Local: stripTag(invite.Get("To")), LocalTag: token(),
		Remote: stripTag(invite.Get("From")), RemoteTag: Param(invite.Get("From"), "tag"), FarCSeq: n, CSeq: 7000,
		Target: URIOf(invite.Get("Contact")), RecordRoute: invite.All("Record-Route"), Route: invite.All("Record-Route"),
		FarPlaced: true, Far: invite, Offer: invite}
}

// Matches says whether a message belongs to the dialog, whoever sent it.
func (d *Dialog) Matches(m *Message) bool {
	if m.Get("Call-ID") != d.CallID {
		return false
	}
	from, to := Param(m.Get("From"), "tag"), Param(m.Get("To"), "tag")
	if m.Status() != 0 {
		from, to = to, from
	}
	return to == d.LocalTag && from == d.RemoteTag
}

// Refresh is what a re-INVITE of the far end changes: its target and its half of the media.
func (d *Dialog) Refresh(m *Message) {
	d.FarCSeq, _ = m.CSeq()
	d.Offer = m
	if c := m.Get("Contact"); c != "" {
		d.Target = URIOf(c)
	}
	if m.Body != "" {
		d.Far = m
	}
}

// request writes a request inside the dialog. An ACK of a 2xx has the INVITE's number, a CANCEL is no matter of a dialog.
func (p *Phone) request(d *Dialog, method string, cseq uint32, body string, extra ...Field) *Message {
	to := d.Remote
	if d.RemoteTag != "" {
		to += ";tag=" + d.RemoteTag
	}
	m := &Message{Start: fmt.Sprintf("%s %s SIP/2.0", method, d.Target), Body: body}
	if p.hop != nil {
		m.Fields = append(m.Fields, Field{"Via", fmt.Sprintf("SIP/2.0/UDP %s;branch=z9hG4bK%s", p.hop.LocalAddr(), token())})
	}
	m.Fields = append(m.Fields, Field{"Via", fmt.Sprintf("SIP/2.0/%s %s;branch=z9hG4bK%s;rport", p.transport(), p.Addr(), token())},
		Field{"Max-Forwards", "70"})
	for _, r := range d.Route {
		m.Fields = append(m.Fields, Field{"Route", r})
	}
	m.Fields = append(m.Fields, Field{"From", d.Local + ";tag=" + d.LocalTag}, Field{"To", to}, Field{"Call-ID", d.CallID},
		Field{"CSeq", fmt.Sprintf("%d %s", cseq, method)}, Field{"Contact", p.contact()})
	m.Fields = append(m.Fields, extra...)
	if body != "" && m.Get("Content-Type") == "" {
		m.Fields = append(m.Fields, Field{"Content-Type", "application/sdp"})
	}
	return m
}

// Request sends a request with the next CSeq.
func (p *Phone) Request(d *Dialog, method, body string, extra ...Field) (*Message, error) {
	d.CSeq++
	m := p.request(d, method, d.CSeq, body, extra...)
	return m, p.Send(m)
}

// Invite offers media, in a new dialog or inside of one that is up.
func (p *Phone) Invite(d *Dialog, offer string, extra ...Field) (*Message, error) {
	return p.Request(d, "INVITE", offer, extra...)
}

// Ack acknowledges the 2xx of the phone's last INVITE.
func (p *Phone) Ack(d *Dialog) error { return p.Send(p.request(d, "ACK", d.CSeq, "")) }

// Respond answers a request. The local tag is that of the dialog; without one there is none.
func (p *Phone) Respond(req *Message, d *Dialog, status int, reason, body string, extra ...Field) (*Message, error) {
	m := &Message{Start: fmt.Sprintf("SIP/2.0 %d %s", status, reason), Body: body, From: req.From, AtHop: req.AtHop}
	for _, v := range req.All("Via") {
		m.Fields = append(m.Fields, Field{"Via", v})
	}
	to := req.Get("To")
	if d != nil && status > 100 && Param(to, "tag") == "" {
		to += ";tag=" + d.LocalTag
	}
	m.Fields = append(m.Fields, Field{"From", req.Get("From")}, Field{"To", to}, Field{"Call-ID", req.Get("Call-ID")},
		Field{"CSeq", req.Get("CSeq")})
	if req.Method() == "INVITE" || req.Method() == "UPDATE" {
		m.Fields = append(m.Fields, Field{"Contact", p.contact()}, Field{"Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, REFER, NOTIFY"})
	}
	m.Fields = append(m.Fields, extra...)
	if body != "" {
		m.Fields = append(m.Fields, Field{"Content-Type", "application/sdp"})
	}
	return m, p.Send(m)
}
