package siptest

import (
	"context"
	"fmt"
	"net/url"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Notice is a NOTIFY: of a transfer inside its call, where Body is a message/sipfrag (RFC 3515 section 2.4.5), or of a subscription.
type Notice struct {
	Event, State, Type string // Event, Subscription-State and Content-Type
	Body               string
}

func noticeOf(req *sipmsg.Request) Notice {
	value := func(name string) string {
		if h := req.GetHeader(name); h != nil {
			return h.Value()
		}
		return ""
	}
	return Notice{Event: value("Event"), State: value("Subscription-State"), Type: value("Content-Type"), Body: string(req.Body())}
}

// Refer asks the far end to call target instead of us (RFC 3515). With replaces it is an attended transfer: the far end takes the place
// that we have in that call (RFC 3891, the tags as its far end sees them). It returns the status code of the answer; what becomes of
// the transfer is told to Config.OnNotice.
func (c *Call) Refer(ctx context.Context, target string, replaces *Call) (int, error) {
	to := c.ua.URI(target)
	if replaces != nil {
		id := replaces.dialog.id
		to += "?Replaces=" + url.QueryEscape(fmt.Sprintf("%s;to-tag=%s;from-tag=%s", id.callID, id.remoteTag, id.localTag))
	}
	req, err := c.next(sipmsg.REFER)
	if err != nil {
		return 0, err
	}
	req.AppendHeader(sipmsg.NewHeader("Contact", "<"+c.ua.Contact()+">"))
	req.AppendHeader(sipmsg.NewHeader("Refer-To", "<"+to+">"))
	req.AppendHeader(sipmsg.NewHeader("Referred-By", "<"+c.ua.AOR()+">"))
	res, err := c.ua.do(ctx, req)
	if err != nil {
		return 0, err
	}
	c.advance(req)
	return res.StatusCode, nil
}

// Redirect answers 302 with where the caller should go instead (call forwarding by the phone).
func (in *Incoming) Redirect(target string) error {
	res := in.response(302, "Moved Temporarily", nil)
	res.AppendHeader(sipmsg.NewHeader("Contact", "<"+in.ua.URI(target)+">"))
	if err := in.tx.Respond(res); err != nil {
		return fmt.Errorf("respond 302: %w", err)
	}
	in.final = true
	return nil
}
