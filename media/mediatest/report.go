package mediatest

import (
	"net/netip"
	"slices"
	"time"
)

// Report is what a peer sent and received.
type Report struct {
	Codec string // encoding name
	Suite string // of SDES; "" is plain
	Rate  int    // of Recording in Hz

	Sent       int // packets
	SentEvents int // digits
	SendErrors int

	Received    int // packets, all SSRCs
	Lost        int // by sequence numbers, RFC 3550 A.3
	Duplicates  int
	Reordered   int
	Refused     int // SRTP and SRTCP: wrong tag or replay
	Undecodable int
	OtherPT     int           // payload types that were not agreed on
	Jitter      time.Duration // RFC 3550 A.8
	MaxGap      time.Duration // longest time between two packets
	SetUp       time.Duration // from the first packet sent to the first received
	Sources     []netip.AddrPort
	SSRCs       []uint32 // in the order of arrival; one that returns is named again
	Digits      []Digit
	RTCP        RTCP
	DTLS        DTLS

	Recording   []int16   // placed by timestamps, holes are silent
	sendStart   time.Time // when sample 0 was due
	recordStart time.Time // when sample 0 of Recording came in
}

// DTLS is how the handshake went.
type DTLS struct {
	Err  error // nil also before its end
	Late int   // packets of handshakes after the keys were there
}

// Report may be asked for at any time.
func (p *Peer) Report() Report {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	o, r := &p.out, &p.in
	rep := Report{
		Codec: p.Codec(), Suite: p.Suite(),
		Sent: int(o.packets), SentEvents: o.events, SendErrors: o.failed,
		Received: r.packets, Lost: r.lostBefore + r.lost(), Duplicates: r.duplicates, Reordered: r.reordered,
		Refused: r.refused, Undecodable: r.undecodable, OtherPT: r.otherPT,
		Jitter: time.Duration(r.jitter * float64(time.Second)), MaxGap: r.maxDelta,
		Sources: slices.Clone(r.sources), SSRCs: slices.Clone(r.ssrcs), Digits: slices.Clone(r.digits), RTCP: r.rtcp, DTLS: r.dtls,
		Recording: slices.Clone(r.recording), sendStart: o.due, recordStart: r.recordStart,
	}
	if r.coder != nil {
		rep.Rate = r.coder.rate
	}
	if r.packets > 0 && o.packets > 0 {
		rep.SetUp = r.first.Sub(o.started)
	}
	return rep
}

// DTMF is the received digits as text.
func (r Report) DTMF() string {
	var b []byte
	for _, d := range r.Digits {
		b = append(b, d.Key)
	}
	return string(b)
}

// Echo is how the far end returned what was sent.
type Echo struct {
	Match
	RoundTrip time.Duration // from the sending of a sample to its return
}

// Echo compares the recording with the audio that was sent, as Config.Audio makes it.
func (r Report) Echo(audio func(rate int) []int16) Echo {
	if r.Rate == 0 {
		return Echo{}
	}
	m := Compare(audio(r.Rate), r.Recording, r.Rate)
	e := Echo{Match: m}
	if m.Found {
		e.RoundTrip = r.recordStart.Sub(r.sendStart) + m.Delay
	}
	return e
}
