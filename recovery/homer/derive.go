package homer

import (
	"strconv"
	"strings"

	"rtcedge/recovery/hep"
)

// derived are the columns that HOMER takes out of the message itself.
type derived struct {
	Method     string `json:"method"` // or the status of a response
	CSeq       string `json:"cseq"`
	RURIUser   string `json:"ruri_user"`
	RURIDomain string `json:"ruri_domain"`
	FromUser   string `json:"from_user"`
	FromDomain string `json:"from_domain"`
	FromTag    string `json:"from_tag"`
	ToUser     string `json:"to_user"`
	ToDomain   string `json:"to_domain"`
	ToTag      string `json:"to_tag"`
	UserAgent  string `json:"user_agent"`
}

func derive(raw string) (d derived) {
	b := []byte(raw)
	field := func(name string, short byte) string { return string(hep.Field(b, name, short)) }
	first, rest, _ := strings.Cut(raw, " ")
	if code := status(b); code != 0 {
		d.Method = strconv.Itoa(code)
	} else if uri, _, ok := strings.Cut(rest, " "); ok && len(first) < 64 {
		d.Method = first
		d.RURIUser, d.RURIDomain = userDomain(uri)
	}
	from, to := field("from", 'f'), field("to", 't')
	d.CSeq, d.UserAgent = field("cseq", 0), field("user-agent", 0)
	d.FromUser, d.FromDomain = userDomain(uriOf(from))
	d.ToUser, d.ToDomain = userDomain(uriOf(to))
	d.FromTag, d.ToTag = string(tagOf([]byte(from))), string(tagOf([]byte(to)))
	return d
}

// uriOf is the URI of a From or To field. A quoted name may have an angle bracket.
func uriOf(value string) string {
	open := strings.LastIndexByte(value, '<')
	if open < 0 {
		uri, _, _ := strings.Cut(value, ";")
		return strings.TrimSpace(uri)
	}
	uri, _, _ := strings.Cut(value[open+1:], ">")
	return uri
}

// userDomain are the user and the host, without port and parameters. A tel: URI has no host.
func userDomain(uri string) (user, domain string) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return "", ""
	}
	user, host, ok := strings.Cut(rest, "@")
	if !ok {
		user, host = "", rest
	}
	if end := strings.IndexAny(host, ";?"); end >= 0 {
		host = host[:end]
	}
	user, _, _ = strings.Cut(user, ":") // a password
	if strings.EqualFold(scheme, "tel") {
		return host, ""
	}
	if port := strings.LastIndexByte(host, ':'); port > strings.LastIndexByte(host, ']') {
		host = host[:port]
	}
	return user, host
}
