package farm

import (
	"errors"
	"net/netip"
	"strconv"
	"time"

	"rtcedge/media/sdp"
)

// negotiation is the farm's half of offer/answer for one leg (RFC 3264): one audio stream, PCMU and telephone-event.
type negotiation struct {
	addr    netip.Addr
	port    int
	id      uint64 // of o=
	version uint64 // of o=, raised with each body
}

var errNotAcceptable = errors.New("no audio with PCMU over RTP/AVP")

// offer makes our offer.
func (n *negotiation) offer() []byte {
	s := n.session()
	n.addAudio(s, "RTP/AVP", ptEvent, true, sdp.SendRecv)
	return s.Bytes()
}

// answer reads an offer and makes our answer to it: the first usable audio stream is taken, every other m= line refused.
func (n *negotiation) answer(offer []byte) (remoteMedia, []byte, error) {
	in, err := sdp.Parse(offer)
	if err != nil {
		return remoteMedia{}, nil, err
	}
	out := n.session()
	var remote remoteMedia
	found := false
	for _, m := range in.Media {
		r, ok := readAudio(m)
		if found || !ok {
			out.AddRejected(m)
			continue
		}
		found, remote = true, r
		n.addAudio(out, m.Protocol(), r.eventPT, r.events, r.dir.Reverse())
	}
	if !found {
		return remoteMedia{}, nil, errNotAcceptable
	}
	return remote, out.Bytes(), nil
}

// accept reads the answer to our offer.
func (n *negotiation) accept(answer []byte) (remoteMedia, error) {
	in, err := sdp.Parse(answer)
	if err != nil {
		return remoteMedia{}, err
	}
	if len(in.Media) > 0 {
		if r, ok := readAudio(in.Media[0]); ok {
			return r, nil
		}
	}
	return remoteMedia{}, errNotAcceptable
}

func (n *negotiation) session() *sdp.Session {
	n.version++
	return sdp.New(sdp.Origin{
		Username: "rtcedge",
		ID:       strconv.FormatUint(n.id, 10),
		Version:  strconv.FormatUint(n.version, 10),
		Addr:     n.addr,
	}, n.addr)
}

func (n *negotiation) addAudio(s *sdp.Session, protocol string, eventPT uint8, events bool, dir sdp.Direction) {
	codecs := []sdp.Codec{{PT: ptPCMU, Name: "PCMU", Rate: 8000, Channels: 1}}
	if events {
		codecs = append(codecs, sdp.Codec{PT: eventPT, Name: "telephone-event", Rate: 8000, Channels: 1, Params: "0-16"})
	}
	m := s.AddMedia("audio", n.port, protocol, codecs...)
	m.SetPTime(20 * time.Millisecond)
	m.AddAttr(dir.String(), "")
}

// readAudio tells what an m= line says, if it is audio that the farm can speak.
func readAudio(m *sdp.Media) (remoteMedia, bool) {
	if m.Kind() != "audio" || m.Rejected() || m.Protocol() != "RTP/AVP" && m.Protocol() != "RTP/AVPF" {
		return remoteMedia{}, false
	}
	r := remoteMedia{addr: netip.AddrPortFrom(m.Connection(), uint16(m.Port())), dir: m.Direction()}
	if !r.addr.Addr().IsValid() {
		return remoteMedia{}, false
	}
	voice := false
	for _, c := range m.Codecs() {
		switch {
		// Static types only: PCMU has its number from RFC 3551 and everybody uses it.
		case c.PT == ptPCMU && c.Is("PCMU"):
			voice = true
		case c.Is("telephone-event") && c.Rate == 8000 && !r.events:
			r.eventPT, r.events = c.PT, true
		}
	}
	// RFC 3264, section 8.4, and RFC 2543 before it: the address 0.0.0.0 means hold.
	if r.addr.Addr().IsUnspecified() {
		r.addr = netip.AddrPort{}
		if r.dir.Receives() {
			r.dir = holdOf(r.dir)
		}
	}
	return r, voice
}

// holdOf is the direction without receiving.
func holdOf(d sdp.Direction) sdp.Direction {
	if d.Sends() {
		return sdp.SendOnly
	}
	return sdp.Inactive
}
