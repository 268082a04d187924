package ng

import (
	"math"
	"net/netip"
	"strconv"
	"time"
)

// Error builds an error answer; reason says what to change.
func Error(reason string) *Response { return &Response{Result: ResultError, ErrorReason: reason} }

// dict writes a response with rtpengine's names of the keys.
func (r *Response) dict() map[string]any {
	d := map[string]any{"result": r.Result}
	put := func(key, v string) {
		if v != "" {
			d[key] = v
		}
	}
	put("error-reason", r.ErrorReason)
	put("warning", r.Warning)
	put("message", r.Message)
	put("sdp", string(r.SDP))
	if r.Calls != nil {
		d["calls"] = anyList(r.Calls)
	}
	if r.Duration > 0 {
		d["duration"] = r.Duration.Milliseconds()
	}
	if r.Statistics != nil {
		d["statistics"] = r.Statistics
	}
	if r.Subscribed != nil {
		r.Subscribed.put(d)
	}
	if r.Call != nil {
		r.Call.put(d)
	}
	if h := r.Heard; h != nil {
		d["answered"], d["answered-us"] = h.Answered, h.Age.Microseconds()
		if h.Since >= 0 {
			d["heard-us"] = h.Since.Microseconds()
		}
	}
	return d
}

// plain tells of an answer to an offer, an answer or a ping, that all of it are texts.
func (r *Response) plain() bool {
	return r.Calls == nil && r.Duration <= 0 && r.Statistics == nil && r.Subscribed == nil && r.Call == nil && r.Heard == nil
}

// size is room for a plain answer in bencode.
func (r *Response) size() int {
	const keys = 96 // with the lengths of all texts
	return keys + len(r.Result) + len(r.SDP) + len(r.ErrorReason) + len(r.Warning) + len(r.Message)
}

// appendPlain writes in bencode what dict makes of such an answer, without the dictionary: calls are set up by it. Keys are in order.
func (r *Response) appendPlain(b []byte) []byte {
	put := func(key, v string) {
		if v != "" {
			b = appendText(appendText(b, key), v)
		}
	}
	b = append(b, 'd')
	put("error-reason", r.ErrorReason)
	put("message", r.Message)
	b = appendText(appendText(b, "result"), r.Result)
	if len(r.SDP) > 0 {
		b = strconv.AppendInt(append(b, "3:sdp"...), int64(len(r.SDP)), 10)
		b = append(append(b, ':'), r.SDP...)
	}
	put("warning", r.Warning)
	return append(b, 'e')
}

// put writes the keys of a subscribe request's answer.
func (s *Subscribed) put(d map[string]any) {
	d["to-tag"] = s.ToTag
	if len(s.FromTags) == 1 {
		d["from-tag"] = s.FromTags[0]
	}
	d["from-tags"] = anyList(s.FromTags)
	tags := make([]any, len(s.FromTags))
	for i, tag := range s.FromTags {
		medias := make([]any, len(s.Medias[i]))
		for j, m := range s.Medias[i] {
			medias[j] = map[string]any{"index": int64(m.Index), "type": m.Type, "label": m.Label, "mode": m.Mode}
		}
		tags[i] = map[string]any{"tag": tag, "medias": medias}
	}
	d["tag-medias"] = tags
}

// put writes the keys of a query's answer: those of rtpengine, and per stream what it counts elsewhere or not at all
// (latched, and in stats: lost, jitter, round trip in microseconds, MOS in hundredths).
func (c *CallInfo) put(d map[string]any) {
	putTime(d, "created", c.Created)
	putTime(d, "last signal", c.LastSignal)
	if c.Joined != "" {
		d["joined"] = c.Joined
	}
	tags := map[string]any{}
	quality := map[string]any{}
	for _, t := range c.Tags {
		tags[t.Tag] = t.dict(quality)
	}
	d["tags"] = tags
	d["totals"] = map[string]any{"RTP": c.Totals.RTP.dict(), "RTCP": c.Totals.RTCP.dict()}
	if len(quality) > 0 {
		d["SSRC"] = quality
	}
}

func (t *TagInfo) dict(quality map[string]any) map[string]any {
	d := map[string]any{"tag": t.Tag}
	if t.InDialogueWith != "" {
		d["in dialogue with"] = t.InDialogueWith
	}
	if t.Label != "" {
		d["label"] = t.Label
	}
	if len(t.Subscriptions) > 0 {
		d["subscriptions"] = anyList(t.Subscriptions)
	}
	putTime(d, "created", t.Created)
	medias := make([]any, len(t.Medias))
	for i, m := range t.Medias {
		streams := make([]any, len(m.Streams))
		for j, s := range m.Streams {
			streams[j] = s.dict()
			if !s.RTCP && s.Stats.MOS > 0 {
				quality[strconv.FormatUint(uint64(s.SSRC), 10)] = s.Stats.quality()
			}
		}
		md := map[string]any{"index": int64(m.Index), "type": m.Type, "protocol": m.Protocol, "streams": streams}
		if m.Codec != "" {
			md["codec"] = m.Codec
		}
		if m.Interface != "" {
			md["interface"] = m.Interface
		}
		medias[i] = md
	}
	d["medias"] = medias
	return d
}

func (s *StreamInfo) dict() map[string]any {
	d := map[string]any{"stats": s.Stats.dict()}
	flags := []any{"RTP"}
	if s.RTCP {
		flags = []any{"RTCP"}
	}
	if s.Endpoint.IsValid() {
		flags = append(flags, "filled")
		d["endpoint"] = endpointDict(s.Endpoint)
	}
	if s.Latched {
		flags = append(flags, "confirmed")
	}
	d["flags"] = flags
	if s.Advertised.IsValid() {
		d["advertised endpoint"] = endpointDict(s.Advertised)
	}
	if s.LocalPort > 0 {
		d["local port"] = int64(s.LocalPort)
	}
	if s.Crypto != "" {
		d["crypto suite"] = s.Crypto
	}
	if s.SSRC != 0 {
		d["SSRC"] = int64(s.SSRC)
	}
	putTime(d, "last packet", s.LastPacket)
	return d
}

func (s *StreamStats) dict() map[string]any {
	d := map[string]any{"packets": s.Packets, "bytes": s.Bytes, "errors": s.Errors}
	for key, v := range map[string]int64{"lost": s.Lost, "jitter us": s.Jitter.Microseconds(),
		"round trip us": s.RoundTrip.Microseconds(), "MOS x100": int64(math.Round(s.MOS * 100))} {
		if v != 0 {
			d[key] = v
		}
	}
	return d
}

// quality is an entry of rtpengine's dictionary SSRC, which Kamailio's MOS variables are filled from: MOS in tenths,
// round trip in microseconds, jitter in milliseconds, loss in per cent.
func (s *StreamStats) quality() map[string]any {
	loss := int64(0)
	if all := s.Packets + s.Lost; all > 0 && s.Lost > 0 {
		loss = s.Lost * 100 / all
	}
	return map[string]any{"average MOS": map[string]any{
		"MOS": int64(math.Round(s.MOS * 10)), "round-trip time": s.RoundTrip.Microseconds(),
		"jitter": s.Jitter.Milliseconds(), "packet loss": loss, "samples": int64(1),
	}}
}

func endpointDict(a netip.AddrPort) map[string]any {
	family := "IPv4"
	if a.Addr().Is6() {
		family = "IPv6"
	}
	return map[string]any{"family": family, "address": a.Addr().String(), "port": int64(a.Port())}
}

func putTime(d map[string]any, key string, t time.Time) {
	if !t.IsZero() {
		d[key] = t.Unix()
	}
}
