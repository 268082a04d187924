package bridge

import (
	"time"
)

// Rules are the numbers that a machine decides by. The zero value takes the defaults.
type Rules struct {
	RingTimeout time.Duration // a leg that does not answer ends after it, default 30 s
	MaxDuration time.Duration // of a leg, default 0: no limit
	MaxLegs     int           // of a call or a conference, default 500
	Linger      time.Duration // an empty conference stays so long, default 60 s
	LostGrace   time.Duration // how long a leg of a crashed node waits for its recovery, default 60 s
	PINTimeout  time.Duration // default 20 s
	PINTries    int           // default 3
	Relay       bool          // a node may relay the packets of a call of two beside its core: it takes less of the processor, and tells of no keys
	Tones       bool          // conferences that nobody has set have entry and exit tones
	EnterSound  string        // default sound:rtcedge/enter
	ExitSound   string        // default sound:rtcedge/leave
	PINSound    string        // default sound:beep
	EchoContext string        // dialplan context in which a channel hears itself, default echo
}

func (r *Rules) fill() {
	d := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	s := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	d(&r.RingTimeout, 30*time.Second)
	d(&r.Linger, time.Minute)
	d(&r.LostGrace, time.Minute)
	d(&r.PINTimeout, 20*time.Second)
	if r.MaxLegs <= 0 {
		r.MaxLegs = 500
	}
	if r.PINTries <= 0 {
		r.PINTries = 3
	}
	s(&r.EnterSound, "sound:rtcedge/enter")
	s(&r.ExitSound, "sound:rtcedge/leave")
	s(&r.PINSound, "sound:beep")
	s(&r.EchoContext, "echo")
}
