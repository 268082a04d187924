package farm

import (
	"fmt"
	"net"
	"slices"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

const (
	userAgent = "rtcedge"
	allow     = "INVITE, ACK, CANCEL, BYE, UPDATE, INFO, OPTIONS, REFER, REGISTER"
)

// dialogID finds a dialog of ours (RFC 3261, section 12). Our own tag makes it unique, the far end's is compared after.
type dialogID struct{ callID, localTag string }

// dialog is the SIP state of one leg (RFC 3261, section 12.1). It is pure: it builds messages and sends none. It is owned by
// the call's goroutine.
type dialog struct {
	callID              string
	localTag, remoteTag string
	localName, remote   string     // names and URIs of From and To, without tags
	target              sipmsg.Uri // the far end's Contact
	routes              []string   // route set, each as it came: the edge's cookies are bytes that nobody may change
	seq, remoteSeq      uint32
	via                 *listener // what requests leave from, so that the edge knows us
	user                string    // of our Contact
	frozen              bool      // taken over from another node: the route set stays, whatever a 2xx says (B59)
}

func (d *dialog) id() dialogID { return dialogID{d.callID, d.localTag} }

// uasDialog is the callee's side of an INVITE (RFC 3261, section 12.1.1).
func uasDialog(req *sipmsg.Request, localTag string, via *listener) dialog {
	from, to := req.From(), req.To()
	remoteTag, _ := from.Params.Get("tag")
	d := dialog{
		callID:    req.CallID().Value(),
		localTag:  localTag,
		remoteTag: remoteTag,
		localName: nameAddr(to.DisplayName, &to.Address),
		remote:    nameAddr(from.DisplayName, &from.Address),
		target:    from.Address,
		routes:    values(req, "Record-Route"),
		remoteSeq: req.CSeq().SeqNo,
		via:       via,
		user:      req.Recipient.User,
	}
	d.refreshTarget(req)
	return d
}

// confirm takes from a 2xx what the caller's side learns (RFC 3261, section 12.1.2).
func (d *dialog) confirm(res *sipmsg.Response) {
	if !d.frozen {
		d.remoteTag, _ = res.To().Params.Get("tag")
		d.routes = values(res, "Record-Route")
		slices.Reverse(d.routes)
	}
	d.refreshTarget(res)
}

// refreshTarget follows the far end's Contact.
func (d *dialog) refreshTarget(msg interface{ Contact() *sipmsg.ContactHeader }) {
	if c := msg.Contact(); c != nil && c.Address.Host != "" && !c.Address.Wildcard {
		d.target = *c.Address.Clone()
	}
}

func nameAddr(display string, uri *sipmsg.Uri) string {
	if display == "" {
		return "<" + uri.String() + ">"
	}
	return `"` + display + `" <` + uri.String() + ">" // sipgo keeps the escapes of a quoted name
}

// request builds the next request in the dialog, or the INVITE that will make it one (RFC 3261, section 12.2.1.1).
func (d *dialog) request(method sipmsg.RequestMethod, contentType string, body []byte) *sipmsg.Request {
	if method != sipmsg.ACK {
		d.seq++
	}
	target, routes := d.target, d.routes
	if len(routes) > 0 {
		if first, err := routeURI(routes[0]); err == nil && !first.UriParams.Has("lr") {
			// A strict router: it wants itself in the Request-URI and the target last.
			routes = append(slices.Clone(routes[1:]), "<"+target.String()+">")
			target = first
		}
	}
	req := sipmsg.NewRequest(method, *target.Clone())
	via := &sipmsg.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: strings.ToUpper(d.via.proto),
		Host: d.via.addr.Addr().String(), Port: int(d.via.addr.Port()),
	}
	via.Params.Add("branch", sipmsg.GenerateBranchN(16))
	req.AppendHeader(via)
	for _, r := range routes {
		req.AppendHeader(sipmsg.NewHeader("Route", r))
	}
	forwards := sipmsg.MaxForwardsHeader(70)
	req.AppendHeader(&forwards)
	req.AppendHeader(sipmsg.NewHeader("From", d.localName+";tag="+d.localTag))
	to := d.remote
	if d.remoteTag != "" {
		to += ";tag=" + d.remoteTag
	}
	req.AppendHeader(sipmsg.NewHeader("To", to))
	callID := sipmsg.CallIDHeader(d.callID)
	req.AppendHeader(&callID)
	req.AppendHeader(&sipmsg.CSeqHeader{SeqNo: d.seq, MethodName: method})
	if method == sipmsg.INVITE {
		req.AppendHeader(sipmsg.NewHeader("Contact", d.contact()))
		req.AppendHeader(allowHeader())
	}
	req.AppendHeader(sipmsg.NewHeader("User-Agent", userAgent))
	if contentType != "" {
		req.AppendHeader(sipmsg.NewHeader("Content-Type", contentType))
	}
	req.SetBody(body)
	d.address(req)
	return req
}

// ack builds the ACK of a 2xx: a request of its own with the INVITE's number (RFC 3261, section 13.2.2.4).
func (d *dialog) ack(invite *sipmsg.Request) *sipmsg.Request {
	req := d.request(sipmsg.ACK, "", nil)
	req.CSeq().SeqNo = invite.CSeq().SeqNo
	return req
}

// cancel builds the CANCEL of an INVITE: the same branch, route and target (RFC 3261, section 9.1).
func (d *dialog) cancel(invite *sipmsg.Request) *sipmsg.Request {
	req := sipmsg.NewRequest(sipmsg.CANCEL, *invite.Recipient.Clone())
	req.AppendHeader(sipmsg.HeaderClone(invite.Via()))
	for _, name := range []string{"Route", "Max-Forwards", "From", "To", "Call-ID"} {
		sipmsg.CopyHeaders(name, invite, req)
	}
	req.AppendHeader(&sipmsg.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: sipmsg.CANCEL})
	req.SetBody(nil)
	d.address(req)
	return req
}

// address says where the request goes and from which socket: the first Route or the Request-URI, never what sipgo would
// resolve by itself, and over UDP always the listener's own socket, because the edge knows a farm by its source address.
func (d *dialog) address(req *sipmsg.Request) {
	hop := req.Recipient
	if r := req.GetHeader("Route"); r != nil {
		if uri, err := routeURI(r.Value()); err == nil {
			hop = uri
		}
	}
	req.SetTransport(strings.ToUpper(d.via.proto))
	req.SetDestination(hostPort(&hop))
	req.Laddr = sipmsg.Addr{IP: d.via.addr.Addr().AsSlice()}
	if d.via.proto == "udp" {
		req.Laddr.Port = int(d.via.addr.Port())
	}
}

func (d *dialog) contact() string {
	uri := sipmsg.Uri{Scheme: "sip", User: d.user, Host: d.via.addr.Addr().String(), Port: int(d.via.addr.Port())}
	if d.via.proto == "tcp" {
		uri.UriParams.Add("transport", "tcp")
	}
	return "<" + uri.String() + ">"
}

func allowHeader() sipmsg.Header { return sipmsg.NewHeader("Allow", allow) }

// routeURI is the URI of a Route, Record-Route or Path element.
func routeURI(value string) (uri sipmsg.Uri, err error) {
	var params sipmsg.HeaderParams
	_, err = sipmsg.ParseAddressValue(value, &uri, &params)
	if err == nil && uri.Host == "" {
		err = fmt.Errorf("route %q has no host", value)
	}
	return uri, err
}

func hostPort(uri *sipmsg.Uri) string {
	port := uri.Port
	if port == 0 {
		port = sipmsg.DefaultUdpPort // TCP's is the same (RFC 3261, section 19.1.2)
	}
	return net.JoinHostPort(strings.Trim(uri.Host, "[]"), fmt.Sprint(port))
}

// wantsTCP tells if a URI asks for TCP.
func wantsTCP(uri *sipmsg.Uri) bool {
	transport, _ := uri.UriParams.Get("transport")
	return strings.EqualFold(transport, "tcp")
}
