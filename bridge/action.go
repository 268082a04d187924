package bridge

import (
	"fmt"
	"strings"
)

// What an action does. Leg is its channel unless said otherwise.
const (
	doAnswer       = "answer"
	doRing         = "ring"
	doHangup       = "hangup"        // N is the Q.850 cause
	doResolve      = "resolve"       // find out where Text (a number) leads; the answer is an input
	doOriginate    = "originate"     // Text is the target's URI, Text2 its Route, N seconds
	doCreateBridge = "create bridge" // Text is its id
	doDestroy      = "destroy bridge"
	doJoin         = "join"  // into the call's bridge; On: muted
	doLeave        = "leave" // out of it
	doMute         = "mute"  // Text is the direction
	doMusic        = "music"
	doPlay         = "play" // Text is the playback's id, Media what; Leg "" is the bridge; N ms to skip
	doStopPlay     = "stop playback"
	doRecord       = "record" // Text is the name; Leg "" is the bridge; N seconds at most
	doStopRecord   = "stop recording"
	doSnoop        = "snoop" // a channel that hears Leg and records it as Text
	doDTMF         = "dtmf"
	doContinue     = "continue" // in the dialplan context Text
	doProgress     = "transfer progress"
	doSetVar       = "set"
	doExternal     = "external media" // Text is IP:PORT
	doHandOver     = "hand over"      // Record goes to the call that leg Text is in, in its place
	doReroute      = "reroute"        // Record leaves for number Text, answered
	doRelay        = "relay"          // Record and Second are a call of two from now on
	doOpenThere    = "open there"     // the conference at its new node
	doCloseThere   = "close there"    // again: Text is its id
	doMoved        = "moved"          // Call is the last state
	doSeek         = "seek"           // the leg with SIP Call-ID Text; the answer is an input, as for a number
	doTell         = "tell"           // the listeners of the API; Text is the event
)

// action is one thing to be done. The pure part makes them, the call's goroutine runs them in order.
type action struct {
	Do      string
	Leg     string
	Text    string
	Text2   string
	Media   []string
	N       int
	On      bool
	Forward bool // doResolve: Text is where a 302 pointed

	Record Leg // doOriginate: who calls, if it is not the first leg
	Second Leg
	Call   *Call
}

func (a action) String() string {
	out := []string{a.Do}
	for _, s := range []string{a.Leg, a.Text} {
		if s != "" {
			out = append(out, s)
		}
	}
	if a.N != 0 {
		out = append(out, fmt.Sprint(a.N))
	}
	if a.On {
		out = append(out, "on")
	}
	return strings.Join(out, " ")
}
