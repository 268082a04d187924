package media

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"rtcedge/media/sdp"
	"rtcedge/nat"
	"rtcedge/transcode"
)

// A session record is a call as another node can take it over: who the parties are, which ports and SSRCs they see, the keys and
// how far their indexes are, what the routes do. It is JSON, a few kB; the names of the fields are its format, and snapshotVersion
// changes with their meaning. A node keeps nothing of a codec but its settings: the predictors of G.722 and Opus are in step again
// after a frame.
//
// It holds SRTP keys in clear: who stores it must keep it as secret as the calls.

const (
	snapshotVersion = 1

	// Chosen by us: how many packets a second may have been sent after the record was made, the number by which the numbering
	// jumps where it is taken over. A jump of 2^15 would lose the SRTP rollover counter (RFC 3711 section 3.3.1).
	snapshotRate = 100
	snapshotSlip = 100
	snapshotLife = 5 * time.Minute // of one with SRTP keys: no index must be used twice under a key
)

type callRecord struct {
	V       int            `json:"v"`
	CallID  string         `json:"call"`
	At      time.Time      `json:"at"`
	Created time.Time      `json:"created"`
	Dialogs []dialogRecord `json:"dialogs"`
}

type dialogRecord struct {
	Parties [2]partyRecord  `json:"parties"`
	Streams []*streamRecord `json:"streams"` // null for an m= line without ports
	Offer   *offerRecord    `json:"offer,omitempty"`
}

type partyRecord struct {
	Tags      []string   `json:"tags"`
	Label     string     `json:"label,omitempty"`
	Interface string     `json:"if"`
	Local     netip.Addr `json:"local"`
	Created   time.Time  `json:"created"`
}

type streamRecord struct {
	CName string       `json:"cname"`
	Legs  [2]legRecord `json:"legs"`
	Route *routeRecord `json:"route,omitempty"`
}

type legRecord struct {
	Port   uint16                `json:"port"`
	SSRC   uint32                `json:"ssrc"`
	Far    farRecord             `json:"far"`
	Local  *sdesKey              `json:"local,omitempty"`
	Remote *sdesKey              `json:"remote,omitempty"`
	Own    []sdesKey             `json:"own,omitempty"`
	RX     *srtpState            `json:"rx,omitempty"`
	TX     *srtpState            `json:"tx,omitempty"`
	Out    *outRecord            `json:"out,omitempty"`
	Source netip.AddrPort        `json:"src"`
	RTCP   netip.AddrPort        `json:"rtcp"`
	Locked [2]bool               `json:"locked"` // the latches of RTP and RTCP
	Gate   gate                  `json:"gate,omitempty"`
	Pipe   *transcode.PipeConfig `json:"pipe,omitempty"`
	In     [3]int64              `json:"in"` // packets, bytes, lost
}

// outRecord is the numbering that the party sees.
type outRecord struct {
	Seq     uint16    `json:"seq"`
	TS      uint32    `json:"ts"`
	At      time.Time `json:"at"`
	Packets uint32    `json:"packets,omitempty"`
	Octets  uint32    `json:"octets,omitempty"`
}

type farRecord struct {
	Proto    string          `json:"proto,omitempty"`
	RTP      netip.AddrPort  `json:"rtp"`
	RTCP     netip.AddrPort  `json:"rtcp"`
	Mux      bool            `json:"mux,omitempty"`
	Hold     bool            `json:"hold,omitempty"`
	Silent   bool            `json:"silent,omitempty"`
	Feedback bool            `json:"feedback,omitempty"`
	Source   netip.Addr      `json:"source"`
	Mode     nat.LatchConfig `json:"mode"`
}

type routeRecord struct {
	At    time.Time     `json:"at"`
	Raw   bool          `json:"raw,omitempty"`
	Plain bool          `json:"plain,omitempty"`
	Names [2]string     `json:"names"`
	Flows [2]flowRecord `json:"flows"`
}

type flowRecord struct {
	Source      nat.LatchConfig `json:"source"`
	SourceRTCP  nat.LatchConfig `json:"rtcp"`
	Hold        bool            `json:"hold,omitempty"`
	Mux         bool            `json:"mux,omitempty"`
	Feedback    bool            `json:"feedback,omitempty"`
	Secure      bool            `json:"secure,omitempty"`
	All         bool            `json:"all,omitempty"` // every payload type passes under its number
	Types       [][2]uint8      `json:"types,omitempty"`
	Event       []uint8         `json:"event,omitempty"`
	CN          []uint8         `json:"cn,omitempty"`
	Clock       uint32          `json:"clock,omitempty"`
	ToClock     uint32          `json:"toclock,omitempty"`
	Voice       uint8           `json:"voice"`
	Events      uint8           `json:"events"`
	Noise       uint8           `json:"noise"`
	EventClocks [2]uint32       `json:"eventclocks"`
	Heard       []sdp.Codec     `json:"heard,omitempty"`
	Piped       bool            `json:"piped,omitempty"`
}

type offerRecord struct {
	Side  int             `json:"side"`
	Media []offeredRecord `json:"media"`
}

type offeredRecord struct {
	Rejected bool          `json:"rejected,omitempty"`
	Kind     string        `json:"kind"`
	RTP      bool          `json:"isrtp,omitempty"`
	From     farRecord     `json:"from"`
	Managed  bool          `json:"managed,omitempty"`
	Offered  []sdp.Codec   `json:"offered,omitempty"`
	Sent     []sdp.Codec   `json:"sent,omitempty"`
	Proto    string        `json:"proto,omitempty"`
	MuxAsked bool          `json:"muxasked,omitempty"`
	MuxGiven muxAnswer     `json:"muxgiven,omitempty"`
	SDES     [2]sdesUse    `json:"sdes"`
	PTime    time.Duration `json:"ptime,omitempty"`
}

// readRecord checks what comes from a store: another version, or a mistake of its owner.
func readRecord(b []byte) (*callRecord, error) {
	rec := new(callRecord)
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("session record: %w", err)
	}
	switch {
	case rec.V != snapshotVersion:
		return nil, fmt.Errorf("session record: version %d, this node reads %d", rec.V, snapshotVersion)
	case rec.CallID == "" || len(rec.Dialogs) == 0 || len(rec.Dialogs) > maxDialogs:
		return nil, fmt.Errorf("session record: call-id %q with %d dialogs", rec.CallID, len(rec.Dialogs))
	}
	for _, d := range rec.Dialogs {
		if o := d.Offer; o != nil && (o.Side < 0 || o.Side > 1) {
			return nil, fmt.Errorf("session record: side %d", o.Side)
		}
		for _, s := range d.Streams {
			if s != nil && len(s.CName) != cnameLen {
				return nil, fmt.Errorf("session record: cname %q", s.CName)
			}
		}
	}
	return rec, nil
}

func (d *description) record() farRecord {
	return farRecord{Proto: d.proto, RTP: d.rtp, RTCP: d.rtcp, Mux: d.mux, Hold: d.hold, Silent: d.silent, Feedback: d.feedback,
		Source: d.source, Mode: d.mode}
}

func (r *farRecord) description() description {
	return description{proto: r.Proto, rtp: r.RTP, rtcp: r.RTCP, mux: r.Mux, hold: r.Hold, silent: r.Silent, feedback: r.Feedback,
		source: r.Source, mode: r.Mode}
}

func (f *flow) record() flowRecord {
	r := flowRecord{
		Source: f.source, SourceRTCP: f.sourceRTCP, Hold: f.hold, Mux: f.mux, Feedback: f.feedback, Secure: f.rx != nil,
		Clock: f.clock, ToClock: f.toClock, Voice: f.voice, Events: f.events, Noise: f.noise, EventClocks: f.eventClocks,
		Heard: f.heard, Piped: f.pipe != nil, All: true,
	}
	for pt, out := range f.types {
		if int(out) != pt {
			r.All = false
		}
		if out != noType {
			r.Types = append(r.Types, [2]uint8{uint8(pt), out})
		}
		if f.event[pt] {
			r.Event = append(r.Event, uint8(pt))
		}
		if f.cn[pt] {
			r.CN = append(r.CN, uint8(pt))
		}
	}
	if r.All {
		r.Types = nil
	}
	return r
}

// flow is the reverse, without contexts and pipe.
func (r *flowRecord) flow() flow {
	f := flow{
		source: r.Source, sourceRTCP: r.SourceRTCP, hold: r.Hold, mux: r.Mux, feedback: r.Feedback, clock: r.Clock, toClock: r.ToClock,
		voice: r.Voice, events: r.Events, noise: r.Noise, eventClocks: r.EventClocks, heard: r.Heard,
	}
	for pt := range f.types {
		if f.types[pt] = noType; r.All {
			f.types[pt] = uint8(pt)
		}
	}
	for _, t := range r.Types {
		f.types[t[0]&typeMask] = t[1]
	}
	for _, pt := range r.Event {
		f.event[pt&typeMask] = true
	}
	for _, pt := range r.CN {
		f.cn[pt&typeMask] = true
	}
	return f
}

func (o *offer) record() *offerRecord {
	if o == nil {
		return nil
	}
	r := &offerRecord{Side: o.side}
	for i := range o.media {
		m := &o.media[i]
		r.Media = append(r.Media, offeredRecord{
			Rejected: m.rejected, Kind: m.kind, RTP: m.rtp, From: m.from.record(), Managed: m.choice.managed,
			Offered: m.choice.offered, Sent: m.choice.sent, Proto: m.proto, MuxAsked: m.muxAsked, MuxGiven: m.muxGiven,
			SDES: m.sdes, PTime: m.ptime,
		})
	}
	return r
}

func (r *offerRecord) offer() *offer {
	if r == nil {
		return nil
	}
	o := &offer{side: r.Side}
	for i := range r.Media {
		m := &r.Media[i]
		o.media = append(o.media, offeredMedia{
			rejected: m.Rejected, kind: m.Kind, rtp: m.RTP, from: m.From.description(),
			choice: choice{managed: m.Managed, offered: m.Offered, sent: m.Sent}, proto: m.Proto, muxAsked: m.MuxAsked,
			muxGiven: m.MuxGiven, sdes: m.SDES, ptime: m.PTime,
		})
	}
	return o
}
