package ng

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keyError is a value that cannot be: it becomes the error-reason of the answer.
type keyError struct{ key, got, want string }

func (e *keyError) Error() string {
	return fmt.Sprintf("key %q has the value %.80q, want %s", e.key, e.got, e.want)
}

// requestFrom fills a request from a dictionary of either form.
func requestFrom(dict map[string]any) (*Request, error) {
	var room [maxKeys]string
	entries := make([]entry, 0, len(dict))
	for _, key := range sortedKeys(room[:0], dict) {
		entries = append(entries, entry{key, dict[key]})
	}
	return requestOf(entries)
}

// requestOf fills a request from the sorted entries of its dictionary.
func requestOf(entries []entry) (*Request, error) {
	r := &Request{}
	var line []string // rtpp-flags: read last, as the keys of the dictionary go first
	for _, e := range entries {
		name := normal(e.key)
		if name == "rtpp-flags" || name == "rtpp-flag" {
			line = append(line, text(e.value))
			continue
		}
		if err := r.set(name, e.key, e.value); err != nil {
			return nil, err
		}
	}
	for _, l := range line {
		if err := r.rtppFlags(l); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// normal folds the spellings of a key or word: lower case; spaces and underscores are hyphens.
func normal(s string) string {
	if isNormal(s) {
		return s
	}
	return strings.Map(func(c rune) rune {
		switch c {
		case ' ', '_':
			return '-'
		}
		return c
	}, strings.ToLower(s))
}

func isNormal(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == ' ' || c == '_' || c >= 'A' && c <= 'Z' || c >= 0x80 {
			return false
		}
	}
	return true
}

// text is a scalar as text; a list or dictionary is "".
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// texts is a list of scalars as text; a scalar is a list of one.
func texts(v any) []string {
	list, ok := v.([]any)
	if !ok {
		if s := text(v); s != "" {
			return []string{s}
		}
		return nil
	}
	var out []string
	for _, e := range list {
		if s := text(e); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// show is a value for an error-reason.
func show(v any) string {
	switch v.(type) {
	case []any, map[string]any:
		return string(appendBencode(nil, v))
	}
	return text(v)
}

// set understands one key; name is its normal spelling.
func (r *Request) set(name, key string, v any) error {
	bad := func(want string) error { return &keyError{key, show(v), want} }
	switch name {
	case "command":
		r.Command = strings.ReplaceAll(normal(strings.TrimSpace(text(v))), "-", " ")
	case "call-id":
		r.CallID = strings.Clone(text(v)) // lives as long as the call; the message need not
	case "from-tag":
		r.FromTag = strings.Clone(text(v))
	case "to-tag":
		r.ToTag = strings.Clone(text(v))
	case "via-branch":
		r.ViaBranch = strings.Clone(text(v))
	case "sdp":
		s, ok := v.(string)
		if !ok {
			return bad("the body as a string")
		}
		r.SDP = []byte(s)
	case "label", "from-label":
		r.Label = strings.Clone(text(v))
	case "to-label":
		r.ToLabel = text(v)
	case "set-label":
		r.SetLabel = strings.Clone(text(v))
	case "from-tags":
		for _, tag := range texts(v) {
			r.FromTags = addWord(r.FromTags, tag)
		}
	case "metadata":
		r.Metadata = strings.Clone(text(v))
	case "file":
		r.File = text(v)
	case "blob":
		s, ok := v.(string)
		if !ok {
			return bad("the bytes of a WAV file as a string")
		}
		r.Blob = []byte(s)
	case "other-call-id":
		r.OtherCallID = text(v)
	case "other-tag", "other-from-tag":
		r.OtherTag = text(v)
	case "code", "digit":
		r.Code = text(v)
	case "flags":
		for _, w := range texts(v) {
			if err := r.word(w); err != nil {
				return err
			}
		}
	case "codec":
		return r.codecDict(key, v)
	case "extmap":
		return r.extmapDict(key, v)
	case "extmap-strip", "extmap-mask":
		for _, w := range texts(v) {
			r.Extmap = addWord(r.Extmap, w)
		}
	case "direction":
		return r.setDirection(key, v)
	case "from-interface", "interface":
		r.Direction[0] = text(v)
	case "to-interface":
		r.Direction[1] = text(v)
	case "replace", "rtcp-mux", "sdes", "osrtp", "supports":
		for _, w := range texts(v) {
			r.listWord(name, w)
		}
	default:
		return r.setOption(name, key, v)
	}
	return nil
}

// setOption understands the keys with a value that is checked.
func (r *Request) setOption(name, key string, v any) (err error) {
	bad := func(want string) error { return &keyError{key, show(v), want} }
	switch name {
	case "transport-protocol":
		p := strings.ToUpper(text(v))
		if p == "ACCEPT" {
			r.Transport = "accept"
		} else if i := slices.Index(transports, p); i < 0 {
			return bad("one of " + strings.Join(transports, ", "))
		} else {
			r.Transport = transports[i]
		}
	case "ice":
		r.ICE, err = oneOf(key, v, "remove", "force", "default", "optional", "force-relay")
	case "ice-lite":
		r.ICELite, err = oneOf(key, v, "forward", "backward", "both", "off")
	case "dtls":
		if r.DTLS, err = oneOf(key, v, "off", "passive", "active", "no", "disable"); r.DTLS == "no" || r.DTLS == "disable" {
			r.DTLS = "off"
		}
	case "dtls-reverse":
		r.DTLSReverse, err = oneOf(key, v, "passive", "active")
	case "dtls-fingerprint":
		r.DTLSFingerprint, err = oneOf(key, v, "sha-1", "sha-224", "sha-256", "sha-384", "sha-512")
	case "record-call":
		r.RecordCall, err = oneOf(key, v, "yes", "no", "on", "off")
	case "all":
		r.All, err = oneOf(key, v, "all", "offer-answer", "except-offer-answer", "flows", "none")
	case "address":
		if r.Address, err = netip.ParseAddr(text(v)); err != nil {
			return bad("the IPv4 or IPv6 address of a party's SDP")
		}
	case "drop-traffic":
		r.DropTraffic, err = oneOf(key, v, "start", "stop")
	case "dtmf-security":
		if r.DTMFSecurity, err = oneOf(key, v, "drop", "silence", "tone", "random", "zero", "dtmf", "off", "no"); r.DTMFSecurity == "no" {
			r.DTMFSecurity = "off"
		}
	case "frequency", "frequencies":
		return r.setFrequencies(key, v)
	case "inject-dtmf", "detect-dtmf":
		on, e := oneOf(key, v, "on", "off", "yes", "no")
		if err = e; on == "on" || on == "yes" {
			r.addFlag(name)
		}
	case "answered", "other-answered":
		n, ok := number(v)
		if !ok || n < 0 {
			return bad("what heard told as answered")
		}
		if name == "answered" {
			r.Answered = n
		} else {
			r.OtherAnswered = n
		}
	case "comfort":
		r.Comfort, err = oneOf(key, v, "on", "off")
	case "generate-rtcp":
		on, e := oneOf(key, v, "on", "off")
		if err = e; on == "on" {
			r.addFlag("generate-rtcp")
		}
	case "endpoint-learning":
		mode, e := oneOf(key, v, "off", "immediate", "delayed", "heuristic")
		if err = e; err == nil {
			r.addFlag("endpoint-learning-" + mode)
		}
	case "media-address":
		if r.MediaAddress, err = netip.ParseAddr(text(v)); err != nil {
			return bad("an IPv4 or IPv6 address")
		}
	case "xmlrpc-callback":
		if r.XMLRPCCallback, err = netip.ParseAddr(strings.Trim(text(v), "[]")); err != nil {
			return bad("the IPv4 or IPv6 address that is told when the call times out")
		}
	case "received-from", "sip-source-address":
		return r.setReceivedFrom(key, v)
	case "address-family":
		r.AddressFamily = strings.ToUpper(text(v))
		if r.AddressFamily != "IP4" && r.AddressFamily != "IP6" {
			return bad("IP4 or IP6")
		}
	case "tos":
		n, ok := number(v)
		if !ok {
			return bad("a whole number 0..255, or -1 to keep that of the call")
		}
		if n <= 255 { // a larger one stands for the configured value, in rtpengine too
			tos := int(max(n, -1))
			r.TOS = &tos
		}
	case "delete-delay":
		n, ok := number(v)
		if !ok || n < 0 || n > maxSeconds {
			return bad("whole seconds from 0")
		}
		d := time.Duration(n) * time.Second
		r.DeleteDelay = &d
	case "ptime", "ptime-reverse":
		n, ok := number(v)
		if !ok || n < 0 || n > maxPTime {
			return bad(fmt.Sprintf("milliseconds 0..%d", maxPTime))
		}
		if name == "ptime" {
			r.PTime = time.Duration(n) * time.Millisecond
		} else {
			r.PTimeReverse = time.Duration(n) * time.Millisecond
		}
	case "duration", "pause":
		n, ok := number(v)
		if word := normal(text(v)); name == "pause" && (word == "yes" || word == "no") { // of stop recording
			if word == "yes" {
				r.addFlag("pause")
			}
			return nil
		}
		if !ok || n < 0 || n > maxDigitTime {
			return bad(fmt.Sprintf("milliseconds 0..%d", maxDigitTime))
		}
		if name == "duration" {
			r.Duration = time.Duration(n) * time.Millisecond
		} else {
			r.Pause = time.Duration(n) * time.Millisecond
		}
	case "start-pos", "repeat-duration":
		n, ok := number(v)
		if !ok || n < 0 || n > maxSeconds*1000 {
			return bad("milliseconds from 0")
		}
		if name == "start-pos" {
			r.StartPos = time.Duration(n) * time.Millisecond
		} else {
			r.RepeatDuration = time.Duration(n) * time.Millisecond
		}
	case "repeat-times":
		n, ok := number(v)
		if !ok || n < 0 || n > maxItems {
			return bad(fmt.Sprintf("a whole number 0..%d", maxItems))
		}
		r.RepeatTimes = int(n)
	case "db-id":
		return bad("a file or blob in its place: this node has no database")
	case "volume":
		n, ok := number(v)
		if !ok || n < -63 || n > 63 {
			return bad("dBm0 -63..63")
		}
		r.Volume = int(n)
	case "limit":
		n, ok := number(v)
		if !ok || n < 1 || n > maxItems {
			return bad(fmt.Sprintf("a whole number 1..%d", maxItems))
		}
		r.Limit = int(n)
	default:
		r.unknown(key)
	}
	return err
}

// Bounds of numbers, chosen by us: a day, twice the longest packet of Opus, a minute.
const (
	maxSeconds   = 86400
	maxPTime     = 240
	maxDigitTime = 60000
	maxFrequency = 4000 // half the rate of a telephone codec
)

// transports are the profiles that a node can speak to the receiver of an SDP.
var transports = []string{"RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"}

func number(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// setFrequencies reads one, a list, or a string with commas.
func (r *Request) setFrequencies(key string, v any) error {
	for _, item := range texts(v) {
		for w := range strings.SplitSeq(item, ",") {
			n, ok := number(w)
			if !ok || n < 1 || n > maxFrequency || len(r.Frequencies) == maxWords {
				return &keyError{key, show(v), fmt.Sprintf("at most %d tones of 1..%d Hz", maxWords, maxFrequency)}
			}
			r.Frequencies = append(r.Frequencies, int(n))
		}
	}
	return nil
}

func oneOf(key string, v any, allowed ...string) (string, error) {
	if s := normal(text(v)); slices.Contains(allowed, s) {
		return s, nil
	}
	return "", &keyError{key, show(v), "one of " + strings.Join(allowed, ", ")}
}

func (r *Request) setDirection(key string, v any) error {
	list := texts(v)
	if len(list) != 2 {
		return &keyError{key, show(v), "two interface names: that of the sender, that of the receiver"}
	}
	r.Direction = [2]string{list[0], list[1]}
	return nil
}

// setReceivedFrom reads ["IP4","192.0.2.1"] or a bare address.
func (r *Request) setReceivedFrom(key string, v any) error {
	list := texts(v)
	if len(list) == 0 {
		return nil // Kamailio sends an empty list if it does not know
	}
	addr, err := netip.ParseAddr(strings.Trim(list[len(list)-1], "[]"))
	if err != nil || len(list) > 2 {
		return &keyError{key, show(v), `an address, or a list such as ["IP4", "192.0.2.1"]`}
	}
	r.ReceivedFrom = addr.Unmap()
	return nil
}

func (r *Request) unknown(key string) {
	if len(key) > 64 {
		key = key[:64]
	}
	r.Unknown = append(r.Unknown, key)
}

// Validate tells if the keys that the command needs are there.
func (r *Request) Validate() error {
	var needs []string
	switch r.Command {
	case "":
		return fmt.Errorf("key %q is missing", "command")
	case CmdOffer:
		needs = []string{"call-id", "from-tag", "sdp"}
	case CmdAnswer:
		needs = []string{"call-id", "from-tag", "to-tag", "sdp"}
	case CmdDelete, CmdQuery, CmdStartRecording, CmdStopRecording, CmdPauseRecording, CmdBlockMedia, CmdUnblockMedia,
		CmdSilenceMedia, CmdUnsilenceMedia, CmdBlockDTMF, CmdUnblockDTMF, CmdPlayDTMF, CmdPlayMedia, CmdStopMedia, CmdUnjoin, CmdComfort, CmdHeard,
		CmdStartForwarding, CmdStopForwarding, CmdSubscribe:
		needs = []string{"call-id"}
	case CmdPublish:
		needs = []string{"call-id", "from-tag", "sdp"}
	case CmdSubscribeAnswer:
		needs = []string{"call-id", "to-tag", "sdp"}
	case CmdUnsubscribe:
		needs = []string{"call-id", "to-tag"}
	case CmdJoin:
		needs = []string{"call-id", "other-call-id"}
	}
	for _, key := range needs {
		missing := false
		switch key {
		case "call-id":
			missing = r.CallID == ""
		case "other-call-id":
			missing = r.OtherCallID == ""
		case "from-tag":
			missing = r.FromTag == ""
		case "to-tag":
			missing = r.ToTag == ""
		case "sdp":
			missing = len(r.SDP) == 0
		}
		if missing {
			return fmt.Errorf("key %q is missing: %s needs %s", key, r.Command, strings.Join(needs, ", "))
		}
	}
	return nil
}
