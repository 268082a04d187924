package ng

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// tree is a dictionary of an answer with its keys in normal spelling. What is missing or of another kind reads as zero: an
// answer of another make must not fail for a number that nobody needs.
type tree map[string]any

func treeOf(v any) tree {
	d, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	t := make(tree, len(d))
	for key, v := range d {
		t[normal(key)] = v
	}
	return t
}

func (t tree) text(key string) string { return text(t[key]) }

func (t tree) number(key string) int64 {
	n, _ := number(t[key])
	return n
}

func (t tree) time(key string) time.Time {
	if n := t.number(key); n > 0 {
		return time.Unix(n, 0)
	}
	return time.Time{}
}

func (t tree) tree(key string) tree { return treeOf(t[key]) }

func (t tree) trees(key string) []tree {
	list, _ := t[key].([]any)
	out := make([]tree, 0, len(list))
	for _, v := range list {
		out = append(out, treeOf(v))
	}
	return out
}

func responseFrom(dict map[string]any) (*Response, error) {
	t := treeOf(dict)
	r := &Response{
		Result:      t.text("result"),
		ErrorReason: t.text("error-reason"),
		Warning:     t.text("warning"),
		Message:     t.text("message"),
	}
	if r.Result == "" {
		return nil, errors.New(`read response: key "result" is missing`)
	}
	if s := t.text("sdp"); s != "" {
		r.SDP = []byte(s)
	}
	if _, ok := t["calls"].([]any); ok {
		r.Calls = append([]string{}, texts(t["calls"])...)
	}
	if d, ok := t["statistics"].(map[string]any); ok {
		r.Statistics = d
	}
	r.Duration = time.Duration(t.number("duration")) * time.Millisecond
	if tag := t.text("to-tag"); tag != "" {
		r.Subscribed = subscribed(t)
	}
	if _, ok := t["tags"].(map[string]any); ok {
		r.Call = callInfo(t)
	}
	if _, ok := t["answered"]; ok {
		r.Heard = &Heard{Answered: t.number("answered"), Age: time.Duration(t.number("answered-us")) * time.Microsecond, Since: -1}
		if _, ok := t["heard-us"]; ok {
			r.Heard.Since = time.Duration(t.number("heard-us")) * time.Microsecond
		}
	}
	return r, nil
}

func subscribed(t tree) *Subscribed {
	s := &Subscribed{ToTag: t.text("to-tag"), FromTags: texts(t["from-tags"])}
	for _, tag := range t.trees("tag-medias") {
		list := []SubscribedMedia{}
		for _, m := range tag.trees("medias") {
			list = append(list, SubscribedMedia{Index: int(m.number("index")), Type: m.text("type"), Label: m.text("label"), Mode: m.text("mode")})
		}
		s.Medias = append(s.Medias, list)
	}
	return s
}

func callInfo(t tree) *CallInfo {
	c := &CallInfo{
		Created:    t.time("created"),
		LastSignal: t.time("last-signal"),
		Totals:     Totals{RTP: streamStats(t.tree("totals").tree("rtp")), RTCP: streamStats(t.tree("totals").tree("rtcp"))},
		Joined:     t.text("joined"),
	}
	tags, _ := t["tags"].(map[string]any) // the keys are tags: not to be folded
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		d := treeOf(tags[name])
		info := TagInfo{Tag: name, InDialogueWith: d.text("in-dialogue-with"), Label: d.text("label"), Created: d.time("created"),
			Subscriptions: texts(d["subscriptions"])}
		for _, m := range d.trees("medias") {
			info.Medias = append(info.Medias, mediaInfo(m))
		}
		c.Tags = append(c.Tags, info)
	}
	// The party that was there first comes first.
	slices.SortStableFunc(c.Tags, func(a, b TagInfo) int { return cmp.Compare(a.Created.Unix(), b.Created.Unix()) })
	return c
}

func mediaInfo(t tree) MediaInfo {
	m := MediaInfo{Index: int(t.number("index")), Type: t.text("type"), Protocol: t.text("protocol"), Codec: t.text("codec"), Interface: t.text("interface")}
	for _, s := range t.trees("streams") {
		flags := texts(s["flags"])
		m.Streams = append(m.Streams, StreamInfo{
			RTCP:       slices.Contains(flags, "RTCP") && !slices.Contains(flags, "RTP"),
			LocalPort:  int(s.number("local-port")),
			Endpoint:   endpoint(s.tree("endpoint")),
			Advertised: endpoint(s.tree("advertised-endpoint")),
			Crypto:     s.text("crypto-suite"),
			SSRC:       uint32(s.number("ssrc")),
			Stats:      streamStats(s.tree("stats")),
			LastPacket: s.time("last-packet"),
			Latched:    slices.Contains(flags, "confirmed"),
		})
	}
	return m
}

func endpoint(t tree) netip.AddrPort {
	addr, err := netip.ParseAddr(t.text("address"))
	port := t.number("port")
	if err != nil || port < 0 || port > 65535 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

func streamStats(t tree) StreamStats {
	return StreamStats{
		Packets: t.number("packets"), Bytes: t.number("bytes"), Errors: t.number("errors"), Lost: t.number("lost"),
		Jitter:    time.Duration(t.number("jitter-us")) * time.Microsecond,
		RoundTrip: time.Duration(t.number("round-trip-us")) * time.Microsecond,
		MOS:       float64(t.number("mos-x100")) / 100,
	}
}
