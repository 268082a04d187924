package farm

import (
	"fmt"
	"strconv"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

// recoveryPrefix begins the variables by which a dialog of a dead node is taken over, the same as with the patched Asterisk
// (asterisk-patch): FROM is our side, TO the far end, whoever called whom.
const recoveryPrefix = "PJSIP_RECOVERY_"

// recovered is the dialog that the variables describe. It is pure. All of them are right, or there is no dialog (B57).
func recovered(d dialog, vars map[string]string) (dialog, error) {
	bad := func(name, what string) (dialog, error) {
		return dialog{}, fmt.Errorf("%s%s: %q %s", recoveryPrefix, name, vars[recoveryPrefix+name], what)
	}
	get := func(name string) string { return strings.TrimSpace(vars[recoveryPrefix+name]) }
	for name, value := range vars {
		if strings.HasPrefix(name, recoveryPrefix) && strings.ContainsAny(value, "\r\n\x00") {
			return bad(strings.TrimPrefix(name, recoveryPrefix), "has a line break")
		}
	}
	for _, name := range []string{"FROM_TAG", "TO_TAG", "CALL-ID"} {
		if value := get(name); value == "" || strings.ContainsAny(value, " \t;,<>") {
			return bad(name, "is empty or no token")
		}
	}
	d.callID, d.localTag, d.remoteTag = get("CALL-ID"), get("FROM_TAG"), get("TO_TAG")

	seq, err := strconv.ParseUint(get("CSEQ"), 10, 31) // RFC 3261, section 8.1.1.5
	if err != nil || seq == 0 {
		return bad("CSEQ", "is no number from 1 to 2147483647")
	}
	d.seq = uint32(seq) - 1 // the next request counts up
	if text := get("REMOTE_CSEQ"); text != "" {
		theirs, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return bad("REMOTE_CSEQ", "is no number from 0 to 2147483647")
		}
		d.remoteSeq = uint32(theirs)
	}
	for _, side := range []struct {
		name string
		into *string
	}{{"FROM", &d.localName}, {"TO", &d.remote}} {
		var uri sipmsg.Uri
		text := strings.TrimSuffix(strings.TrimPrefix(get(side.name+"_URI"), "<"), ">")
		if err := parseAnyURI(text, &uri); err != nil {
			return bad(side.name+"_URI", "is no URI")
		}
		display, ok := escaped(get(side.name + "_DISPLAY"))
		if !ok {
			return bad(side.name+"_DISPLAY", "has a quote or a backslash that is not escaped")
		}
		*side.into = "<" + text + ">" // as it was: the far end compares
		if display != "" {
			*side.into = `"` + display + `" ` + *side.into
		}
		if side.name == "FROM" {
			d.user = uri.User
		}
	}
	if err := sipmsg.ParseUri(strings.TrimSuffix(strings.TrimPrefix(get("REQUEST_URI"), "<"), ">"), &d.target); err != nil || d.target.Host == "" || !strings.HasPrefix(d.target.Scheme, "sip") {
		return bad("REQUEST_URI", "is no SIP URI")
	}
	// The route set is the old one, also if it is empty; only without a word about it the edge stands in.
	if text, given := vars[recoveryPrefix+"ROUTES"]; given {
		d.routes = nil
		for _, r := range splitList(text) {
			if _, err := routeURI(r); err != nil {
				return bad("ROUTES", "is no list of <sip:...;lr>")
			}
			d.routes = append(d.routes, r)
		}
	}
	d.frozen = true
	return d, nil
}

// escaped is a display name as it stands between quotes, given with or without them and with or without escapes.
func escaped(text string) (string, bool) {
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	if !strings.Contains(text, `\`) {
		return quote(text), true
	}
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			return "", false
		case '\\':
			if i++; i == len(text) {
				return "", false
			}
		}
	}
	return text, true
}

// parseAnyURI reads a SIP URI, or takes a tel URI for what it is.
func parseAnyURI(text string, uri *sipmsg.Uri) error {
	if number, ok := strings.CutPrefix(text, "tel:"); ok && number != "" && !strings.ContainsAny(number, " <>\"") {
		uri.User, _, _ = strings.Cut(number, ";")
		return nil
	}
	if err := sipmsg.ParseUri(text, uri); err != nil {
		return fmt.Errorf("read URI: %w", err)
	}
	if uri.Host == "" || strings.ContainsAny(text, " <>\"") {
		return fmt.Errorf("read URI: %q has no host", text)
	}
	return nil
}
