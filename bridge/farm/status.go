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

// CallInfo is one running call, as `rtcedge calls` prints it: a dialog with a far end.
type CallInfo struct {
	Channel  string    // in ARI
	Number   string    // that was dialled
	Started  time.Time // INVITE
	Answered time.Time // zero: not yet
	CallID   string    // of the SIP dialog
	From, To string    // name-addr, in the direction of the INVITE
	State    string    // calling, ringing, up, ending
	Media    netip.AddrPort
	Received uint64 // RTP packets from the far end
	Sent     uint64 // RTP packets to the far end
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
	Bridges       int           // of ARI, now
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
		if v == nil || v.state == legEnded || v.state == legUnopened {
			continue
		}
		s := c.leg.stream
		out = append(out, CallInfo{
			Channel: c.leg.id, Number: c.number, Started: c.started, Answered: v.answered, CallID: v.callID, From: v.from, To: v.to, State: v.state.String(),
			Media: s.rtp.LocalAddr(), Received: s.received.Load(), Sent: s.sent.Load(), Dropped: s.dropped.Load(),
		})
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
	calls := len(f.calls)
	f.mu.Unlock()
	s := Stats{
		Calls: calls, Bridges: f.node.bridgeCount(),
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

// info tells what answers.
func (f *Farm) info() ari.AsteriskInfo {
	return ari.AsteriskInfo{
		System: ari.SystemInfo{Version: userAgent, EntityID: f.nodeID()},
		Config: ari.ConfigInfo{Name: userAgent, DefaultLanguage: "en", MaxChannels: int64(f.cfg.MaxCalls)},
		Status: ari.StatusInfo{StartupTime: ari.Time{Time: f.started}, LastReloadTime: ari.Time{Time: f.started}},
	}
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

// endpoints are the users with contacts; a user without is not known here. As with Asterisk, one is offline when it is known
// that none of its contacts answers. It can be called all the same.
func (f *Farm) endpoints(channels []ari.Channel) []ari.Endpoint {
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
