package siptest

import (
	"context"
	"fmt"
	"strconv"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Register binds this agent's contact to its address of record and returns the lifetime that the registrar granted.
// A lifetime of 0 removes the binding.
func (u *UA) Register(ctx context.Context, expires time.Duration) (time.Duration, error) {
	u.mu.Lock()
	u.regSeq += 10 // room for the retries of challenges
	seq := u.regSeq
	u.mu.Unlock()
	// The Request-URI of a REGISTER has no user. RFC 3261 section 10.2.
	uri := "sip:" + u.cfg.Domain
	if u.cfg.Domain == "" {
		uri = "sip:" + u.local.Addr().String()
	}
	req, err := u.newRequest(sipmsg.REGISTER, uri, u.AOR(), u.regTag, u.regID, seq)
	if err != nil {
		return 0, fmt.Errorf("register: %w", err)
	}
	req.AppendHeader(sipmsg.NewHeader("Contact", "<"+u.Contact()+">"))
	req.AppendHeader(sipmsg.NewHeader("Expires", strconv.Itoa(int(expires/time.Second))))
	req.AppendHeader(sipmsg.NewHeader("Allow", methods))
	req.AppendHeader(sipmsg.NewHeader("User-Agent", "rtcedge siptest, a user agent for tests"))
	// A registrar that gets a Path from a proxy refuses phones without this option tag. RFC 3327 section 5.3.
	req.AppendHeader(sipmsg.NewHeader("Supported", "path"))
	res, err := u.do(ctx, req)
	if err != nil {
		return 0, err
	}
	if !res.IsSuccess() {
		return 0, statusError(req, res)
	}
	return u.granted(res), nil
}

// Unregister removes this agent's contact.
func (u *UA) Unregister(ctx context.Context) error {
	_, err := u.Register(ctx, 0)
	return err
}

// granted finds the lifetime of our own contact in a 200 to REGISTER; the Expires header field is its default.
func (u *UA) granted(res *sipmsg.Response) time.Duration {
	seconds := 0
	if h := res.GetHeader("Expires"); h != nil {
		seconds, _ = strconv.Atoi(h.Value())
	}
	for _, h := range res.GetHeaders("Contact") {
		c, ok := h.(*sipmsg.ContactHeader)
		if !ok || c.Address.User != u.cfg.User || c.Address.Host != u.local.Addr().String() || c.Address.Port != int(u.local.Port()) {
			continue
		}
		if v, ok := c.Params.Get("expires"); ok {
			seconds, _ = strconv.Atoi(v)
		}
	}
	return time.Duration(seconds) * time.Second
}
