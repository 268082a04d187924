package farm

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
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
	c := f.newCall(user)
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
			c.post(event{kind: evGone})
		} else {
			c.post(event{kind: evResponse, res: res})
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
	return id != "" && n.channels[id] != nil
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

// way is how requests reach a contact.
type way struct {
	target sipmsg.Uri
	routes []string  // each with angle brackets
	via    *listener // what they leave from
}

// wayTo is the way to a registered contact.
func (f *Farm) wayTo(b binding) (way, error) {
	w := way{routes: b.path}
	if err := sipmsg.ParseUri(b.uri, &w.target); err != nil {
		return way{}, fmt.Errorf("read contact: %w", err)
	}
	if len(w.routes) == 0 && f.cfg.Edge.IsValid() {
		w.routes = []string{"<sip:" + f.cfg.Edge.String() + ";lr>"}
	}
	hop := w.target
	if len(w.routes) > 0 {
		if uri, err := routeURI(w.routes[0]); err == nil {
			hop = uri
		}
	}
	w.via = f.listenerFor(wantsTCP(&hop))
	return w, nil
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
