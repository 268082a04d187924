package farm

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
)

// transfer is a REFER that the application works off (RFC 3515); there is one at a time on a channel.
type transfer struct {
	id string // of the Event header: the REFER's CSeq
}

// onRefer hands a REFER to the application, as Asterisk does with PJSIP_TRANSFER_HANDLING()=ari-only. It runs on the
// call's goroutine.
func (c *call) onRefer(l *leg, req *sipmsg.Request, tx *sipmsg.ServerTx) {
	f := c.farm
	h := req.GetHeader("Refer-To")
	if h == nil {
		h = req.GetHeader("r") // the compact form
	}
	if l.state != legUp {
		f.respond(tx, req, 603, "Decline")
		return
	}
	var uri sipmsg.Uri
	var params sipmsg.HeaderParams
	if h == nil {
		f.respond(tx, req, 400, "Missing Refer-To")
		return
	}
	if _, err := sipmsg.ParseAddressValue(h.Value(), &uri, &params); err != nil || uri.Host == "" {
		f.respond(tx, req, 400, "Bad Refer-To")
		return
	}
	n := f.node
	n.mu.Lock()
	busy := c.channel.transfer != nil || c.channel.gone
	if !busy {
		c.channel.transfer = &transfer{id: fmt.Sprint(req.CSeq().SeqNo)}
	}
	n.mu.Unlock()
	if busy {
		f.respond(tx, req, 603, "Decline")
		return
	}
	f.respond(tx, req, 202, "Accepted", sipmsg.NewHeader("Contact", l.d.contact()))
	c.notify(l, c.channel.transfer, "SIP/2.0 100 Trying", false)
	n.referred(c.channel, &uri)
}

// referred tells the application what the far end wants.
func (n *node) referred(ch *channel, uri *sipmsg.Uri) {
	n.mu.Lock()
	defer n.mu.Unlock()
	requested := map[string]any{"destination": uri.User, "additional_protocol_params": []any{}}
	refer := map[string]any{"requested_destination": requested}
	if replaces, ok := uri.Headers.Get("Replaces"); ok {
		if text, err := url.PathUnescape(replaces); err == nil {
			callID, rest, _ := strings.Cut(text, ";")
			requested["protocol_id"] = callID
			params := []any{}
			for part := range strings.SplitSeq(rest, ";") {
				name, value, _ := strings.Cut(part, "=")
				params = append(params, map[string]string{"parameter_name": name, "parameter_value": value})
			}
			requested["additional_protocol_params"] = params
			for _, other := range n.channels {
				if other.leg != nil && other.leg.protocolID == callID {
					refer["destination_channel"] = other.shown()
					if peer := other.peer(); peer != nil {
						refer["connected_channel"] = peer.shown()
					}
					if other.bridge != nil {
						refer["bridge"] = other.bridge.shown()
					}
				}
			}
		}
	}
	by := map[string]any{"source_channel": ch.shown()}
	if peer := ch.peer(); peer != nil {
		by["connected_channel"] = peer.shown()
	}
	if ch.bridge != nil {
		by["bridge"] = ch.bridge.shown()
	}
	n.farm.ari.Publish("ChannelTransfer", map[string]any{"refer_to": refer, "referred_by": by}, "channel:"+ch.id)
}

// peer is the other party of a bridge of two.
func (ch *channel) peer() *channel {
	if ch.bridge != nil && len(ch.bridge.members) == 2 {
		for _, other := range ch.bridge.members {
			if other != ch {
				return other
			}
		}
	}
	return nil
}

// notify tells the far end how its transfer goes (RFC 3515, section 2.4.5).
func (c *call) notify(l *leg, t *transfer, line string, last bool) {
	state := "active;expires=60"
	if last {
		state = "terminated;reason=noresource"
	}
	req := l.d.request(sipmsg.NOTIFY, "message/sipfrag;version=2.0", []byte(line+"\r\n"))
	req.AppendHeader(sipmsg.NewHeader("Event", "refer;id="+t.id))
	req.AppendHeader(sipmsg.NewHeader("Subscription-State", state))
	req.AppendHeader(sipmsg.NewHeader("Contact", l.d.contact()))
	c.farm.transact(req, nil, nil, func(*sipmsg.Response) {})
}

// transferProgress is POST /channels/{id}/transfer_progress.
func (n *node) transferProgress(r *ari.Request) (any, error) {
	lines := map[string]string{
		"channel_progress": "SIP/2.0 180 Ringing", "channel_answered": "SIP/2.0 200 OK",
		"channel_unavailable": "SIP/2.0 503 Service Unavailable", "channel_declined": "SIP/2.0 603 Declined",
	}
	state := r.Text("states")
	line, ok := lines[state]
	if !ok {
		return nil, ari.Refuse(http.StatusBadRequest, "Invalid states: channel_progress, channel_answered, channel_unavailable or channel_declined is allowed")
	}
	last := state != "channel_progress"
	var ch *channel
	var t *transfer
	err := n.do(r.Name("channelId"), func(found *channel) error {
		ch, t = found, found.transfer
		if last {
			ch.transfer = nil
		}
		return nil
	})
	if err != nil || t == nil {
		return nil, err // without a transfer Asterisk has nothing to say, either
	}
	return nil, ch.ask(func(c *call, l *leg) {
		if l.state == legUp {
			c.notify(l, t, line, last)
		}
	})
}
