package media

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/transcode"
)

// Which codecs each party sees, and what connects the two that are chosen. Pure: lists in, lists out.

// errNoCodec is the reason that the sip role turns into a 488.
var errNoCodec = errors.New("no common codec")

// opusParams is what we say of our Opus: FEC is used, and no more than 8 kHz is played, as the other side is G.711 (RFC
// 7587 section 6.1). An encoder that heeds it saves both sides three quarters of the work.
const opusParams = "maxplaybackrate=8000;useinbandfec=1"

// choice is the codecs of one m= line between offer and answer.
type choice struct {
	stripped bool        // the request took codecs out of the offer
	managed  bool        // the request named codecs to add or hide: we decide. Else lists pass and every type is relayed
	offered  []sdp.Codec // by the offerer and not stripped, in its order
	sent     []sdp.Codec // offered on to the answerer
	inject   bool        // tones may have to be sent where a party has no telephone-event: no relay then
	options  []string    // words of rtpengine's codec-set and codec-transcode that say how a codec is spoken
}

// newChoice makes the list that is offered on. It fails where hiding and adding leaves nothing that could be connected.
func newChoice(in []sdp.Codec, rules ng.Codec) (choice, error) {
	c := choice{options: optionsOf(rules), managed: len(rules.Mask)+len(rules.Transcode)+len(rules.Consume)+len(rules.Accept) > 0}
	var kept []sdp.Codec // offered on as they came, without events
	for _, codec := range in {
		if matches(rules.Strip, codec) && !matches(rules.Except, codec) && !named(rules.Offer, codec) {
			c.stripped = true
			continue
		}
		c.offered = append(c.offered, codec)
		hidden := matches(rules.Mask, codec) || matches(rules.Consume, codec)
		if isEvent(codec) || hidden && !matches(rules.Except, codec) && !named(rules.Offer, codec) {
			continue
		}
		kept = append(kept, codec)
	}
	if len(c.offered) == 0 {
		return c, fmt.Errorf("%w: every codec of the offer is stripped", errNoCodec)
	}
	if !c.managed {
		c.sent = c.offered
		return c, nil
	}
	c.sent = c.addTranscoded(kept, rules)
	if !slices.ContainsFunc(c.sent, c.connectable) {
		return c, fmt.Errorf("%w: offered %s, and %s towards the other side", errNoCodec, names(c.offered), names(c.sent))
	}
	c.sent = append(c.sent, c.eventsFor(c.sent)...)
	return c, nil
}

// addTranscoded appends the codecs of rules.Transcode. They are a list of preference: a codec that was offered and stands in
// it takes its place there; others that were offered stay in front. What this build cannot encode is left out.
func (c *choice) addTranscoded(kept []sdp.Codec, rules ng.Codec) []sdp.Codec {
	var ordered []sdp.Codec
	for _, word := range rules.Transcode {
		name, rate, channels := parseCodec(word)
		if i := slices.IndexFunc(kept, func(k sdp.Codec) bool { return isCodec(k, name, rate, channels) }); i >= 0 {
			ordered = append(ordered, kept[i])
			kept = slices.Delete(kept, i, i+1)
			continue
		}
		rate, channels = defaultsOf(name, rate, channels)
		f, ok := transcode.Lookup(name, rate, channels, "")
		if !ok || !transcode.CanEncode(f.Codec) || !transcode.CanDecode(f.Codec) {
			continue
		}
		codec := sdp.Codec{Name: f.Codec.String(), Rate: f.Rate, Channels: f.Channels}
		if f.Codec == transcode.Opus {
			codec.Params = opusParams
		}
		if o := parseOption(word); o.fmtp != "" {
			codec.Params = o.fmtp
		}
		// The number that the offerer uses for the same codec is the one least likely to confuse anybody.
		if i := slices.IndexFunc(c.offered, func(k sdp.Codec) bool { return sameCodec(k, codec) }); i >= 0 {
			codec.PT = c.offered[i].PT
		} else if pt, static := sdp.StaticPT(codec.Name, codec.Rate, codec.Channels); static {
			codec.PT = pt
		} else if codec.PT, ok = sdp.FreePT(0, c.offered, kept, ordered); !ok {
			continue
		}
		ordered = append(ordered, codec)
	}
	return append(kept, ordered...)
}

// eventsFor lists the telephone-event types that belong to voice codecs of these clock rates (RFC 4733 section 2.1: the rate
// of the stream), if the offerer has events at all.
func (c *choice) eventsFor(voice []sdp.Codec) (events []sdp.Codec) {
	i := slices.IndexFunc(c.offered, isEvent)
	if i < 0 {
		return nil
	}
	params := c.offered[i].Params
	for _, v := range voice {
		rate := v.Rate
		if slices.ContainsFunc(events, func(e sdp.Codec) bool { return e.Rate == rate }) {
			continue
		}
		if own := slices.IndexFunc(c.offered, func(o sdp.Codec) bool { return isEvent(o) && o.Rate == rate }); own >= 0 {
			events = append(events, c.offered[own])
			continue
		}
		if pt, ok := sdp.FreePT(101, c.offered, voice, events); ok {
			events = append(events, sdp.Codec{PT: pt, Name: "telephone-event", Rate: rate, Channels: 1, Params: params})
		}
	}
	return events
}

// connectable tells if some codec of the offerer can be relayed to or converted into this one.
func (c *choice) connectable(to sdp.Codec) bool {
	return slices.ContainsFunc(c.offered, func(o sdp.Codec) bool { return !isEvent(o) && connects(o, to) })
}

// pair is what an answer settled: a codec per party, [0] the offerer's, [1] the answerer's. Event and noise types have PT
// noType where the party has none.
type pair struct {
	voice, event, noise [2]sdp.Codec
	relay               bool        // one codec on both sides
	list                []sdp.Codec // the answer's list towards the offerer
	alias               []alias
}

// alias is a further payload type that the answerer may send, and the one in its answer that it means.
type alias struct{ sent, answered uint8 }

// settle chooses for a managed stream: of the answerer its first codec; of the offerer the first in its order that can be
// connected with that, so that a browser that prefers Opus gets it although G.711 would be free for us.
func (c *choice) settle(answer []sdp.Codec) (pair, error) {
	none := sdp.Codec{PT: noType}
	p := pair{event: [2]sdp.Codec{none, none}, noise: [2]sdp.Codec{none, none}}
	bi := slices.IndexFunc(answer, isVoice)
	if bi < 0 {
		return p, fmt.Errorf("%w: the answer has none", errNoCodec)
	}
	b := answer[bi]
	ai := slices.IndexFunc(c.offered, func(o sdp.Codec) bool { return isVoice(o) && connects(o, b) })
	if ai < 0 {
		return p, fmt.Errorf("%w: offered %s, answered %s", errNoCodec, names(c.offered), names(answer))
	}
	a := c.offered[ai]
	p.voice = [2]sdp.Codec{a, b}
	p.event[0], p.event[1] = eventOf(c.offered, a.Rate), eventOf(answer, b.Rate)
	eventless := p.event[0].PT == noType || p.event[1].PT == noType
	p.relay = sameCodec(a, b) && (!c.inject || !eventless || !converts(a))
	if p.relay && (p.event[0].PT == noType || p.event[1].PT == noType) {
		p.event = [2]sdp.Codec{none, none}
	}
	p.noise[0], p.noise[1] = noiseOf(c.offered), noiseOf(answer)
	if p.relay && (p.noise[0].PT == noType || p.noise[1].PT == noType) {
		p.noise = [2]sdp.Codec{none, none}
	}
	switch {
	case p.relay:
		a.Params = b.Params
	case strings.EqualFold(a.Name, "opus"):
		a.Params = opusParams
	default:
		a.Params = ""
	}
	p.list = []sdp.Codec{a}
	if p.noise[0].PT != noType && p.noise[1].PT != noType {
		p.list = append(p.list, p.noise[0])
	}
	if p.event[0].PT != noType {
		p.list = append(p.list, p.event[0])
	}
	// The answerer may number a codec otherwise than we offered it, and send either (RFC 3264 section 5.1).
	for _, s := range c.sent {
		for i, of := range [][2]sdp.Codec{p.voice, p.event, p.noise} {
			if of[0].PT != noType && of[1].PT != noType && sameCodec(s, of[1]) && (i == 0 || s.Rate == of[1].Rate) {
				p.alias = append(p.alias, alias{s.PT, of[1].PT})
			}
		}
	}
	return p, nil
}

// format is the voice codec of one side as transcode knows it.
func (p *pair) format(side int) transcode.Format {
	c := p.voice[side]
	f, _ := transcode.Lookup(c.Name, c.Rate, c.Channels, c.Params)
	return f
}

// connects tells if a stream of one codec can become one of the other.
func connects(a, b sdp.Codec) bool {
	if sameCodec(a, b) {
		return true
	}
	fa, oka := transcode.Lookup(a.Name, a.Rate, a.Channels, a.Params)
	fb, okb := transcode.Lookup(b.Name, b.Rate, b.Channels, b.Params)
	return oka && okb && both(fa.Codec) && both(fb.Codec)
}

// converts tells if the codec can be decoded and encoded here.
func converts(c sdp.Codec) bool {
	f, ok := transcode.Lookup(c.Name, c.Rate, c.Channels, c.Params)
	return ok && both(f.Codec)
}

func both(c transcode.Codec) bool { return transcode.CanEncode(c) && transcode.CanDecode(c) }

func sameCodec(a, b sdp.Codec) bool {
	if a.Name == "" || b.Name == "" {
		return a.Name == b.Name && a.PT == b.PT
	}
	return strings.EqualFold(a.Name, b.Name) && a.Rate == b.Rate && max(a.Channels, 1) == max(b.Channels, 1)
}

func isEvent(c sdp.Codec) bool { return c.Is("telephone-event") }
func isNoise(c sdp.Codec) bool { return c.Is("CN") }
func isVoice(c sdp.Codec) bool { return !isEvent(c) && !isNoise(c) && !c.Is("red") }

// eventOf finds the telephone-event type of that rate, else any: baresip offers Opus with telephone-event/8000 only.
func eventOf(list []sdp.Codec, rate int) sdp.Codec {
	found := sdp.Codec{PT: noType}
	for _, c := range list {
		if isEvent(c) && (found.PT == noType || c.Rate == rate && found.Rate != rate) {
			found = c
		}
	}
	return found
}

func noiseOf(list []sdp.Codec) sdp.Codec {
	if i := slices.IndexFunc(list, func(c sdp.Codec) bool { return isNoise(c) && c.Rate == 8000 }); i >= 0 {
		return list[i]
	}
	return sdp.Codec{PT: noType}
}

// matches tells if a list of encoding names has the codec; "all" and "full" have every one.
func matches(list []string, c sdp.Codec) bool {
	return named(list, c) || slices.Contains(list, "all") || slices.Contains(list, "full")
}

func named(list []string, c sdp.Codec) bool {
	return slices.ContainsFunc(list, func(word string) bool {
		name, rate, channels := parseCodec(word)
		return isCodec(c, name, rate, channels)
	})
}

// parseCodec reads NAME/CLOCK/CHANNELS; what follows is for Set.
func parseCodec(word string) (name string, rate, channels int) {
	parts := strings.Split(word, "/")
	if len(parts) > 1 {
		rate, _ = strconv.Atoi(parts[1])
	}
	if len(parts) > 2 {
		channels, _ = strconv.Atoi(parts[2])
	}
	return parts[0], rate, channels
}

// isCodec compares with a name and, where they are not 0, rate and channels.
func isCodec(c sdp.Codec, name string, rate, channels int) bool {
	return c.Is(name) && (rate == 0 || rate == c.Rate) && (channels == 0 || channels == max(c.Channels, 1))
}

// defaultsOf fills in the rate and channels that a bare name means.
func defaultsOf(name string, rate, channels int) (int, int) {
	if strings.EqualFold(name, "opus") {
		return 48000, 2
	}
	if rate == 0 {
		rate = 8000
	}
	return rate, max(channels, 1)
}

func names(list []sdp.Codec) string {
	if len(list) == 0 {
		return "nothing"
	}
	words := make([]string, len(list))
	for i, c := range list {
		if words[i] = c.Name; c.Name == "" {
			words[i] = strconv.Itoa(int(c.PT))
		}
	}
	return strings.Join(words, ", ")
}
