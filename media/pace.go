package media

import "time"

// pace bounds the audio that is made for a party, and with it the processor time that a party can ask for: decoding, concealing and encoding cost by the
// millisecond of audio, and who sends packets of 120 ms, or leaves holes that are concealed, a thousand times a second, has as much of it as he likes. A
// voice needs a second of it in a second. It is the worker's; the zero value has made nothing. Every leg has one, hence its size.
type pace struct {
	at   uint16 // ms, of the last packet. It comes round after 65 s: a pause of a minute may count for less than it was
	made int16  // ms of audio, less what time has taken off since
}

// Chosen by us, in milliseconds.
const (
	paceFactor = 2    // times what a voice needs
	paceBurst  = 2000 // what a network held back comes at once
	paceLeast  = 5    // a packet counts for that at least, whatever comes of it: the shortest ptime in use is 10 ms
)

// allows tells if a packet may be worked on.
func (p *pace) allows(now time.Time) bool {
	at := uint16(now.UnixMilli())
	p.made = int16(max(int(p.made)-paceFactor*int(at-p.at), 0))
	p.at = at
	return p.made < paceBurst
}

// add notes what came of it.
func (p *pace) add(audio time.Duration) {
	p.made = int16(min(int64(p.made)+max(audio.Milliseconds(), paceLeast), 1<<15-1))
}
