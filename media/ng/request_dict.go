package ng

import "time"

// dict writes a request with rtpengine's names of the keys.
func (r *Request) dict() map[string]any {
	d := map[string]any{}
	put := func(key, v string) {
		if v != "" {
			d[key] = v
		}
	}
	list := func(key string, words []string) {
		if len(words) > 0 {
			d[key] = anyList(words)
		}
	}
	put("command", r.Command)
	put("call-id", r.CallID)
	put("from-tag", r.FromTag)
	put("to-tag", r.ToTag)
	put("via-branch", r.ViaBranch)
	put("sdp", string(r.SDP))
	put("transport-protocol", r.Transport)
	if r.Direction != [2]string{} {
		d["direction"] = anyList(r.Direction[:])
	}
	list("flags", r.Flags)
	list("replace", r.Replace)
	list("rtcp-mux", r.RTCPMux)
	list("SDES", r.SDES)
	list("OSRTP", r.OSRTP)
	// rtpengine compares this one with the blank in it.
	supports := make([]string, len(r.Supports))
	for i, w := range r.Supports {
		if supports[i] = w; w == "load-limit" {
			supports[i] = "load limit"
		}
	}
	list("supports", supports)
	put("ICE", r.ICE)
	put("ICE-lite", r.ICELite)
	put("DTLS", r.DTLS)
	put("DTLS-reverse", r.DTLSReverse)
	put("DTLS-fingerprint", r.DTLSFingerprint)
	if c := r.Codec.dict(); len(c) > 0 {
		d["codec"] = c
	}
	if r.MediaAddress.IsValid() {
		put("media-address", r.MediaAddress.String())
	}
	if a := r.ReceivedFrom; a.IsValid() {
		family := "IP4"
		if a.Is6() {
			family = "IP6"
		}
		d["received-from"] = anyList([]string{family, a.WithZone("").String()})
	}
	if r.XMLRPCCallback.IsValid() {
		put("xmlrpc-callback", r.XMLRPCCallback.String())
	}
	put("address-family", r.AddressFamily)
	if r.TOS != nil {
		d["TOS"] = int64(*r.TOS)
	}
	if r.DeleteDelay != nil {
		d["delete-delay"] = int64(*r.DeleteDelay / time.Second)
	}
	if r.PTime > 0 {
		d["ptime"] = int64(r.PTime / time.Millisecond)
	}
	if r.PTimeReverse > 0 {
		d["ptime-reverse"] = int64(r.PTimeReverse / time.Millisecond)
	}
	put("record-call", r.RecordCall)
	put("label", r.Label)
	put("to-label", r.ToLabel)
	put("set-label", r.SetLabel)
	list("from-tags", r.FromTags)
	put("all", r.All)
	if r.Address.IsValid() {
		put("address", r.Address.String())
	}
	put("drop-traffic", r.DropTraffic)
	if len(r.Extmap) > 0 {
		d["extmap"] = map[string]any{"strip": anyList(r.Extmap)}
	}
	put("DTMF-security", r.DTMFSecurity)
	if len(r.Frequencies) > 0 {
		tones := make([]any, len(r.Frequencies))
		for i, hz := range r.Frequencies {
			tones[i] = int64(hz)
		}
		d["frequencies"] = tones
	}
	put("metadata", r.Metadata)
	put("file", r.File)
	put("blob", string(r.Blob))
	if r.StartPos > 0 {
		d["start-pos"] = int64(r.StartPos / time.Millisecond)
	}
	if r.RepeatTimes > 0 {
		d["repeat-times"] = int64(r.RepeatTimes)
	}
	if r.RepeatDuration > 0 {
		d["repeat-duration"] = int64(r.RepeatDuration / time.Millisecond)
	}
	put("other-call-id", r.OtherCallID)
	put("other-tag", r.OtherTag)
	if r.Answered != 0 {
		d["answered"] = r.Answered
	}
	if r.OtherAnswered != 0 {
		d["other-answered"] = r.OtherAnswered
	}
	put("comfort", r.Comfort)
	put("code", r.Code)
	if r.Duration > 0 {
		d["duration"] = int64(r.Duration / time.Millisecond)
	}
	if r.Pause > 0 {
		d["pause"] = int64(r.Pause / time.Millisecond)
	}
	if r.Volume != 0 {
		d["volume"] = int64(r.Volume)
	}
	if r.Limit > 0 {
		d["limit"] = int64(r.Limit)
	}
	return d
}

func (c *Codec) dict() map[string]any {
	d := map[string]any{}
	for _, name := range []string{"strip", "offer", "mask", "except", "transcode", "accept", "consume", "set"} {
		if words := *c.list(name); len(words) > 0 {
			d[name] = anyList(words)
		}
	}
	return d
}

func anyList(words []string) []any {
	list := make([]any, len(words))
	for i, w := range words {
		list[i] = w
	}
	return list
}
