package farm

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"
)

// onRegister answers a REGISTER. Functions occur in the order in which a request meets them.
func (f *Farm) onRegister(req *sipmsg.Request, tx *sipmsg.ServerTx) {
	if !f.has(RoleRegistrar) {
		f.respond(tx, req, 405, "Method Not Allowed", allowHeader())
		return
	}
	// RFC 3261, section 10.3, step 2: unknown extensions. What outbound needs of a registrar is done by the edge.
	if unknown := missing(options(req, "Require"), "path", "outbound"); len(unknown) > 0 {
		f.respond(tx, req, 420, "Bad Extension", sipmsg.NewHeader("Unsupported", strings.Join(unknown, ", ")))
		return
	}
	to := req.To()
	user, ok := f.user(&to.Address)
	if !ok {
		f.respond(tx, req, 404, "Not Found")
		return
	}
	if f.verifier != nil && !f.authorized(req, tx, user) {
		return
	}
	reg, err := readRegistration(req, user)
	if err != nil {
		f.stats.refused.Add(1)
		f.respond(tx, req, 400, "Bad Contact")
		return
	}
	// RFC 3327, section 5.3: a UA that does not know Path would be surprised by it; the edge adds the option tag.
	if len(reg.path) > 0 && !slices.Contains(options(req, "Supported"), "path") && !slices.Contains(options(req, "Require"), "path") {
		f.respond(tx, req, 420, "Bad Extension", sipmsg.NewHeader("Unsupported", "path"))
		return
	}
	if len(reg.path) == 0 && slices.ContainsFunc(reg.contacts, func(c contactWish) bool { return f.leadsBack(c.uri) }) {
		f.stats.refused.Add(1)
		f.respond(tx, req, 403, "Contact Leads Back Here") // a call to it would call itself until nothing is left
		return
	}
	now := time.Now()
	bindings, no := f.locations.register(reg, now)
	if no.status != 0 {
		f.stats.refused.Add(1)
		var extra []sipmsg.Header
		if no.minExpires > 0 {
			extra = append(extra, sipmsg.NewHeader("Min-Expires", seconds(no.minExpires)))
		}
		f.respond(tx, req, no.status, no.reason, extra...)
		return
	}
	f.stats.registers.Add(1)
	if f.qualifier != nil {
		for _, b := range bindings {
			if b.callID == reg.callID && b.seq == reg.seq { // of this REGISTER
				f.qualifier.watch(contactID{user, b.key})
			}
		}
	}
	extra := []sipmsg.Header{
		sipmsg.NewHeader("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")),
		sipmsg.NewHeader("Supported", "path"),
	}
	for _, b := range bindings {
		value := fmt.Sprintf("<%s>;expires=%s", b.uri, seconds(b.expires.Sub(now)))
		if b.q != 1 {
			value += ";q=" + strconv.FormatFloat(b.q, 'f', -1, 64)
		}
		extra = append(extra, sipmsg.NewHeader("Contact", value))
	}
	for _, p := range reg.path {
		extra = append(extra, sipmsg.NewHeader("Path", p))
	}
	f.respond(tx, req, 200, "OK", extra...)
}

// readRegistration takes out of a REGISTER what the location table needs.
func readRegistration(req *sipmsg.Request, user string) (registration, error) {
	r := registration{user: user, callID: req.CallID().Value(), seq: req.CSeq().SeqNo, expires: -1}
	if h := req.GetHeader("Expires"); h != nil {
		r.expires = readExpires(h.Value())
	}
	for _, value := range values(req, "Contact", "m") {
		if value == "*" {
			r.star = true
			continue
		}
		var uri sipmsg.Uri
		var params sipmsg.HeaderParams
		if _, err := sipmsg.ParseAddressValue(value, &uri, &params); err != nil {
			return r, fmt.Errorf("read contact: %w", err)
		}
		if uri.Scheme != "sip" && uri.Scheme != "sips" || uri.Host == "" {
			return r, fmt.Errorf("read contact: %q is no SIP URI", uri.Scheme)
		}
		c := contactWish{uri: uri.String(), key: contactKey(&uri, params), q: 1, expires: -1}
		for _, p := range params {
			switch strings.ToLower(p.K) {
			case "expires":
				c.expires = readExpires(p.V)
			case "q":
				// Out of range or no number (NaN fails both comparisons): the default.
				if q, err := strconv.ParseFloat(p.V, 64); err == nil && q >= 0 && q <= 1 {
					c.q = q
				}
			}
		}
		r.contacts = append(r.contacts, c)
	}
	r.path = values(req, "Path")
	return r, nil
}

// leadsBack tells if a contact is one of our own listeners.
func (f *Farm) leadsBack(contact string) bool {
	var uri sipmsg.Uri
	if sipmsg.ParseUri(contact, &uri) != nil {
		return false
	}
	at, err := netip.ParseAddrPort(hostPort(&uri))
	return err == nil && slices.ContainsFunc(f.listeners, func(l *listener) bool { return l.addr == at })
}

// contactKey is equal for contacts that are the same: by instance and flow where outbound is used (RFC 5626, section 6),
// else by the URI (RFC 3261, section 19.1.4; of its parameters only transport decides where requests go).
func contactKey(uri *sipmsg.Uri, params sipmsg.HeaderParams) string {
	var instance, regID string
	for _, p := range params {
		switch strings.ToLower(p.K) {
		case "+sip.instance":
			instance = p.V
		case "reg-id":
			regID = p.V
		}
	}
	if instance != "" && regID != "" {
		return instance + " " + regID
	}
	transport, _ := uri.UriParams.Get("transport")
	return fmt.Sprintf("%s:%s@%s:%d;%s", uri.Scheme, uri.User, strings.ToLower(uri.Host), uri.Port, strings.ToLower(transport))
}

// readExpires reads seconds. What cannot be read counts as not given, what is too large as the largest (RFC 3261, section
// 20.19).
func readExpires(s string) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return -1
	}
	return time.Duration(min(n, math.MaxUint32)) * time.Second
}

// seconds prints a time rounded up, so that a fresh binding shows what was asked for.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// user is the name of a user of ours in a URI.
func (f *Farm) user(uri *sipmsg.Uri) (string, bool) {
	if uri.User == "" || len(f.cfg.Domains) > 0 && !slices.Contains(f.cfg.Domains, strings.ToLower(uri.Host)) {
		return "", false
	}
	return uri.User, true
}

// values are all values of a header field, in order, one per element.
func values(msg sipmsg.Message, names ...string) []string {
	var out []string
	for _, name := range names {
		for _, h := range msg.GetHeaders(name) {
			out = append(out, splitList(h.Value())...)
		}
	}
	return out
}

// options are the option tags of a header field.
func options(msg sipmsg.Message, name string) []string {
	names := []string{name}
	if name == "Supported" {
		names = append(names, "k") // the compact form
	}
	out := values(msg, names...)
	for i := range out {
		out[i] = strings.ToLower(out[i])
	}
	return out
}

// missing are the elements of want that are not in have.
func missing(want []string, have ...string) []string {
	return slices.DeleteFunc(want, func(s string) bool { return slices.Contains(have, s) })
}
