package media

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"rtcedge/media/ng"
	"rtcedge/media/sdp"
	"rtcedge/transcode"
)

// codecOption is one word of rtpengine's codec-set, or what stands behind the channels in codec-transcode:
// NAME/CLOCK/CHANNELS/BITRATE/PTIME/FMTP/OPTIONS. Zero fields say nothing.
type codecOption struct {
	name           string
	rate, channels int
	bitrate        int // bit/s
	ptime          time.Duration
	fmtp           string
	complexity     int // of the options: compression_level, ffmpeg's name of Opus' complexity
}

// Fixed by RFC 6716 section 2.1.1 and RFC 7587 section 7.1: an encoder's bit rate.
const minOpusRate, maxOpusRate = 6000, 510000

// parseOption reads a word. What cannot be a number, or is out of its range, says nothing, as in rtpengine.
func parseOption(word string) codecOption {
	parts := strings.SplitN(word, "/", 7)
	var o codecOption
	o.name, o.rate, o.channels = parseCodec(word)
	part := func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
	if n, err := strconv.Atoi(part(3)); err == nil && n >= minOpusRate && n <= maxOpusRate {
		o.bitrate = n
	}
	if n, err := strconv.Atoi(part(4)); err == nil && n >= 10 && n <= 60 {
		o.ptime = time.Duration(n) * time.Millisecond
	}
	o.fmtp = part(5)
	isSeparator := func(c rune) bool { return strings.ContainsRune(" :;,", c) }
	for option := range strings.FieldsFuncSeq(part(6), isSeparator) {
		if v, ok := strings.CutPrefix(option, "compression_level="); ok {
			if n, err := strconv.Atoi(v); err == nil && n >= 1 && n <= 10 {
				o.complexity = n
			}
		}
	}
	return o
}

// optionsOf collects the words of a request that have options.
func optionsOf(rules ng.Codec) (words []string) {
	for _, word := range slices.Concat(rules.Set, rules.Transcode) {
		if o := parseOption(word); o.bitrate > 0 || o.ptime > 0 || o.complexity > 0 {
			words = append(words, strings.Clone(word)) // lives as long as the call; the message need not
		}
	}
	return words
}

// configure applies the options of the codec that a pipe encodes. What the receiver itself asks for goes first.
func configure(cfg *transcode.PipeConfig, to sdp.Codec, asked time.Duration, words []string) {
	for _, word := range words {
		o := parseOption(word)
		if !isCodec(to, o.name, o.rate, o.channels) {
			continue
		}
		if o.bitrate > 0 {
			cfg.OpusBitrate = o.bitrate
		}
		if o.complexity > 0 {
			cfg.OpusComplexity = o.complexity
		}
		if o.ptime > 0 && asked == 0 {
			cfg.To.PTime = o.ptime
		}
		return
	}
}

// spoken is the codec of the offerer so far, where the flags static-codecs or reuse-codecs (no-codec-renegotiation) want a re-offer to
// keep it though it lists another one first. "" has no wish.
func (d *dialog) spoken(req *ng.Request, side, index int) string {
	if !req.Has("static-codecs") && !req.Has("reuse-codecs") && !req.Has("no-codec-renegotiation") ||
		index >= len(d.streams) || d.streams[index] == nil {
		return ""
	}
	if r := d.streams[index].route.Load(); r != nil {
		return r.names[side]
	}
	return ""
}

// prefer puts the voice codec of that name in front of the other ones, if it is in the list.
func prefer(list []sdp.Codec, name string) []sdp.Codec {
	i := slices.IndexFunc(list, func(c sdp.Codec) bool { return name != "" && c.Is(name) && isVoice(c) })
	if i <= 0 {
		return list
	}
	sorted := append([]sdp.Codec{list[i]}, list[:i]...)
	return append(sorted, list[i+1:]...)
}
