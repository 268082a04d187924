package farm

import (
	"crypto/md5" //nolint:gosec // the name of a contact as Asterisk's registrar makes it, no secret
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rtcedge/bridge/ari"
)

// variable evaluates a channel's variable or function, as the dialplan would. It runs under the lock; what belongs to the
// call was asked of it before.
func (n *node) variable(ch *channel, dialogFields map[string]string, name string) (string, bool) {
	function, arg, isFunction := strings.Cut(strings.TrimSuffix(name, ")"), "(")
	if !isFunction {
		if v, ok := ch.vars[name]; ok {
			return v, true
		}
		v, ok := n.globals[name]
		return v, ok
	}
	switch function {
	case "CALLERID":
		switch arg {
		case "num", "number":
			return ch.caller.Number, true
		case "name":
			return ch.caller.Name, true
		case "all":
			return fmt.Sprintf("%q <%s>", ch.caller.Name, ch.caller.Number), true
		}
	case "CHANNEL":
		switch arg {
		case "name":
			return ch.name, true
		case "state":
			return ch.state, true
		case "uniqueid", "linkedid":
			return ch.id, true
		case "audioreadformat", "audiowriteformat", "audionativeformat":
			return "ulaw", true
		case "channeltype":
			kind, _, _ := strings.Cut(ch.name, "/")
			return kind, true
		}
		v, ok := dialogFields[strings.TrimPrefix(arg, "pjsip,")]
		return v, ok
	case "PJSIP_HEADER":
		v, ok := dialogFields[strings.ToLower("header "+arg)]
		return v, ok
	}
	return n.function(function, arg)
}

// dialogFields are what CHANNEL(pjsip,...) and PJSIP_HEADER(read,...) can be asked. It runs on the call's goroutine.
func (l *leg) dialogFields() map[string]string {
	out := map[string]string{
		"call-id": l.d.callID, "local_tag": l.d.localTag, "remote_tag": l.d.remoteTag,
		"local_uri": insideBrackets(l.d.localName), "remote_uri": insideBrackets(l.d.remote),
		"target_uri": l.d.target.String(), "local_cseq": strconv.FormatUint(uint64(l.d.seq), 10),
	}
	if l.incoming && l.invite != nil {
		out["request_uri"] = l.invite.Recipient.String()
		for _, h := range l.invite.Headers() {
			key := strings.ToLower("header read," + h.Name())
			if _, first := out[key]; !first {
				out[key] = h.Value()
			}
		}
	}
	return out
}

func insideBrackets(nameAddr string) string {
	_, rest, _ := strings.Cut(nameAddr, "<")
	uri, _, _ := strings.Cut(rest, ">")
	return uri
}

// function evaluates what needs no channel: the registrar's contacts, by the same functions as with Asterisk.
func (n *node) function(function, arg string) (string, bool) {
	now := time.Now()
	user, field, _ := strings.Cut(arg, ",")
	switch function {
	case "PJSIP_AOR":
		contacts := n.farm.locations.contacts(user, now)
		names := make([]string, len(contacts))
		for i, b := range contacts {
			names[i] = contactName(user, b)
		}
		if field == "contact" && len(names) > 0 {
			return strings.Join(names, ","), true
		}
	case "PJSIP_CONTACT":
		aor, _, _ := strings.Cut(user, ";@")
		for _, b := range n.farm.locations.contacts(aor, now) {
			if contactName(aor, b) != user {
				continue
			}
			switch field {
			case "uri":
				return b.uri, true
			case "path":
				return strings.Join(b.path, ","), true
			case "expiration_time":
				return strconv.FormatInt(b.expires.Unix(), 10), true
			case "aor":
				return aor, true
			case "call_id":
				return b.callID, true
			}
		}
	case "DB":
		// The key under which Asterisk's registrar keeps a contact in AstDB.
		name, ok := strings.CutPrefix(arg, "registrar/contact/")
		aor, _, _ := strings.Cut(name, ";@")
		for _, b := range n.farm.locations.contacts(aor, now) {
			if ok && contactName(aor, b) == name {
				return contactJSON(aor, b), true
			}
		}
	case "DB_KEYS":
		if arg == "registrar/contact" {
			var names []string
			n.farm.locations.walk(now, func(user string, b binding) { names = append(names, contactName(user, b)) })
			return strings.Join(names, ","), len(names) > 0
		}
	}
	return "", false
}

// contactName is AOR;@MD5-OF-URI (res_pjsip_registrar.c).
func contactName(user string, b binding) string {
	sum := md5.Sum([]byte(b.uri)) //nolint:gosec // see the import
	return user + ";@" + hex.EncodeToString(sum[:])
}

// contactJSON is a contact as Asterisk keeps it in AstDB.
func contactJSON(user string, b binding) string {
	text, err := json.Marshal(map[string]string{
		"uri": b.uri, "path": strings.Join(b.path, ","), "expiration_time": strconv.FormatInt(b.expires.Unix(), 10),
		"call_id": b.callID, "endpoint": user, "reg_server": "", "user_agent": "",
	})
	if err != nil {
		return ""
	}
	return string(text)
}

// setVariable is POST on a variable.
func setVariable(vars map[string]string, r *ari.Request) (name, value string, err error) {
	name, value = r.Text("variable"), r.Text("value")
	switch {
	case name == "":
		return "", "", ari.Refuse(http.StatusBadRequest, "Variable name is required")
	case len(value) > 4096 || len(name) > 200:
		return "", "", ari.Refuse(http.StatusBadRequest, "Variable is longer than 4096 bytes")
	case len(vars) >= maxVariables:
		return "", "", ari.Refuse(http.StatusServiceUnavailable, "Too many variables: %d are allowed", maxVariables)
	}
	vars[name] = value
	return name, value, nil
}

// attribute is one field of a configuration object.
type attribute struct {
	Name  string `json:"attribute"`
	Value string `json:"value"`
}

// configObject shows a registered user's aor and its contacts as Asterisk's registrar keeps them (res_pjsip, aor and contact).
func (n *node) configObject(r *ari.Request) (any, error) {
	id, now := r.Name("id"), time.Now()
	aor, _, _ := strings.Cut(id, ";@")
	contacts := n.farm.locations.contacts(aor, now)
	if r.Name("configClass") == "res_pjsip" && (len(contacts) > 0 || n.farm.account(aor)) {
		switch r.Name("objectType") {
		case "aor":
			uris := make([]string, len(contacts))
			for i, b := range contacts {
				uris[i] = b.uri
			}
			if id == aor {
				return []attribute{{"contact", strings.Join(uris, ",")}, {"support_path", "true"}}, nil
			}
		case "contact":
			for _, b := range contacts {
				if contactName(aor, b) == id {
					return []attribute{{"uri", b.uri}, {"path", strings.Join(b.path, ",")}, {"expiration_time", strconv.FormatInt(b.expires.Unix(), 10)},
						{"call_id", b.callID}, {"endpoint", aor}}, nil
				}
			}
		}
	}
	return nil, ari.Refuse(http.StatusNotFound, "Object not found")
}
