package ng

import (
	"maps"
	"slices"
	"strings"
)

// The functions here read single words: entries of the list "flags" and tokens of the string "rtpp-flags". Both may
// carry what has a key of its own elsewhere: "codec-mask-all", "SDES-off", "replace-origin", "ICE=remove".

// listNames are the keys whose words may stand among the flags with the key as prefix.
var listNames = []string{"replace", "rtcp-mux", "sdes", "osrtp"}

// listWord adds a word to one of the lists.
func (r *Request) listWord(list, w string) {
	switch list {
	case "replace":
		r.Replace = addWord(r.Replace, normal(w))
	case "rtcp-mux":
		r.RTCPMux = addWord(r.RTCPMux, normal(w))
		if !slices.Contains([]string{"offer", "require", "demux", "accept", "reject"}, normal(w)) {
			r.unknown("rtcp-mux-" + w)
		}
	case "sdes":
		r.SDES = addWord(r.SDES, sdesWord(w))
	case "osrtp":
		r.OSRTP = addWord(r.OSRTP, normal(w))
	case "supports":
		r.Supports = addWord(r.Supports, normal(w))
	}
}

// maxWords bounds a list, chosen by us: the search for doubles is linear, and no controller has so many to say.
const maxWords = 128

func addWord(list []string, w string) []string {
	if w == "" || len(list) == maxWords || slices.Contains(list, w) {
		return list
	}
	return append(list, w)
}

// sdesWord keeps the spelling of suite names: "no-AES_256_CM_HMAC_SHA1_80".
func sdesWord(w string) string {
	for _, prefix := range []string{"no-", "only-", "order:", "offerer_pref:"} {
		if rest, ok := cutFold(w, prefix); ok && rest != "" {
			return prefix + rest
		}
	}
	switch w = normal(w); w {
	case "no", "disable":
		return "off"
	}
	return w
}

// cutFold is strings.CutPrefix without case.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

func (r *Request) addFlag(w string) { r.Flags = addWord(r.Flags, w) }

// word reads one word without a value, or with one as "key=value".
func (r *Request) word(w string) error {
	w = strings.TrimSpace(w)
	if rest, ok := codecPrefix(w); ok {
		r.codecWord(rest)
		return nil
	}
	if key, value, ok := strings.Cut(w, "="); ok {
		return r.pair(key, value)
	}
	name := normal(w)
	for _, prefix := range []string{"extmap-strip-", "extmap-mask-", "from-tags-"} {
		if rest, ok := cutFold(w, prefix); ok && rest != "" {
			return r.set(prefix[:len(prefix)-1], prefix, rest)
		}
	}
	for _, list := range listNames {
		if strings.HasPrefix(name, list+"-") {
			r.listWord(list, w[len(list)+1:])
			return nil
		}
	}
	switch name {
	case "":
	case "record-call":
		r.RecordCall = "on"
	case "pad-crypto":
		r.listWord("sdes", "pad")
	case "always-transcode": // legacy name of codec-accept-all
		r.addFlag(name)
		r.Codec.Accept = addWord(r.Codec.Accept, "all")
	case "webrtc":
		r.webRTC()
	case "all":
		r.All = name
	case "strip-extmap":
		r.Extmap = addWord(r.Extmap, "all")
	default:
		r.addFlag(name)
		if !slices.Contains(understood, name) {
			r.unknown(w)
		}
	}
	return nil
}

// understood are the flags that mean something here, and behind them those whose wish is always granted: addresses are learnt and
// local ports kept whatever the flag, directions pass, SRTP is always opened and sealed anew. Others are kept, ignored and counted.
var understood = []string{
	"strict-source", "asymmetric", "media-handover", "endpoint-learning-off", "endpoint-learning-immediate", "endpoint-learning-delayed",
	"endpoint-learning-heuristic", "sip-source-address", "generate-mid", "no-rtcp-attribute", "keep-transport", "single-codec", "loop-protect",
	"pierce-nat", "always-transcode", "generate-rtcp", "load-limit", "on", "off", "nat-wait", "reset", "static-codecs", "reuse-codecs",
	"no-codec-renegotiation", "inject-dtmf", "detect-dtmf", "full-rtcp-attribute", "reject-ice", "fragment", "fatal", "pause", "inactive",
	"allow-transcoding",

	"trust-address", "symmetric", "port-latching", "original-sendrecv", "trickle-ice", "recrypt", "provisional",
}

// webRTC is rtpengine's name for all that a browser needs. What the controller says elsewhere stays.
func (r *Request) webRTC() {
	if r.Transport == "" {
		r.Transport = "UDP/TLS/RTP/SAVPF"
	}
	if r.ICE == "" {
		r.ICE = "force"
	}
	r.listWord("rtcp-mux", "offer")
	r.listWord("rtcp-mux", "require")
	r.listWord("sdes", "off")
	r.addFlag("no-rtcp-attribute")
	r.addFlag("generate-mid")
}

// pair reads "key=value".
func (r *Request) pair(key, value string) error {
	name := normal(key)
	switch name {
	case "direction":
		if r.Direction[0] == "" {
			r.Direction[0] = value
		} else {
			r.Direction[1] = value
		}
		return nil
	case "via-branch":
		return nil // "auto", "extra", "1": a word for the proxy, which sends the branch itself in the key
	case "call-id", "from-tag", "to-tag":
		// The proxy puts these into the dictionary as well; there they are never cut at a blank.
		if (name == "call-id" && r.CallID != "") || (name == "from-tag" && r.FromTag != "") || (name == "to-tag" && r.ToTag != "") {
			return nil
		}
	case "command", "sdp", "flags", "codec", "rtpp-flags":
		r.unknown(key)
		return nil
	}
	return r.set(name, key, value)
}

// rtppFlags reads the flags of Kamailio's functions as one string, separated by blanks.
func (r *Request) rtppFlags(line string) error {
	var parts transportParts
	before := r.Direction
	r.Direction = [2]string{}
	for _, w := range strings.Fields(line) {
		if parts.word(w) {
			continue
		}
		switch strings.ToLower(w) {
		case "internal", "external": // rtpproxy's names of the two sides
			if err := r.pair("direction", strings.ToLower(w)); err != nil {
				return err
			}
		case "from-tag", "to-tag", "call-id", "via-branch", "force":
			// Words for the proxy only.
		default:
			if err := r.word(w); err != nil {
				return err
			}
		}
	}
	if p := parts.protocol(); p != "" && r.Transport == "" {
		r.Transport = p
	}
	if before != [2]string{} {
		r.Direction = before
	}
	return nil
}

// transportParts collects what a flags string says of the transport, as one word or in pieces: "SRTP AVPF".
type transportParts struct {
	whole                  string
	seen, secure, feedback bool
}

func (t *transportParts) word(w string) bool {
	u := strings.ToUpper(w)
	switch u {
	case "RTP", "AVP":
	case "SRTP":
		t.secure = true
	case "AVPF":
		t.feedback = true
	default:
		if !slices.Contains(transports, u) {
			return false
		}
		t.whole = u
	}
	t.seen = true
	return true
}

func (t *transportParts) protocol() string {
	switch {
	case !t.seen:
		return ""
	case t.whole != "":
		return t.whole
	case t.secure && t.feedback:
		return "RTP/SAVPF"
	case t.secure:
		return "RTP/SAVP"
	case t.feedback:
		return "RTP/AVPF"
	}
	return "RTP/AVP"
}

// codecPrefix takes "codec-" off, or "transcode" of the older form "transcode-PCMU".
func codecPrefix(w string) (string, bool) {
	if rest, ok := cutFold(w, "codec-"); ok {
		return rest, true
	}
	if rest, ok := cutFold(w, "transcode-"); ok {
		return "transcode-" + rest, true
	}
	if rest, ok := cutFold(w, "transcode="); ok {
		return "transcode-" + rest, true
	}
	return w, false
}

// codecWord reads "mask-all" or "mask=all"; "--" in the codec stands for "=".
func (r *Request) codecWord(w string) {
	i := strings.IndexAny(w, "-=")
	if i < 0 {
		r.unknown("codec-" + w)
		return
	}
	list := r.Codec.list(w[:i])
	if list == nil || i+1 == len(w) {
		r.unknown("codec-" + w)
		return
	}
	*list = addWord(*list, strings.ReplaceAll(w[i+1:], "--", "="))
}

// list finds the list of one operation of the codec dictionary.
func (c *Codec) list(name string) *[]string {
	switch strings.ToLower(name) {
	case "strip":
		return &c.Strip
	case "offer":
		return &c.Offer
	case "mask":
		return &c.Mask
	case "except":
		return &c.Except
	case "transcode":
		return &c.Transcode
	case "accept":
		return &c.Accept
	case "consume":
		return &c.Consume
	case "set":
		return &c.Set
	}
	return nil
}

// extmapDict reads the dictionary "extmap". To strip and to mask are one here: nothing on the way reads header extensions.
func (r *Request) extmapDict(key string, v any) error {
	dict, ok := v.(map[string]any)
	if !ok {
		return &keyError{key, show(v), "a dictionary of lists: strip, mask"}
	}
	for _, name := range slices.Sorted(maps.Keys(dict)) {
		if name = normal(name); name != "strip" && name != "mask" {
			r.unknown("extmap " + name)
			continue
		}
		for _, w := range texts(dict[name]) {
			r.Extmap = addWord(r.Extmap, w)
		}
	}
	return nil
}

// codecDict reads the dictionary "codec".
func (r *Request) codecDict(key string, v any) error {
	dict, ok := v.(map[string]any)
	if !ok {
		return &keyError{key, show(v), "a dictionary of lists: strip, offer, mask, except, transcode, accept, consume, set"}
	}
	var room [maxKeys]string
	for _, name := range sortedKeys(room[:0], dict) {
		list := r.Codec.list(name)
		if list == nil {
			r.unknown("codec " + name)
			continue
		}
		for _, w := range texts(dict[name]) {
			*list = addWord(*list, w)
		}
	}
	slices.Sort(r.Unknown)
	return nil
}
