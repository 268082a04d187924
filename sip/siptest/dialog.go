package siptest

import (
	"crypto/rand"
	"slices"

	sipmsg "github.com/emiago/sipgo/sip"
)

// dialogID names a dialog by what both directions carry. RFC 3261 section 12.
type dialogID struct {
	callID, localTag, remoteTag string
}

// dialog is what a user agent remembers of one, RFC 3261 section 12.1. It does no input or output.
type dialog struct {
	id           dialogID
	local        sipmsg.FromHeader // as it stands in From of our requests
	remote       sipmsg.ToHeader
	target       sipmsg.Uri   // Request-URI of our requests
	routes       []sipmsg.Uri // in the order of our Route header fields
	cseq         uint32       // of our last request
	remoteCSeq   uint32
	hasRemoteSeq bool
}

// dialogFromAnswer is the caller's side, made from the INVITE that was answered and its 2xx. RFC 3261 section 12.1.2.
func dialogFromAnswer(req *sipmsg.Request, res *sipmsg.Response) (*dialog, bool) {
	to, from, contact := res.To(), req.From(), res.Contact()
	if to == nil || from == nil || contact == nil {
		return nil, false
	}
	d := &dialog{
		id:     dialogID{callID: req.CallID().Value(), localTag: from.Params.GetOr("tag", ""), remoteTag: to.Params.GetOr("tag", "")},
		local:  *sipmsg.HeaderClone(from).(*sipmsg.FromHeader),
		remote: *sipmsg.HeaderClone(to).(*sipmsg.ToHeader),
		target: *contact.Address.Clone(),
		routes: recordRoutes(res.GetHeaders("Record-Route")),
		cseq:   req.CSeq().SeqNo,
	}
	slices.Reverse(d.routes)
	return d, true
}

// dialogFromInvite is the called side, made from the INVITE and the tag that we answer with. RFC 3261 section 12.1.1.
func dialogFromInvite(req *sipmsg.Request, tag string) (*dialog, bool) {
	to, from, contact := req.To(), req.From(), req.Contact()
	if to == nil || from == nil || contact == nil {
		return nil, false
	}
	d := &dialog{
		id:           dialogID{callID: req.CallID().Value(), localTag: tag, remoteTag: from.Params.GetOr("tag", "")},
		local:        sipmsg.FromHeader{DisplayName: to.DisplayName, Address: *to.Address.Clone(), Params: to.Params.Clone()},
		remote:       sipmsg.ToHeader{DisplayName: from.DisplayName, Address: *from.Address.Clone(), Params: from.Params.Clone()},
		target:       *contact.Address.Clone(),
		routes:       recordRoutes(req.GetHeaders("Record-Route")),
		remoteCSeq:   req.CSeq().SeqNo,
		hasRemoteSeq: true,
	}
	d.local.Params.Add("tag", tag)
	return d, true
}

func recordRoutes(hs []sipmsg.Header) []sipmsg.Uri {
	var uris []sipmsg.Uri
	for _, h := range hs {
		if rr, ok := h.(*sipmsg.RecordRouteHeader); ok {
			uris = append(uris, *rr.Address.Clone())
		}
	}
	return uris
}

// request builds a request inside the dialog. An ACK takes the CSeq of its INVITE. RFC 3261 sections 12.2.1.1 and 13.2.2.4.
func (d *dialog) request(method sipmsg.RequestMethod, seq uint32) *sipmsg.Request {
	req := sipmsg.NewRequest(method, *d.target.Clone())
	for i := range d.routes {
		req.AppendHeader(&sipmsg.RouteHeader{Address: *d.routes[i].Clone()})
	}
	from, to := d.local, d.remote
	from.Params, to.Params = from.Params.Clone(), to.Params.Clone()
	callID := sipmsg.CallIDHeader(d.id.callID)
	forwards := sipmsg.MaxForwardsHeader(70)
	req.AppendHeader(&from)
	req.AppendHeader(&to)
	req.AppendHeader(&callID)
	req.AppendHeader(&sipmsg.CSeqHeader{SeqNo: seq, MethodName: method})
	req.AppendHeader(&forwards)
	return req
}

// next is the URI whose host gets the next request: the first route, or the target.
func (d *dialog) next() *sipmsg.Uri {
	if len(d.routes) > 0 {
		return &d.routes[0]
	}
	return &d.target
}

// newToken is a random string for tags and Call-IDs: 128 bits and more, RFC 3261 section 19.3 asks for 32.
func newToken() string { return rand.Text() }
