package media

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// Subscriptions: a further party gets what others say, as rtpengine's subscribe request, and as a SIPREC recorder wants it (RFC 7866).
// A request on its way:
//
//  1. subscribe request makes a dialog of its own, whose first party lends its place to those who are copied and has no ports. Their
//     m= lines, one behind the other, are the offer to the subscriber, with the options that an offer has: codecs, SRTP, ICE.
//  2. subscribe answer settles it as any answer. From then on each leg that is copied names the streams that get its packets.
//  3. The worker hands an opened packet, when its gates have let it pass, to these streams as if their first party had sent it
//     (copyTo). Conversion, numbering and keys are those of an ordinary stream.
//  4. After each answer of the parties the copies follow the payload types that they speak now.
//
// Reports to the subscriber are our own; its own end here. The party who is copied sees nothing of it.

// subscription is one subscriber of a call.
type subscription struct {
	dialog  *dialog
	tag     string
	label   string
	from    []string // tags of those who are copied
	sources []copied // by stream of the dialog

	request ng.Request // as it came, for what follows a change
	answer  ng.Request // empty before
}

// copied is the leg of another dialog that one stream gets its packets from.
type copied struct {
	stream *stream
	side   int
	kind   string
}

func (c copied) leg() *leg { return &c.stream.legs[c.side] }

// discardPort stands in SDP where nothing is received (RFC 863, as RFC 4145 section 4.1 uses it).
const discardPort = 9

// errNoSubscription is about a to-tag.
var errNoSubscription = errors.New("no subscription with this to-tag")

// Subscribe offers a subscriber the media of one party, of several, or of all. A to-tag that has a subscription gets a new one.
func (e *Engine) Subscribe(req *ng.Request) (*ng.Response, error) {
	resp := &ng.Response{}
	done, err := e.withCall(req, func(c *call) error {
		sub := &subscription{tag: req.ToTag, label: cmp.Or(req.SetLabel, req.ToLabel), request: *req}
		if sub.tag == "" {
			sub.tag = iceChars(subscriptionTag)
		}
		told := &ng.Subscribed{ToTag: sub.tag}
		c.unsubscribe(func(s *subscription) bool { return s.tag == sub.tag })
		if len(c.subscriptions) >= maxSubscriptions {
			return fmt.Errorf("subscribe request: the call has %d subscriptions already", maxSubscriptions)
		}
		for _, d := range c.dialogs {
			for side := range d.parties {
				if p := &d.parties[side]; !p.absent && d.chosen(side, req) {
					told.FromTags = append(told.FromTags, p.tag())
					told.Medias = append(told.Medias, sub.copyAll(d, side))
				}
			}
		}
		if len(sub.sources) == 0 {
			return errors.New("subscribe request: no party with this from-tag, label or address has media that was answered")
		}
		now := e.cfg.Now()
		sub.dialog = &dialog{worker: c.worker, callID: c.id}
		network := e.subscriberNetwork(req, sub.sources[0].leg().network)
		for i := range sub.dialog.parties {
			sub.dialog.parties[i] = party{network: network, created: now, absent: i == 0}
		}
		sub.dialog.parties[1].note(sub.tag)
		offer, err := sub.offer()
		if err == nil {
			resp.SDP, err = sub.dialog.takeOffer(0, offer, sub.offerRequest())
		}
		if err != nil {
			sub.dialog.release()
			return fmt.Errorf("subscribe request: %w", err)
		}
		sub.from = told.FromTags
		c.subscriptions = append(c.subscriptions, sub)
		c.lastSignal = now
		c.apply()
		resp.Subscribed = told
		return nil
	})
	if err != nil {
		return nil, err
	}
	resp.Result = done.Result
	return resp, nil
}

// Chosen by us: a SIPREC client has one, a monitor one more. A tag is as long as those of phones.
const (
	maxSubscriptions = 8
	maxCopied        = 16
	subscriptionTag  = 16
)

// copyAll notes the streams of a party that can be copied, and says which m= lines they become.
func (sub *subscription) copyAll(d *dialog, side int) []ng.SubscribedMedia {
	medias := []ng.SubscribedMedia{}
	for i, s := range d.streams {
		if s == nil || d.offer == nil || i >= len(d.offer.media) || len(sub.sources) == maxCopied {
			continue
		}
		r := s.route.Load()
		if r == nil || r.raw {
			continue
		}
		n := len(sub.sources)
		kind, mode := d.offer.media[i].kind, sdp.SendRecv
		if s.legs[side].far.silent && !d.published() {
			mode = sdp.Inactive
		}
		sub.sources = append(sub.sources, copied{stream: s, side: side, kind: kind})
		medias = append(medias, ng.SubscribedMedia{Index: n + 1, Type: kind, Label: strconv.Itoa(n), Mode: mode.String()})
	}
	return medias
}

// subscriberNetwork is the interface that the request names, else that of the first party.
func (e *Engine) subscriberNetwork(req *ng.Request, def *network) *network {
	name := cmp.Or(req.Direction[1], req.Direction[0])
	if name == "" && req.AddressFamily == "" {
		return def
	}
	return e.networkOf(cmp.Or(name, def.Name), cmp.Or(req.AddressFamily, addrFamily(def.Addr)) == "IP6")
}

func addrFamily(a netip.Addr) string {
	if a.Is6() {
		return "IP6"
	}
	return "IP4"
}

// offer is what those who are copied would offer together.
func (sub *subscription) offer() (*sdp.Session, error) {
	var b strings.Builder
	b.WriteString("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")
	for _, src := range sub.sources {
		fmt.Fprintf(&b, "m=%s %d RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", src.kind, discardPort)
	}
	body, err := sdp.Parse([]byte(b.String()))
	if err != nil {
		return nil, err
	}
	direction := sdp.SendOnly
	if sub.request.Has("inactive") {
		direction = sdp.Inactive
	}
	for i, m := range body.Media {
		m.SetCodecs(sub.sources[i].codecs())
		m.SetDirection(direction)
		m.SetAttr("label", strconv.Itoa(i)) // RFC 4574: SIPREC's metadata names the streams by it
	}
	return body, nil
}

// codecs is what the party may send by the answer that counts now.
func (c copied) codecs() []sdp.Codec {
	r := c.stream.route.Load()
	if r == nil {
		return nil
	}
	f, other := &r.flows[c.side], &r.flows[1-c.side]
	var list []sdp.Codec
	for _, codec := range f.heard {
		agreed := f.types[codec.PT&typeMask] != noType
		if f.passing {
			agreed = slices.ContainsFunc(other.heard, func(o sdp.Codec) bool { return sameCodec(o, codec) })
		}
		if agreed {
			list = append(list, codec)
		}
	}
	return list
}

// offerRequest is the subscriber's, with what a subscription needs beside.
func (sub *subscription) offerRequest() *ng.Request {
	req := sub.request
	req.Direction = [2]string{}
	req.Flags = append(slices.Clone(req.Flags), "generate-rtcp")
	req.Replace = append(slices.Clone(req.Replace), "zero-address")
	if req.Transport == "" {
		req.Transport = "RTP/AVP"
	}
	return &req
}

// SubscribeAnswer takes the subscriber's answer, and the copies begin.
func (e *Engine) SubscribeAnswer(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		i := slices.IndexFunc(c.subscriptions, func(s *subscription) bool { return s.tag == req.ToTag })
		if i < 0 {
			return fmt.Errorf("subscribe answer: %w", errNoSubscription)
		}
		sub := c.subscriptions[i]
		if err := sub.take(req, &e.cfg); err != nil {
			return fmt.Errorf("subscribe answer: %w", err)
		}
		sub.answer = *req
		c.lastSignal = e.cfg.Now()
		c.apply()
		return nil
	})
}

// take settles an answer and lets the legs that are copied know.
func (sub *subscription) take(req *ng.Request, cfg *Config) error {
	body, err := sdp.Parse(req.SDP)
	if err != nil {
		return fmt.Errorf("sdp: %w", err)
	}
	for i, m := range body.Media {
		if i >= len(sub.sources) || m.Rejected() || !m.IsRTP() {
			continue
		}
		choice := &sub.dialog.offer.media[i].choice
		if !req.Has("allow-transcoding") {
			if !containsAll(m.Codecs(), choice.sent) {
				return fmt.Errorf("m= line %d: offered %s, answered %s: give the flag allow-transcoding to convert what is left out", i+1,
					names(choice.sent), names(m.Codecs()))
			}
			continue
		}
		// What the answer leaves out is converted, if it can be.
		choice.managed = choice.managed || !containsAll(m.Codecs(), choice.offered)
	}
	if _, err := sub.dialog.takeAnswer(body, req, cfg); err != nil {
		return err
	}
	sub.attach()
	return nil
}

// containsAll tells if every voice codec of the wanted ones is in the list.
func containsAll(list, wanted []sdp.Codec) bool {
	return !slices.ContainsFunc(wanted, func(w sdp.Codec) bool {
		return isVoice(w) && !slices.ContainsFunc(list, func(c sdp.Codec) bool { return sameCodec(c, w) })
	})
}

// attach makes the sources feed the streams; one whose m= line was rejected has no route and lets the packets lie.
func (sub *subscription) attach() {
	for i, src := range sub.sources {
		to := sub.dialog.streams[i]
		if to == nil {
			continue
		}
		src.leg().setCopies(func(list []*stream) []*stream {
			return append(slices.DeleteFunc(list, func(s *stream) bool { return s == to }), to)
		})
	}
}

// end gives the subscription's ports back.
func (sub *subscription) end() {
	for i, src := range sub.sources {
		if to := sub.dialog.streams[i]; to != nil {
			src.leg().setCopies(func(list []*stream) []*stream {
				return slices.DeleteFunc(list, func(s *stream) bool { return s == to })
			})
		}
	}
	sub.dialog.release()
}

// setCopies changes the list of streams that get what the party sends; c.mu is held. The worker reads a list that nobody changes.
func (l *leg) setCopies(change func([]*stream) []*stream) {
	var list []*stream
	copies := &l.rarely().copies
	if p := copies.Load(); p != nil {
		list = slices.Clone(*p)
	}
	if list = change(list); len(list) == 0 {
		copies.Store(nil)
		return
	}
	copies.Store(&list)
}

// Unsubscribe ends the subscription with the to-tag.
func (e *Engine) Unsubscribe(req *ng.Request) (*ng.Response, error) {
	return e.withCall(req, func(c *call) error {
		if c.unsubscribe(func(s *subscription) bool { return s.tag == req.ToTag }) == 0 {
			return fmt.Errorf("unsubscribe: %w", errNoSubscription)
		}
		return nil
	})
}

// unsubscribe ends the subscriptions that are chosen, and counts them; c.mu is held.
func (c *call) unsubscribe(chosen func(*subscription) bool) (n int) {
	c.subscriptions = slices.DeleteFunc(c.subscriptions, func(s *subscription) bool {
		if !chosen(s) {
			return false
		}
		s.end()
		n++
		return true
	})
	return n
}

// follow makes the copies of a dialog's parties speak of the payload types of a new answer. One that cannot any more keeps what it
// has: packets of other types are dropped and counted. c.mu is held.
func (c *call) follow(d *dialog, cfg *Config) {
	for _, sub := range c.subscriptions {
		changed := false
		for i, src := range sub.sources {
			if slices.Contains(d.streams, src.stream) && sub.answer.Command != "" {
				choice := &sub.dialog.offer.media[i].choice
				if now := src.codecs(); len(now) > 0 && !slices.Equal(now, choice.offered) {
					choice.offered, changed = now, true
				}
			}
		}
		if changed {
			_ = sub.take(&sub.answer, cfg)
		}
	}
}
