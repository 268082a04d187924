package media

import (
	"hash/fnv"
	"slices"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
)

// What rtpengine's key "replace" says of the head of an SDP. The address of o= is always ours.

// signature is the o= line as a party saw it last, and what stood below it.
type signature struct {
	Origin sdp.Origin `json:"o"`
	Sum    uint64     `json:"sum"`
}

// sign gives a finished body to the party: sdp-version takes the version into our hands, so that it rises with each change and only
// then, also where another user agent speaks behind us than before (RFC 3264 section 8).
func (p *party) sign(body *sdp.Session, req *ng.Request) {
	replaced := func(word string) bool { return slices.Contains(req.Replace, word) }
	o := body.Origin()
	if replaced("username") {
		o.Username = "-"
	}
	if replaced("session-name") {
		body.SetName("-")
	}
	force := replaced("force-increment-sdp-ver")
	if !replaced("sdp-version") && !force {
		body.SetOrigin(o)
		p.signed = signature{}
		return
	}
	plain := o
	plain.ID, plain.Version = "0", "0"
	body.SetOrigin(plain)
	h := fnv.New64a()
	h.Write(body.Bytes())
	was, sum := p.signed, h.Sum64()
	if was.Origin.ID != "" {
		o.ID, o.Version = was.Origin.ID, was.Origin.Version
		if sum != was.Sum || force {
			o = o.Next()
		}
	}
	body.SetOrigin(o)
	p.signed = signature{o, sum}
}

// loopAttribute marks a body that has been here, for the flag loop-protect.
const loopAttribute = "rtcedge"

// passedBefore returns a body that went through this node already as it is, and marks others. nil goes on.
func (e *Engine) passedBefore(body *sdp.Session, req *ng.Request) []byte {
	if !req.Has("loop-protect") {
		return nil
	}
	if id, ok := body.Attr(loopAttribute); ok && id == e.id {
		return body.Bytes()
	}
	body.SetAttr(loopAttribute, e.id)
	return nil
}
