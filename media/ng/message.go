package ng

import (
	"net/netip"
	"slices"
	"time"
)

// Commands that a media node answers.
const (
	CmdPing   = "ping"
	CmdOffer  = "offer"
	CmdAnswer = "answer"
	CmdDelete = "delete"
	CmdQuery  = "query"
	CmdList   = "list"
	CmdStats  = "statistics"

	CmdStartRecording = "start recording"
	CmdStopRecording  = "stop recording"
	CmdPauseRecording = "pause recording"
	CmdBlockMedia     = "block media"
	CmdUnblockMedia   = "unblock media"
	CmdSilenceMedia   = "silence media"
	CmdUnsilenceMedia = "unsilence media"
	CmdBlockDTMF      = "block dtmf"
	CmdUnblockDTMF    = "unblock dtmf"
	CmdPlayDTMF       = "play dtmf"
	CmdPlayMedia      = "play media"
	CmdStopMedia      = "stop media"
)

// Commands of our own, for calls whose other side has gone away and will be back.
const (
	// CmdJoin lets a party of one call and a party of another one hear each other in place of those who are away. It needs call-id
	// and other-call-id; from-tag and other-tag name the two parties that stay, which are else those on the outer interfaces or heard
	// last. It ends when one who was away, or who took that place by an offer or answer, sends. With answered and other-answered it is
	// refused where a call has had another answer since Heard told of that one: who was away may be back.
	CmdJoin   = "join"
	CmdUnjoin = "unjoin"
	// CmdHeard tells which answer of the call counts now, and how long ago the party that is not from-tag's was first heard after it.
	CmdHeard = "heard"
	// CmdComfort with comfort=on lets a party, that of from-tag, hear comfort noise whenever the other one is silent, until comfort=off.
	CmdComfort = "comfort"
)

// Commands that give what parties say to others: copies as PCM, and as streams of their own (SIPREC, RFC 7866).
const (
	CmdStartForwarding = "start forwarding"
	CmdStopForwarding  = "stop forwarding"
	CmdPublish         = "publish"
	CmdSubscribe       = "subscribe request"
	CmdSubscribeAnswer = "subscribe answer"
	CmdUnsubscribe     = "unsubscribe"
)

// Commands lists those that a node carries out.
func Commands() []string {
	return []string{
		CmdPing, CmdOffer, CmdAnswer, CmdDelete, CmdQuery, CmdList, CmdStats, CmdStartRecording, CmdStopRecording,
		CmdPauseRecording, CmdBlockMedia, CmdUnblockMedia, CmdSilenceMedia, CmdUnsilenceMedia, CmdBlockDTMF, CmdUnblockDTMF,
		CmdPlayDTMF, CmdPlayMedia, CmdStopMedia, CmdStartForwarding, CmdStopForwarding, CmdPublish, CmdSubscribe, CmdSubscribeAnswer,
		CmdUnsubscribe, CmdJoin, CmdUnjoin, CmdComfort, CmdHeard,
	}
}

// Results of a command.
const (
	ResultOK        = "ok"
	ResultPong      = "pong"
	ResultError     = "error"
	ResultLoadLimit = "load limit"
)

// Request is one NG command with the keys that we understand. A zero field means that the key was not given. Words of
// list values are normalised: lower case, spaces as hyphens (rtpengine takes both), codec names as they came.
type Request struct {
	Command   string
	CallID    string
	FromTag   string
	ToTag     string
	ViaBranch string

	SDP []byte

	// Transport is the profile wanted towards the receiver of the rewritten SDP: RTP/AVP, RTP/AVPF, RTP/SAVP,
	// RTP/SAVPF, UDP/TLS/RTP/SAVP, UDP/TLS/RTP/SAVPF; "" keeps the one of the SDP. In an answer "accept" passes on that of the answerer.
	Transport string
	// Direction names two interfaces: that of the SDP's sender and that of its receiver; "" is the default one.
	Direction [2]string

	Flags []string // flags: trust-address, strict-source, asymmetric, port-latching, generate-mid, no-rtcp-attribute,
	// keep-transport (ours: in a call, the profile that the receiver has), ...
	Replace  []string // replace: origin, session-connection, sdp-version, username, session-name, zero-address, ...
	RTCPMux  []string // rtcp-mux: offer, require, demux, accept, reject
	SDES     []string // SDES: off, no-SUITE, only-SUITE, pad, ...
	OSRTP    []string // OSRTP: offer, accept
	Supports []string // supports: load-limit
	ICE      string   // remove, force, default, optional, force-relay; "" is default
	ICELite  string   // forward, backward, both, off
	DTLS     string   // off, passive, active: towards the receiver
	Codec    Codec

	DTLSReverse     string // passive, active: towards the sender
	DTLSFingerprint string // hash of the fingerprint: sha-256, ...

	MediaAddress  netip.Addr // media-address: in place of the interface's advertised one
	ReceivedFrom  netip.Addr // received-from (or SIP-source-address): where the SIP message came from
	AddressFamily string     // IP4 or IP6; "" keeps
	TOS           *int       // 0..255; -1 keeps that of the call
	DeleteDelay   *time.Duration
	PTime         time.Duration // ptime towards the receiver
	PTimeReverse  time.Duration // ptime towards the sender
	RecordCall    string        // yes, no, on, off
	Metadata      string

	// Which parties a command is about, beside the tags: by the name that a controller gave, the address in their SDP, several tags, or
	// all. In offer and answer the label is given; SetLabel gives one where Label selects.
	Label, ToLabel, SetLabel string
	Address                  netip.Addr
	FromTags                 []string
	All                      string // all, offer-answer, except-offer-answer, flows, none

	DropTraffic string   // start or stop: all RTP of the call is dropped
	Extmap      []string // names or URIs of header extensions that are not offered on; "all"

	// Of block DTMF: what takes the place of events (drop, silence, tone, random, zero, dtmf, off), tones in Hz, and Code and Volume.
	DTMFSecurity string
	Frequencies  []int

	Limit int // of a list; 0 is rtpengine's default of 32

	// Of play DTMF, Code also of block DTMF: keys (0-9, *, #, A-D) or the number of an event; how long each sounds and the pause behind it, 0 is the
	// default of the node; volume in dBm0 without a sign.
	Code            string
	Duration, Pause time.Duration
	Volume          int

	// Of play media: a file of the node's media directory, or a WAV file itself; where to begin; how often to play it, 0 is once, or
	// for how long to repeat it.
	File           string
	Blob           []byte
	StartPos       time.Duration
	RepeatTimes    int
	RepeatDuration time.Duration

	OtherCallID, OtherTag string // of join
	Answered              int64  // of join: Heard.Answered of call-id; 0 is whichever there is
	OtherAnswered         int64  // of other-call-id
	Comfort               string // on or off; "" is on

	XMLRPCCallback netip.Addr // xmlrpc-callback: whom the node tells when the call times out, in place of Source

	Source netip.Addr // no key: where the request came from, filled in by the server; invalid within one process

	Unknown []string // keys and list words that nobody here understands: ignored and counted
}

// Codec is the dictionary "codec" of an offer: encoding names, optionally NAME/CLOCK/CHANNELS; "all" stands for every one.
type Codec struct {
	Strip     []string // taken out of the offer
	Offer     []string // kept although stripped
	Mask      []string // hidden from the receiver, still usable for transcoding
	Except    []string // kept by strip or mask all
	Transcode []string // added to the offer, transcoded if chosen
	Accept    []string // accepted from the offerer even if not offered on
	Consume   []string // mask and accept
	Set       []string // options: NAME/CLOCK/CHANNELS/BITRATE/PTIME/FMTP
}

// Has tells if the flag stands in the list of flags.
func (r *Request) Has(flag string) bool { return slices.Contains(r.Flags, flag) }

// Response is the answer to one command. Error answers carry an ErrorReason that says what to change.
type Response struct {
	Result      string
	ErrorReason string
	Warning     string
	Message     string // with load limit
	SDP         []byte
	Call        *CallInfo      // query and delete
	Subscribed  *Subscribed    // subscribe request
	Calls       []string       // list
	Duration    time.Duration  // play media: of the file
	Statistics  map[string]any // statistics: nested maps and lists of int64, float64 and string
	Heard       *Heard         // heard
}

// Heard tells of a call whose farm side was away.
type Heard struct {
	Answered int64         // names the answer that counts; another one has another number
	Age      time.Duration // of that answer
	Since    time.Duration // since the first packet from there after that answer; negative: there was none
}

// Subscribed is what a subscribe request got: the m= lines of SDP, in order, by whose they are.
type Subscribed struct {
	ToTag    string   // of the subscription, for subscribe answer and unsubscribe
	FromTags []string // one for each party
	Medias   [][]SubscribedMedia
}

// SubscribedMedia is one m= line of the SDP that a subscriber is offered.
type SubscribedMedia struct {
	Index             int // in SDP, from 1
	Type, Label, Mode string
}

// CallInfo is what a query tells of one call.
type CallInfo struct {
	Created    time.Time
	LastSignal time.Time
	Tags       []TagInfo
	Totals     Totals
	Joined     string // Call-ID of the call that this one is joined with
}

// TagInfo is one party of a call.
type TagInfo struct {
	Tag, InDialogueWith string
	Label               string
	Subscriptions       []string // of a subscriber: the tags of those whose media it gets
	Created             time.Time
	Medias              []MediaInfo
}

// MediaInfo is one m= line of a party.
type MediaInfo struct {
	Index    int // from 1
	Type     string
	Protocol string
	Codec    string // encoding name in use
	// Interface is the name of the local interface that faces the party: by it one tells the farm's side from the outside.
	Interface string
	Streams   []StreamInfo
}

// StreamInfo is one RTP or RTCP flow of a party as it arrives here.
type StreamInfo struct {
	RTCP       bool
	LocalPort  int
	Endpoint   netip.AddrPort // where packets go to
	Advertised netip.AddrPort // what the SDP said
	Crypto     string         // suite; "" is plain
	SSRC       uint32         // last one received
	Stats      StreamStats
	LastPacket time.Time
	Latched    bool
}

// StreamStats counts one direction. Errors are packets dropped for any reason.
type StreamStats struct {
	Packets, Bytes, Errors int64
	Lost                   int64         // RFC 3550 A.3
	Jitter                 time.Duration // RFC 3550 A.8
	RoundTrip              time.Duration // from RTCP; 0 is unknown
	MOS                    float64       // E-model estimate, 1..4.5; 0 is unknown
}

// Totals sums the streams of a call.
type Totals struct{ RTP, RTCP StreamStats }
