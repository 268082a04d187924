package farm

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
	"rtcedge/media/sdp"
)

// externalMedia is POST /channels/externalMedia: a channel of plain RTP to an address, PCMU, no signalling.
func (n *node) externalMedia(r *ari.Request) (any, error) {
	f := n.farm
	app, _, err := n.appOf(r)
	if err != nil {
		return nil, err
	}
	host, err := netip.ParseAddrPort(r.Text("external_host"))
	switch {
	case err != nil || host.Port() == 0:
		return nil, ari.Refuse(http.StatusBadRequest, "external_host must be <host>:<port> for all transports other than websocket")
	case r.Or("format", "ulaw") != "ulaw":
		return nil, ari.Refuse(http.StatusBadRequest, "format: %q is not supported, ulaw is", r.Text("format"))
	case r.Or("encapsulation", "rtp") != "rtp" || r.Or("transport", "udp") != "udp" || r.Or("connection_type", "client") != "client":
		return nil, ari.Refuse(http.StatusNotImplemented, "The encapsulation, transport or connection_type is not supported: rtp, udp and client are")
	case r.Or("direction", "both") != "both":
		return nil, ari.Refuse(http.StatusNotImplemented, "The direction is not supported: both is")
	}
	s, err := n.looseStream()
	if err != nil {
		return nil, err
	}
	s.setRemote(remoteMedia{addr: host, dir: sdp.SendRecv})
	id := r.Or("channelId", "")
	if id == "" {
		id = f.newID()
	}
	args := argsOf(r)
	if data := r.Text("data"); data != "" { // what Asterisk hands to the application as its arguments
		args = strings.Split(data, ",")
	}
	serial := f.serial.Add(1)
	local := s.rtp.LocalAddr()
	ch := &channel{
		node: n, id: id, name: strings.Replace(channelName(host.String(), serial), "PJSIP/", "UnicastRTP/", 1), created: time.Now(),
		stream: s, app: app, args: args, state: ari.StateUp, cause: causeNormal,
		vars: map[string]string{"UNICASTRTP_LOCAL_ADDRESS": local.Addr().String(), "UNICASTRTP_LOCAL_PORT": strconv.Itoa(int(local.Port()))},
	}
	for name, value := range r.Variables() {
		ch.vars[name] = value
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.taken(id) || len(n.channels) >= f.cfg.MaxCalls || n.closed {
		s.close()
		if n.taken(id) {
			return nil, ari.Refuse(http.StatusConflict, "Channel with given unique ID already exists")
		}
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Too many channels: %d are allowed", f.cfg.MaxCalls)
	}
	n.add(ch)
	n.tell("ChannelCreated", ch, nil, nil)
	answer := ch.shown()
	answer.ChannelVars = map[string]string{"UNICASTRTP_LOCAL_ADDRESS": ch.vars["UNICASTRTP_LOCAL_ADDRESS"], "UNICASTRTP_LOCAL_PORT": ch.vars["UNICASTRTP_LOCAL_PORT"]}
	n.start(ch)
	return answer, nil
}

// looseStream is a stream whose reader no call waits for; who closes it is the node.
func (n *node) looseStream() (*stream, error) {
	f := n.farm
	if !f.enter() {
		return nil, ari.Refuse(http.StatusServiceUnavailable, "The farm is going down")
	}
	s, err := newStream(f.rtpAddr, f.cfg.PortMin, f.cfg.PortMax)
	if err != nil {
		f.wg.Done()
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Allocation failed: no media ports")
	}
	go func() {
		defer f.wg.Done() // of enter
		s.read()
	}()
	return s, nil
}

// snoop is POST /channels/{id}/snoop: a channel that hears another one, without being heard by it. Its stream has no far end.
func (n *node) snoop(r *ari.Request) (any, error) {
	app, spy := r.Text("app"), r.Or("spy", "none")
	switch {
	case app == "":
		return nil, ari.Refuse(http.StatusBadRequest, "Application name is required")
	case !slices.Contains([]string{"in", "out", "both"}, spy):
		return nil, ari.Refuse(http.StatusBadRequest, "Invalid direction specified for spy: in, out or both is allowed")
	case r.Or("whisper", "none") != "none":
		return nil, ari.Refuse(http.StatusNotImplemented, "whisper is not supported: none is")
	}
	if _, err := n.find(r); err != nil {
		return nil, err
	}
	s, err := n.looseStream()
	if err != nil {
		return nil, err
	}
	id := r.Name("snoopId")
	if id == "" {
		id = r.Or("snoopId", n.farm.newID())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	target, err := n.channelOf(r.Name("channelId"))
	switch {
	case err != nil:
	case n.taken(id):
		err = ari.Refuse(http.StatusConflict, "Channel with given unique ID already exists")
	case len(n.channels) >= n.farm.cfg.MaxCalls:
		err = ari.Refuse(http.StatusServiceUnavailable, "Too many channels: %d are allowed", n.farm.cfg.MaxCalls)
	case target.spied != nil:
		err = ari.Refuse(http.StatusConflict, "A snoop cannot be snooped on")
	}
	if err != nil {
		s.close()
		return nil, err
	}
	ch := &channel{
		node: n, id: id, name: fmt.Sprintf("Snoop/%s-%08x", target.id, n.farm.serial.Add(1)), created: time.Now(), stream: s, app: app, args: argsOf(r),
		state: ari.StateUp, cause: causeNormal, vars: map[string]string{},
		spied: target, spyIn: spy != "out", spyOut: spy != "in",
	}
	target.spies.Add(1)
	n.add(ch)
	n.tell("ChannelCreated", ch, nil, nil)
	answer := ch.shown()
	n.start(ch)
	return answer, nil
}

// redirect is POST /channels/{id}/redirect: a caller that was not answered gets 302, a far end that talks gets a REFER.
func (n *node) redirect(r *ari.Request) (any, error) {
	var uri sipmsg.Uri
	text := strings.TrimPrefix(r.Text("endpoint"), "PJSIP/")
	if err := sipmsg.ParseUri(text, &uri); err != nil || uri.Host == "" || strings.ContainsAny(text, "<>\r\n") {
		return nil, ari.Refuse(http.StatusBadRequest, "Endpoint: %q is no SIP URI", text)
	}
	ch, err := n.find(r)
	if err != nil {
		return nil, err
	}
	return nil, ch.ask(func(c *call, l *leg) {
		switch {
		case l.incoming && (l.state == legCalling || l.state == legRinging):
			n.farm.refuse(l.tx, l.invite, 302, "Moved Temporarily", sipmsg.NewHeader("Contact", "<"+text+">"))
			l.end()
		case l.state == legUp:
			req := l.d.request(sipmsg.REFER, "", nil)
			req.AppendHeader(sipmsg.NewHeader("Refer-To", "<"+text+">"))
			req.AppendHeader(sipmsg.NewHeader("Contact", l.d.contact()))
			n.farm.transact(req, nil, nil, func(*sipmsg.Response) {})
		}
	})
}
