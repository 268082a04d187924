package media

import (
	"time"

	"rtcedge/media/ng"
)

// Stats is a snapshot of an engine for the metrics exporter. Counters only grow while the engine lives.
type Stats struct {
	Calls         int    // now
	CallsTotal    uint64 // since start
	Restored      uint64 // of these, taken over from a session record
	Deleted       uint64 // calls that ended by a delete command
	Timeouts      uint64 // calls that ended for want of packets
	Rejected      uint64 // offers and answers refused with an error-reason
	LoadLimited   uint64 // offers refused because of MaxSessions
	Streams       int    // m= lines with sockets, now
	Transcoded    int    // of these, with different codecs on the two legs
	Packets       uint64 // received and accepted, RTP and RTCP
	Bytes         uint64
	PacketsOut    uint64
	BytesOut      uint64
	Drops         map[string]uint64 // by reason: short, class, stun, dtls, no-route, source, auth, replay, ...
	Ports         []PortStats       // per local address
	ControlErrors uint64            // answers with Result "error", any command

	Handshakes map[string]uint64 // of DTLS, by end: ok, timeout, fingerprint, protocol, cancelled; busy: not begun, too many at once

	Teardowns map[string]uint64 // of callbacks for calls that timed out: ok, failed, lost (full queue, or no address); nil without a URL

	Recordings      int    // now
	RecordingErrors uint64 // recordings given up because a file could not be written
	RecordingLost   uint64 // packets missing in recordings because the writer was too slow
}

// PortStats is the state of one local address's port range.
type PortStats struct {
	Interface  string // name of the first interface on this address
	Used, Free int    // pairs
	Busy       uint64 // pairs found taken by another process
}

// CallEnd is what the Ended hook gets, once per call.
type CallEnd struct {
	CallID string
	Reason string // delete, timeout, shutdown
	At     time.Time
	Info   ng.CallInfo
	// Recordings are the names of what was recorded, relative to Config.RecordingDir: NAME.pcap, NAME-caller.wav, NAME-callee.wav,
	// NAME-mixed.wav; NAME-2-caller.wav and so on for a second stream.
	Recordings []string
}
