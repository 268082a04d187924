package ng

import (
	"maps"
	"sync"
	"time"
)

// Why a message was not handed to the Handler. These are the keys of ServerStats.Refused.
const (
	RefusedNoCookie  = "no cookie"
	RefusedMalformed = "malformed"   // neither bencode nor JSON
	RefusedBadValue  = "bad value"   // a key with an impossible value
	RefusedMissing   = "missing key" // a key that the command needs
	RefusedTooBig    = "too big"     // message, or an answer that fits no datagram
	RefusedFull      = "too many connections"
)

// CommandStats counts one command.
type CommandStats struct {
	Requests int64
	Errors   int64         // answered with result "error"
	Time     time.Duration // spent in the Handler, all requests together
}

// ServerStats is a snapshot of a server's counters.
type ServerStats struct {
	Commands    map[string]CommandStats // by command; those that the protocol does not have are together under "other"
	Refused     map[string]int64        // by reason
	UnknownKeys map[string]int64        // keys and words that were ignored; beyond 256 different ones under "other"
	Duplicates  int64                   // retransmissions: answered from the cache or swallowed while in work
	InWork      int                     // requests in the Handler now
	Connections int                     // TCP and WebSocket connections now
}

const maxUnknownNames = 256

type serverStats struct {
	mu sync.Mutex
	s  ServerStats
}

func newServerStats() *serverStats {
	return &serverStats{s: ServerStats{Commands: map[string]CommandStats{}, Refused: map[string]int64{}, UnknownKeys: map[string]int64{}}}
}

func (c *serverStats) refused(reason string) {
	c.mu.Lock()
	c.s.Refused[reason]++
	c.mu.Unlock()
}

func (c *serverStats) duplicate() {
	c.mu.Lock()
	c.s.Duplicates++
	c.mu.Unlock()
}

func (c *serverStats) connections(d int) {
	c.mu.Lock()
	c.s.Connections += d
	c.mu.Unlock()
}

func (c *serverStats) begin(unknown []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.InWork++
	for _, key := range unknown {
		if _, ok := c.s.UnknownKeys[key]; !ok && len(c.s.UnknownKeys) >= maxUnknownNames {
			key = "other"
		}
		c.s.UnknownKeys[key]++
	}
}

func (c *serverStats) end(command string, failed bool, took time.Duration) {
	if !isCommand(command) {
		command = "other"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.InWork--
	s := c.s.Commands[command]
	s.Requests++
	if failed {
		s.Errors++
	}
	s.Time += took
	c.s.Commands[command] = s
}

func isCommand(command string) bool {
	switch command {
	case CmdPing, CmdOffer, CmdAnswer, CmdDelete, CmdQuery, CmdList, CmdStats, CmdStartRecording, CmdStopRecording,
		CmdPauseRecording, CmdBlockMedia, CmdUnblockMedia, CmdSilenceMedia, CmdUnsilenceMedia, CmdBlockDTMF, CmdUnblockDTMF,
		CmdPlayDTMF:
		return true
	}
	return false
}

// Stats returns a copy of the counters.
func (s *Server) Stats() ServerStats {
	c := s.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.s
	out.Commands = maps.Clone(out.Commands)
	out.Refused = maps.Clone(out.Refused)
	out.UnknownKeys = maps.Clone(out.UnknownKeys)
	return out
}
