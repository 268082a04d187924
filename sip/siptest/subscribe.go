package siptest

import (
	"context"
	"fmt"
	"strconv"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Subscription is one to an event package (RFC 6665), presence for one.
type Subscription struct {
	ua      *UA
	notices chan Notice
	target  string
	event   string
	id      string // Call-ID
	tag     string // ours
	dialog  *dialog
}

// Notices are what came so far. A reader that is too slow loses the newest ones.
func (s *Subscription) Notices() <-chan Notice { return s.notices }

// Subscribe asks for an event package of target in a format and returns when the subscription is accepted.
func (u *UA) Subscribe(ctx context.Context, target, event, accept string, expires time.Duration) (*Subscription, error) {
	s := &Subscription{ua: u, notices: make(chan Notice, 16), target: u.URI(target), event: event, id: newToken(), tag: newToken()}
	// Known before it leaves: the first NOTIFY may overtake the answer. RFC 6665 section 4.1.2.4.
	u.mu.Lock()
	u.subs[s.id] = s
	u.mu.Unlock()
	req, err := u.newRequest(sipmsg.SUBSCRIBE, s.target, s.target, s.tag, s.id, 1)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.decorate(req, accept, expires)
	res, err := u.do(ctx, req)
	if err != nil {
		return nil, err
	}
	if !res.IsSuccess() {
		return nil, statusError(req, res)
	}
	d, ok := dialogFromAnswer(req, res)
	if !ok {
		return nil, fmt.Errorf("subscribe: the answer lacks To, From or Contact")
	}
	s.dialog = d
	return s, nil
}

// End takes the subscription back.
func (s *Subscription) End(ctx context.Context) error {
	s.dialog.cseq++
	req := s.dialog.request(sipmsg.SUBSCRIBE, s.dialog.cseq)
	if err := s.ua.address(req, s.dialog.next(), s.ua.cfg.Proxy); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	s.decorate(req, "", 0)
	res, err := s.ua.do(ctx, req)
	if err != nil {
		return err
	}
	if !res.IsSuccess() {
		return statusError(req, res)
	}
	return nil
}

func (s *Subscription) decorate(req *sipmsg.Request, accept string, expires time.Duration) {
	req.AppendHeader(sipmsg.NewHeader("Contact", "<"+s.ua.Contact()+">"))
	req.AppendHeader(sipmsg.NewHeader("Event", s.event))
	if accept != "" {
		req.AppendHeader(sipmsg.NewHeader("Accept", accept))
	}
	req.AppendHeader(sipmsg.NewHeader("Expires", strconv.Itoa(int(expires/time.Second))))
}

// subscription returns the one that a NOTIFY belongs to.
func (u *UA) subscription(req *sipmsg.Request) *Subscription {
	to, id := req.To(), req.CallID()
	if to == nil || id == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.subs[id.Value()]; s != nil && s.tag == to.Params.GetOr("tag", "") {
		return s
	}
	return nil
}

func (s *Subscription) take(n Notice) {
	select {
	case s.notices <- n:
	default:
	}
}
