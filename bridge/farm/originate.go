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

// Functions of this file occur in the order in which an originated call meets them.

const defaultDial = 30 // seconds that an originated channel may ring

// originate is POST /channels: a call to a SIP URI by way of the edge (PJSIP/edge/sip:...), or to a registered user
// (PJSIP/NAME).
func (n *node) originate(r *ari.Request) (any, error) {
	f := n.farm
	endpoint := r.Text("endpoint")
	id := r.Name("channelId")
	if id == "" {
		id = r.Text("channelId")
	}
	app, _, err := n.appOf(r)
	if err != nil {
		return nil, err
	}
	timeout, err := r.Int("timeout", defaultDial, -1, 86400)
	if err != nil {
		return nil, err
	}
	vars := r.Variables()
	if len(vars) > maxVariables {
		return nil, ari.Refuse(http.StatusBadRequest, "Too many variables: %d are allowed", maxVariables)
	}
	rest, ok := strings.CutPrefix(endpoint, "PJSIP/")
	switch {
	case endpoint == "":
		return nil, ari.Refuse(http.StatusBadRequest, "Endpoint must be specified")
	case !ok:
		return nil, ari.Refuse(http.StatusBadRequest, "Endpoint %s: PJSIP/edge/URI or PJSIP/USER is allowed", endpoint)
	}
	w, user, err := n.wayOf(rest)
	if err != nil {
		return nil, err
	}
	c := f.newCall(KindStasis, user)
	if c == nil {
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Too many calls, or the farm is going down")
	}
	undo := func(l *leg) {
		if l != nil {
			l.end()
		}
		close(c.done)
		f.forgetCall(c)
	}
	l, err := c.newLeg(false, user)
	if err != nil {
		undo(nil)
		return nil, ari.Refuse(http.StatusServiceUnavailable, "Allocation failed: no media ports")
	}
	if id != "" {
		l.id = id
	}
	caller := readCallerID(r.Text("callerId"))
	if l.d, err = n.dialogOf(w, caller, vars); err != nil {
		undo(l)
		return nil, ari.Refuse(http.StatusBadRequest, "%s", err)
	}
	l.protocolID = l.d.callID
	if session, ok := decimal(vars["PJSIP_RECOVERY_SDP_SESSION"]); ok {
		l.neg.id = session
		l.neg.version, _ = decimal(vars["PJSIP_RECOVERY_SDP_VERSION"])
	}
	ch := &channel{
		node: n, id: l.id, name: l.name, created: l.created, call: c, leg: l, stream: l.stream, exten: "",
		app: app, args: argsOf(r), state: ari.StateDown, caller: caller,
		vars: map[string]string{}, cause: causeNormal, dial: true, target: strings.TrimPrefix(endpoint, "PJSIP/"),
	}
	for name, value := range vars {
		if !strings.Contains(name, "(") {
			ch.vars[name] = value
		}
	}
	n.mu.Lock()
	if n.taken(id) {
		n.mu.Unlock()
		undo(l)
		return nil, ari.Refuse(http.StatusConflict, "Channel with given unique ID already exists")
	}
	n.add(ch)
	n.tell("ChannelCreated", ch, nil, nil)
	f.ari.Subscribe(app, "channel:"+ch.id) // until the end, not only until StasisEnd, as Asterisk does
	n.tellDial(ch, "")
	answer := ch.shown()
	n.mu.Unlock()
	c.channel = ch

	l.open()
	if timeout > 0 {
		c.ringUntil = time.Now().Add(time.Duration(timeout) * time.Second)
	}
	req := l.d.request(sipmsg.INVITE, "application/sdp", l.neg.offer())
	addHeaders(req, vars)
	l.invite = req.Clone() // sipgo owns what it sends
	f.transact(req, l.forget, func(res *sipmsg.Response) { c.onRepeated(l, res) }, func(res *sipmsg.Response) {
		if res == nil {
			c.post(event{kind: evGone, leg: l})
		} else {
			c.post(event{kind: evResponse, leg: l, res: res})
		}
	})
	f.wg.Go(c.run)
	return answer, nil
}

// appOf is the application that a new channel is for; it must be there, or the channel would belong to nobody.
func (n *node) appOf(r *ari.Request) (app string, _ bool, err error) {
	switch app = r.Text("app"); {
	case app == "" && r.Has("extension"):
		return "", false, ari.Refuse(http.StatusBadRequest, "Extension is not supported: app is")
	case app == "":
		return "", false, ari.Refuse(http.StatusBadRequest, "Application or extension must be specified")
	}
	return app, true, nil
}

func argsOf(r *ari.Request) []string {
	if text := r.Text("appArgs"); text != "" {
		return strings.Split(text, ",")
	}
	return nil
}

// taken tells if a channel of that name is there.
func (n *node) taken(id string) bool {
	return id != "" && (n.channels[id] != nil || n.legacy(id))
}

// wayOf is how the first request of a call leaves, and the user whom it is for.
func (n *node) wayOf(endpoint string) (way, string, error) {
	f := n.farm
	name, uri, withURI := strings.Cut(endpoint, "/")
	if !withURI {
		contacts := f.locations.contacts(name, time.Now())
		if len(contacts) == 0 {
			return way{}, "", ari.Refuse(http.StatusBadRequest, "Endpoint PJSIP/%s: no contact is registered", name)
		}
		w, err := f.wayTo(contacts[0]) // Asterisk calls the first contact of PJSIP/NAME, too
		if err != nil {
			return way{}, "", ari.Refuse(http.StatusBadRequest, "Endpoint PJSIP/%s: %v", name, err)
		}
		return w, name, nil
	}
	if name != edgeEndpoint {
		return way{}, "", ari.Refuse(http.StatusBadRequest, "Endpoint PJSIP/%s: edge is the one that takes a URI", name)
	}
	var w way
	if err := sipmsg.ParseUri(uri, &w.target); err != nil || w.target.Host == "" {
		return way{}, "", ari.Refuse(http.StatusBadRequest, "Endpoint: %q is no SIP URI", uri)
	}
	hop := w.target
	if f.cfg.Edge.IsValid() {
		w.routes = []string{"<sip:" + f.cfg.Edge.String() + ";lr>"}
		hop = sipmsg.Uri{Host: f.cfg.Edge.Addr().String()}
	}
	w.via = f.listenerFor(wantsTCP(&hop))
	return w, w.target.User, nil
}

// edgeEndpoint is the PJSIP endpoint by which a farm node reaches every URI: the contract with the bridge role.
const edgeEndpoint = "edge"

// dialogOf is the dialog of a new call, or the one that PJSIP_RECOVERY_* variables describe.
func (n *node) dialogOf(w way, caller ari.CallerID, vars map[string]string) (dialog, error) {
	d := dialog{
		callID:   n.farm.newCallID(),
		localTag: sipmsg.GenerateTagN(16),
		target:   w.target, routes: w.routes, via: w.via, user: caller.Number,
	}
	from := sipmsg.Uri{Scheme: "sip", User: caller.Number, Host: w.via.addr.Addr().String()}
	if caller.Number == "" {
		from.User = "anonymous"
		d.user = "rtcedge"
	}
	to := sipmsg.Uri{Scheme: w.target.Scheme, User: w.target.User, Host: w.target.Host, Port: w.target.Port}
	d.localName, d.remote = nameAddr(quote(caller.Name), &from), nameAddr("", &to)
	for name := range vars {
		if strings.HasPrefix(name, recoveryPrefix) {
			return recovered(d, vars)
		}
	}
	// A contact's Path comes as a Route of its own (contract): it follows the edge, which is loose.
	if route := vars["PJSIP_HEADER(add,Route)"]; route != "" {
		for _, r := range splitList(route) {
			if _, err := routeURI(r); err != nil {
				return dialog{}, fmt.Errorf("PJSIP_HEADER(add,Route): %w", err)
			}
			d.routes = append(d.routes, r)
		}
	}
	return d, nil
}

// addHeaders puts the headers of PJSIP_HEADER(add,NAME) variables into a request. A line break in one would be a header of
// somebody else's.
func addHeaders(req *sipmsg.Request, vars map[string]string) {
	for key, value := range vars {
		name, ok := strings.CutPrefix(key, "PJSIP_HEADER(add,")
		name = strings.TrimSpace(strings.TrimSuffix(name, ")"))
		if !ok || !isToken(name) || strings.EqualFold(name, "Route") || strings.ContainsAny(value, "\r\n\x00") {
			continue
		}
		req.AppendHeader(sipmsg.NewHeader(name, value))
	}
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~") == ""
}

// readCallerID reads NAME <NUMBER>, or a number alone.
func readCallerID(text string) ari.CallerID {
	clean := strings.NewReplacer("\r", "", "\n", "", "\x00", "")
	text = clean.Replace(text)
	name, rest, ok := strings.Cut(text, "<")
	if !ok {
		return ari.CallerID{Number: onlyUser(text)}
	}
	number, _, _ := strings.Cut(rest, ">")
	return ari.CallerID{Name: strings.Trim(strings.TrimSpace(name), `"`), Number: onlyUser(number)}
}

// onlyUser keeps what may stand in the user part of a URI without escapes.
func onlyUser(s string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 127 && !strings.ContainsRune(`<>"@;:\`, r) {
			return r
		}
		return -1
	}, s)
}

// quote escapes a display name (RFC 3261, section 25.1).
func quote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
}

func decimal(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}

// onOriginated takes a response to an originated INVITE. It runs on the call's goroutine.
func (c *call) onOriginated(l *leg, res *sipmsg.Response) {
	n := c.farm.node
	switch {
	case l.state == legEnded:
	case res.IsProvisional():
		l.early = true
		if l.cancel {
			c.sendCancel(l)
			return
		}
		if res.StatusCode > 100 && l.state == legCalling {
			l.state = legRinging
			n.rings(c.channel)
		}
	case res.IsSuccess():
		c.originated(l, res)
	default:
		c.onOriginateFailed(l, res.StatusCode)
	}
}

// originated brings an answered call under control.
func (c *call) originated(l *leg, res *sipmsg.Response) {
	l.d.confirm(res)
	l.giveUp, c.ringUntil = time.Time{}, time.Time{}
	l.state = legUp
	c.sendAck(l)
	if l.cancel {
		c.sendBye(l)
		return
	}
	remote, err := l.neg.accept(res.Body())
	if err != nil {
		l.cause = causeOfStatus(488)
		c.sendBye(l)
		c.farm.node.lose(c.channel, l.cause)
		return
	}
	l.stream.setRemote(remote)
	l.held = !remote.dir.Receives()
	c.answered = time.Now()
	c.farm.node.answeredFar(c.channel, l.held)
}

// onOriginateFailed ends an originated call that was not answered. A dialog that was taken over is there all the same, so
// that the far end gets a BYE in it (B50, B61), unless it does not know it, or is only busy with an offer of its own.
func (c *call) onOriginateFailed(l *leg, status int) {
	if l.state == legEnded {
		return
	}
	c.ringUntil = time.Time{}
	cause := causeOfStatus(status)
	if l.cancel {
		cause = l.cause
	}
	c.farm.node.lose(c.channel, cause)
	if l.d.frozen && status != 481 && status != 491 {
		l.cause = cause
		c.sendBye(l)
		return
	}
	l.end()
}

// rings tells that the far end of an originated call rings.
func (n *node) rings(ch *channel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch.gone {
		return
	}
	n.tellDial(ch, "RINGING")
	n.become(ch, ari.StateRinging)
}

// answeredFar puts an originated call under control.
func (n *node) answeredFar(ch *channel, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch.gone {
		return
	}
	ch.dial, ch.farHeld = false, held
	n.become(ch, ari.StateUp)
	n.tellDial(ch, "ANSWER")
	n.start(ch)
	n.rewire(ch)
}

// causeOfStatus is the Q.850 cause of a refused INVITE (hangup_sip2cause in chan_pjsip.c).
func causeOfStatus(status int) int {
	causes := map[int]int{
		401: 21, 402: 21, 403: 21, 407: 21, 603: 21, 404: 1, 485: 1, 604: 1, 408: 18, 409: 41, 410: 22, 480: 19, 483: 19,
		484: 28, 486: 17, 600: 17, 488: 58, 606: 58, 500: 38, 501: 79, 502: 27, 504: 102, 420: 3, 414: 3, 413: 3, 405: 3,
		487: 16, 481: 127, 491: 127,
	}
	if cause, ok := causes[status]; ok {
		return cause
	}
	switch {
	case status >= 500 && status < 600:
		return 34
	default:
		return 127
	}
}

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
	serial := f.serial.Add(1)
	local := s.rtp.LocalAddr()
	ch := &channel{
		node: n, id: id, name: strings.Replace(channelName(host.String(), serial), "PJSIP/", "UnicastRTP/", 1), created: time.Now(),
		stream: s, app: app, args: argsOf(r), state: ari.StateUp, cause: causeNormal,
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

// causeText is a Q.850 cause in words (ast_cause2str).
func causeText(cause int) string {
	texts := map[int]string{
		0: "Unknown", 1: "Unallocated (unassigned) number", 16: "Normal Clearing", 17: "User busy", 18: "No user responding",
		19: "User alerting, no answer", 21: "Call Rejected", 26: "Answered elsewhere", 28: "Invalid number format",
		34: "Circuit/channel congestion", 38: "Network out of order", 58: "Bearer capability not available",
		127: "Interworking, unspecified",
	}
	if text, ok := texts[cause]; ok {
		return text
	}
	return "Unknown"
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
