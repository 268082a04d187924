package farm

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/ari"
)

// CallInfo is one running call, as `rtcedge calls` prints it.
type CallInfo struct {
	ID       string
	Kind     Kind
	Number   string    // that was dialled
	Started  time.Time // INVITE
	Answered time.Time // zero: not yet
	Legs     []LegInfo
}

// LegInfo is one party of a call.
type LegInfo struct {
	ID       string // of the channel in ARI
	CallID   string // of the SIP dialog
	From, To string // name-addr, in the direction of the INVITE
	State    string // calling, ringing, up, ending
	Media    netip.AddrPort
	Received uint64 // RTP packets from the party
	Sent     uint64 // RTP packets to the party
	Dropped  uint64 // datagrams from anywhere that were no such packets
}

// ContactInfo is one registered contact.
type ContactInfo struct {
	User      string
	URI       string
	State     Reachability
	RoundTrip time.Duration // of the last OPTIONS, first sending to answer; 0: there was no answer
	Missed    int           // OPTIONS without an answer since the last answer
	Expires   time.Time
}

// Stats are the farm's counters since it was made, and what is there now.
type Stats struct {
	Calls         int           // now
	Conferences   int           // now
	Registrations int           // contacts now
	Reachable     int           // of these, contacts that answered the last OPTIONS
	Unreachable   int           // of these, contacts that did not
	RoundTripMax  time.Duration // slowest of the last answers of the contacts that are reachable
	CallsTotal    uint64        // INVITEs that made a call
	Refused       uint64        // requests that got a final 4xx, 5xx or 6xx from the farm itself
	Registers     uint64        // REGISTERs that were accepted
}

// String is the state's name.
func (s legState) String() string {
	return [...]string{"calling", "ringing", "up", "ending", "ended", "unopened"}[s]
}

// Calls are the running calls, the oldest first.
func (f *Farm) Calls() []CallInfo {
	var out []CallInfo
	for _, c := range f.snapshot() {
		v := c.view.Load()
		info := CallInfo{ID: c.id, Kind: c.kind, Number: c.number, Started: c.started, Answered: v.answered}
		for _, l := range v.legs {
			s := l.leg.stream
			info.Legs = append(info.Legs, LegInfo{
				ID: l.leg.id, CallID: l.callID, From: l.from, To: l.to, State: l.state.String(), Media: s.rtp.LocalAddr(),
				Received: s.received.Load(), Sent: s.sent.Load(), Dropped: s.dropped.Load(),
			})
		}
		out = append(out, info)
	}
	return out
}

// snapshot lists the calls in the order in which they came.
func (f *Farm) snapshot() []*call {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*call, 0, len(f.calls))
	for c := range f.calls {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *call) int { return a.started.Compare(b.started) })
	return out
}

// Registrations is the number of live contacts of all users.
func (f *Farm) Registrations() int { return f.locations.count(time.Now()) }

// Contacts are the registered contacts, by user.
func (f *Farm) Contacts() []ContactInfo {
	var out []ContactInfo
	f.locations.walk(time.Now(), func(user string, b binding) {
		out = append(out, ContactInfo{
			User: user, URI: b.uri, State: b.reach.state, RoundTrip: b.reach.rtt, Missed: b.reach.missed, Expires: b.expires,
		})
	})
	slices.SortFunc(out, func(a, b ContactInfo) int {
		return cmp.Or(strings.Compare(a.User, b.User), strings.Compare(a.URI, b.URI))
	})
	return out
}

// Stats reads the counters.
func (f *Farm) Stats() Stats {
	f.mu.Lock()
	calls, rooms := len(f.calls), len(f.rooms)
	f.mu.Unlock()
	s := Stats{
		Calls: calls, Conferences: rooms,
		CallsTotal: f.stats.calls.Load(), Refused: f.stats.refused.Load(), Registers: f.stats.registers.Load(),
	}
	f.locations.walk(time.Now(), func(_ string, b binding) {
		s.Registrations++
		switch b.reach.state {
		case Reachable:
			s.Reachable++
			s.RoundTripMax = max(s.RoundTripMax, b.reach.rtt)
		case Unreachable:
			s.Unreachable++
		}
	})
	return s
}

// control is what ARI shows of the farm's own calls, those that no application has: a leg is a channel, a call of two and a
// conference are bridges.
type control struct{ *Farm }

// Info tells what answers.
func (f control) Info() ari.AsteriskInfo {
	return ari.AsteriskInfo{
		System: ari.SystemInfo{Version: userAgent, EntityID: f.nodeID()},
		Config: ari.ConfigInfo{Name: userAgent, DefaultLanguage: "en", MaxChannels: int64(f.cfg.MaxCalls)},
		Status: ari.StatusInfo{StartupTime: ari.Time{Time: f.started}, LastReloadTime: ari.Time{Time: f.started}},
	}
}

// Channels are the legs of all calls.
func (f control) Channels() []ari.Channel {
	out := []ari.Channel{} // an empty list is [] in JSON
	for _, c := range f.snapshot() {
		v := c.view.Load()
		for _, l := range v.legs {
			if c.kind == KindStasis {
				continue // the node shows it
			}
			out = append(out, c.channelOf(l))
		}
	}
	return out
}

func (c *call) channelOf(l legView) ari.Channel {
	ch := ari.Channel{
		ID: l.leg.id, ProtocolID: l.callID, Name: l.leg.name, State: ari.StateUp,
		CreationTime: ari.Time{Time: l.leg.created}, Language: "en",
		Dialplan: ari.DialplanCEP{Context: "default", Exten: c.number, Priority: 1, AppName: c.kind.application()},
	}
	switch {
	case l.state >= legUp:
	case l.leg.incoming:
		ch.State = ari.StateRing
	case l.state == legRinging:
		ch.State = ari.StateRinging
	default:
		ch.State = ari.StateDown
	}
	// A channel's caller is the party at its end, connected is the one it talks to.
	own, other := l.from, l.to
	if !l.leg.incoming {
		own, other = other, own
	}
	ch.Caller = callerID(own)
	if c.kind == KindUser {
		ch.Connected = callerID(other)
	}
	return ch
}

func (k Kind) application() string {
	return [...]string{KindEcho: "Echo", KindMusic: "MusicOnHold", KindConference: "ConfBridge", KindUser: "Dial", KindStasis: "Stasis"}[k]
}

// callerID reads a name-addr.
func callerID(nameAddr string) ari.CallerID {
	var uri sipmsg.Uri
	var params sipmsg.HeaderParams
	name, err := sipmsg.ParseAddressValue(nameAddr, &uri, &params)
	if err != nil {
		return ari.CallerID{}
	}
	return ari.CallerID{Name: strings.Trim(name, `"`), Number: uri.User}
}

// Bridges are the answered calls between two users and the conferences.
func (f control) Bridges() []ari.Bridge {
	out := []ari.Bridge{}
	for _, c := range f.snapshot() {
		v := c.view.Load()
		if c.kind != KindUser || v.answered.IsZero() {
			continue
		}
		b := ari.Bridge{
			ID: c.id, Technology: ari.TechnologySimple, BridgeType: "mixing", BridgeClass: "basic", Name: c.number,
			Channels: []string{}, CreationTime: ari.Time{Time: v.answered}, VideoMode: "none",
		}
		for _, l := range v.legs {
			if l.state == legUp {
				b.Channels = append(b.Channels, l.leg.id)
			}
		}
		out = append(out, b)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rooms {
		b := ari.Bridge{
			ID: r.id, Technology: ari.TechnologySoftmix, BridgeType: "mixing", BridgeClass: "conference", Name: r.number,
			Channels: []string{}, CreationTime: ari.Time{Time: r.created}, VideoMode: "none",
		}
		for _, m := range *r.members.Load() {
			b.Channels = append(b.Channels, m.leg.id)
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b ari.Bridge) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Endpoints are the users with contacts; a user without is not known here. As with Asterisk, one is offline when it is known
// that none of its contacts answers. It can be called all the same.
func (f control) Endpoints(channels []ari.Channel) []ari.Endpoint {
	out := []ari.Endpoint{}
	for _, c := range f.Contacts() {
		if len(out) == 0 || out[len(out)-1].Resource != c.User {
			e := ari.Endpoint{Technology: "PJSIP", Resource: c.User, State: ari.EndpointOffline, ChannelIDs: []string{}}
			for _, ch := range channels {
				if ch.Caller.Number == c.User {
					e.ChannelIDs = append(e.ChannelIDs, ch.ID)
				}
			}
			out = append(out, e)
		}
		if c.State != Unreachable {
			out[len(out)-1].State = ari.EndpointOnline
		}
	}
	return out
}

// Hangup ends the call of a channel: a call ends at one participant.
func (f control) Hangup(id string, cause int) bool {
	for _, c := range f.snapshot() {
		for _, l := range c.view.Load().legs {
			if l.leg.id == id {
				return c.post(event{kind: evHangup, leg: l.leg, cause: cause})
			}
		}
	}
	return false
}
