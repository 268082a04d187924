package media

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"rtcedge/media/sdp"
	"rtcedge/nat"
	"rtcedge/transcode"
)

// A session record is a call as another node can take it over: who the parties are, which ports and SSRCs they see, the keys and
// how far their indexes are, what the routes do. It is JSON, a few kB; the names of the fields are its format, and snapshotVersion
// changes with their meaning.
//
// Of DTLS-SRTP it has the keys that a handshake has agreed on, so that no other is needed; of ICE the credentials and the pair that
// was chosen. Of a codec it has the settings, the numbering and, of G.722, what the adaptive steps were: a fresh coder is out of step for
// 120 ms, and one that goes on at once is not (a test measures it). From an older record a soft beginning is better than a loud one.
//
// It holds SRTP keys in clear: who stores it must keep it as secret as the calls.

const (
	snapshotVersion = 2 // 1 had no ICE and no DTLS

	// Chosen by us: how many packets a second may have been sent after the record was made, the number by which the numbering
	// jumps where it is taken over. A jump of 2^15 would lose the SRTP rollover counter (RFC 3711 section 3.3.1).
	snapshotRate  = 100
	snapshotSlip  = 100
	snapshotFresh = time.Second     // so long the state of a codec is of use
	snapshotLife  = 5 * time.Minute // of one with SRTP keys: no index must be used twice under a key
)

type callRecord struct {
	V       int            `json:"v"`
	CallID  string         `json:"call"`
	At      time.Time      `json:"at"`
	Created time.Time      `json:"created"`
	Options callOptions    `json:"options"`
	Dialogs []dialogRecord `json:"dialogs"`

	Subscriptions []subscriptionRecord `json:"subscriptions,omitempty"`
}

type dialogRecord struct {
	Parties [2]partyRecord  `json:"parties"`
	Streams []*streamRecord `json:"streams"` // null for an m= line without ports
	Offer   *offerRecord    `json:"offer,omitempty"`
	Branch  string          `json:"branch,omitempty"`
}

type partyRecord struct {
	Tags      []string   `json:"tags"`
	Label     string     `json:"label,omitempty"`
	Interface string     `json:"if"`
	Local     netip.Addr `json:"local"`
	Created   time.Time  `json:"created"`
	Absent    bool       `json:"absent,omitempty"`
	Signed    *signature `json:"signed,omitempty"`
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
	ICE    *iceRecord            `json:"ice,omitempty"`
	DTLS   *dtlsRecord           `json:"dtls,omitempty"`
	Gate   gate                  `json:"gate,omitempty"`
	Pipe   *transcode.PipeConfig `json:"pipe,omitempty"`
	Codec  *transcode.State      `json:"codec,omitempty"`
	In     [3]int64              `json:"in"` // packets, bytes, lost
}

// iceRecord is ICE with a party. Pairs are there once there was an answer; that of RTCP only without rtcp-mux.
type iceRecord struct {
	Ufrag string        `json:"ufrag"`
	Pwd   string        `json:"pwd"`
	RTP   *nat.ICEState `json:"rtp,omitempty"`
	RTCP  *nat.ICEState `json:"rtcp,omitempty"`
}

// dtlsRecord is DTLS with a party.
type dtlsRecord struct {
	Setup string            `json:"setup"`
	TLSID string            `json:"tlsid,omitempty"`
	Own   []byte            `json:"own"` // SHA-256 of the certificate that we showed
	RTP   *dtlsPathRecord   `json:"rtp"`
	RTCP  *dtlsPathRecord   `json:"rtcp,omitempty"`
	Pins  []sdp.Fingerprint `json:"pins"` // of the party
}

// dtlsPathRecord is one association. Without keys the handshake has not ended.
type dtlsPathRecord struct {
	Active bool       `json:"active,omitempty"`
	ICE    bool       `json:"ice,omitempty"`
	Suite  srtpSuite  `json:"suite,omitempty"`
	Local  []byte     `json:"local,omitempty"` // master key and salt, one behind the other
	Remote []byte     `json:"remote,omitempty"`
	RX     *srtpState `json:"rx,omitempty"`
	TX     *srtpState `json:"tx,omitempty"`
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

	Lite    bool              `json:"lite,omitempty"`
	Ufrag   string            `json:"ufrag,omitempty"`
	Pwd     string            `json:"pwd,omitempty"`
	Setup   string            `json:"setup,omitempty"`
	TLSID   string            `json:"tlsid,omitempty"`
	Prints  []sdp.Fingerprint `json:"prints,omitempty"`
	MID     string            `json:"mid,omitempty"`
	Bundled bool              `json:"bundled,omitempty"`
}

type routeRecord struct {
	At    time.Time     `json:"at"`
	Raw   bool          `json:"raw,omitempty"`
	Plain bool          `json:"plain,omitempty"`
	Own   bool          `json:"own,omitempty"`
	Names [2]string     `json:"names"`
	Flows [2]flowRecord `json:"flows"`
}

type flowRecord struct {
	Source      nat.LatchConfig `json:"source"`
	SourceRTCP  nat.LatchConfig `json:"rtcp"`
	Hold        bool            `json:"hold,omitempty"`
	Mux         bool            `json:"mux,omitempty"`
	Feedback    bool            `json:"feedback,omitempty"`
	Wait        bool            `json:"wait,omitempty"`
	Secure      bool            `json:"secure,omitempty"`
	ICE         bool            `json:"ice,omitempty"`
	ICERTCP     bool            `json:"icertcp,omitempty"`
	DTLS        bool            `json:"dtls,omitempty"`
	DTLSRTCP    bool            `json:"dtlsrtcp,omitempty"`
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
	Side    int             `json:"side"`
	Media   []offeredRecord `json:"media"`
	Bundled []string        `json:"bundled,omitempty"`
}

type offeredRecord struct {
	Rejected bool          `json:"rejected,omitempty"`
	Kind     string        `json:"kind"`
	RTP      bool          `json:"isrtp,omitempty"`
	From     farRecord     `json:"from"`
	Managed  bool          `json:"managed,omitempty"`
	Offered  []sdp.Codec   `json:"offered,omitempty"`
	Sent     []sdp.Codec   `json:"sent,omitempty"`
	Options  []string      `json:"options,omitempty"` // of codecs
	OwnRTCP  bool          `json:"ownrtcp,omitempty"`
	Inject   bool          `json:"inject,omitempty"` // and detect: flags of the offer
	Detect   bool          `json:"detect,omitempty"`
	Proto    string        `json:"proto,omitempty"`
	MuxAsked bool          `json:"muxasked,omitempty"`
	MuxGiven muxAnswer     `json:"muxgiven,omitempty"`
	SDES     [2]sdesUse    `json:"sdes"`
	PTime    time.Duration `json:"ptime,omitempty"`
	ICE      [2]bool       `json:"ice"`
	Full     [2]bool       `json:"full"`
	MuxOnly  bool          `json:"muxonly,omitempty"`
	Setup    string        `json:"setup,omitempty"`
	Active   bool          `json:"active,omitempty"` // preferActive
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
	case len(rec.Subscriptions) > maxSubscriptions:
		return nil, fmt.Errorf("session record: %d subscriptions", len(rec.Subscriptions))
	}
	dialogs := slices.Clone(rec.Dialogs)
	for _, sub := range rec.Subscriptions {
		dialogs = append(dialogs, sub.Dialog)
	}
	for _, d := range dialogs {
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
	c := &d.creds
	return farRecord{Proto: d.proto, RTP: d.rtp, RTCP: d.rtcp, Mux: d.mux, Hold: d.hold, Silent: d.silent, Feedback: d.feedback,
		Source: d.source, Mode: d.mode.config(), Lite: c.lite, Ufrag: c.ufrag, Pwd: c.pwd, Setup: c.setup, TLSID: c.tlsID, Prints: c.prints, MID: d.mid,
		Bundled: d.bundled}
}

func (r *farRecord) description() description {
	return description{proto: r.Proto, rtp: r.RTP, rtcp: r.RTCP, mux: r.Mux, hold: r.Hold, silent: r.Silent, feedback: r.Feedback,
		source: r.Source, mode: learningOf(r.Mode), mid: r.MID, bundled: r.Bundled,
		creds: credentials{lite: r.Lite, ufrag: r.Ufrag, pwd: r.Pwd, setup: r.Setup, tlsID: r.TLSID, prints: r.Prints}}
}

func (f *flow) record() flowRecord {
	r := flowRecord{
		Source: f.source, SourceRTCP: f.sourceRTCP, Hold: f.hold, Mux: f.mux, Feedback: f.feedback, Wait: f.wait, Secure: f.rx != nil,
		Clock: f.clock, ToClock: f.toClock, Voice: f.voice, Events: f.events, Noise: f.noise, EventClocks: f.eventClocks,
		Heard: f.heard, Piped: f.pipe != nil, All: true,
		ICE: f.ice != nil, ICERTCP: f.iceRTCP != nil, DTLS: f.dtls != nil, DTLSRTCP: f.dtlsRTCP != nil,
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
		passing: r.All,
		source:  r.Source, sourceRTCP: r.SourceRTCP, hold: r.Hold, mux: r.Mux, feedback: r.Feedback, wait: r.Wait, clock: r.Clock, toClock: r.ToClock,
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
	r := &offerRecord{Side: o.side, Bundled: o.bundled}
	for i := range o.media {
		m := &o.media[i]
		r.Media = append(r.Media, offeredRecord{
			Rejected: m.rejected, Kind: m.kind, RTP: m.rtp, From: m.from.record(), Managed: m.choice.managed,
			Offered: m.choice.offered, Sent: m.choice.sent, Proto: m.proto, MuxAsked: m.muxAsked, MuxGiven: m.muxGiven,
			Options: m.choice.options, OwnRTCP: m.ownRTCP, Inject: m.choice.inject, Detect: m.detect,
			SDES: m.sdes, PTime: m.ptime, ICE: m.ice, Full: m.iceFull, MuxOnly: m.muxOnly, Setup: m.setup, Active: m.preferActive,
		})
	}
	return r
}

func (r *offerRecord) offer() *offer {
	if r == nil {
		return nil
	}
	o := &offer{side: r.Side, bundled: r.Bundled}
	for i := range r.Media {
		m := &r.Media[i]
		o.media = append(o.media, offeredMedia{
			rejected: m.Rejected, kind: m.Kind, rtp: m.RTP, from: m.From.description(),
			choice: choice{managed: m.Managed, offered: m.Offered, sent: m.Sent, options: m.Options, inject: m.Inject}, ownRTCP: m.OwnRTCP, detect: m.Detect, proto: m.Proto, muxAsked: m.MuxAsked,
			muxGiven: m.MuxGiven, sdes: m.SDES, ptime: m.PTime, ice: m.ICE, iceFull: m.Full, muxOnly: m.MuxOnly, setup: m.Setup,
			preferActive: m.Active,
		})
	}
	return o
}
