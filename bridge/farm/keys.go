package farm

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"rtcedge/bridge/mixer"
	"rtcedge/transcode/g711"
)

// keyNames are the telephone events 0 to 15 (RFC 4733, section 3.2).
const keyNames = "0123456789*#ABCD"

// keyReader makes keys of telephone-event packets (RFC 4733, section 2.5.1.3): one per time stamp, told at its end. If all
// packets with the end bit are lost, the next key's first packet tells of it. It is pure.
type keyReader struct {
	ts       uint32
	event    uint8
	duration uint16
	live     bool // the key of ts is not told yet
	told     bool
}

// take reads one packet's event.
func (k *keyReader) take(p rtpPacket) (digit string, ms int, ok bool) {
	if len(p.payload) < 4 || int(p.payload[0]) >= len(keyNames) {
		return "", 0, false
	}
	event, end, duration := p.payload[0], p.payload[1]&0x80 != 0, binary.BigEndian.Uint16(p.payload[2:])
	if p.ts != k.ts || !k.live && !k.told {
		if k.live {
			digit, ms, ok = k.key()
		}
		k.ts, k.event, k.live, k.told = p.ts, event, true, false
	}
	k.duration = duration
	if end && k.live {
		// A key whose first packet carries the end bit while the one before was still open is told with the next repetition.
		if ok {
			return digit, ms, ok
		}
		digit, ms, ok = k.key()
		k.live, k.told = false, true
	}
	return digit, ms, ok
}

func (k *keyReader) key() (string, int, bool) {
	return keyNames[k.event : k.event+1], int(k.duration) * 1000 / mixer.SampleRate, true
}

// keySender presses keys towards a far end: as events if it knows them, else as tones. It is owned by the clock.
type keySender struct {
	keys                          string
	before, between, press, after int // frames
	index, at                     int
}

func newKeySender(keys string, before, between, press, after time.Duration) *keySender {
	frames := func(d time.Duration) int { return int((d + frameTime - 1) / frameTime) }
	return &keySender{keys: keys, before: frames(before), between: frames(between), press: max(frames(press), 2), after: frames(after)}
}

// send is 20 ms of it; false when all is sent.
func (k *keySender) send(s *stream) bool {
	switch {
	case k.before > 0:
		k.before--
		return true
	case k.index >= len(k.keys):
		k.after--
		return k.after > 0
	}
	event := strings.IndexByte(keyNames, k.keys[k.index])
	k.at++
	if k.at <= k.press && event >= 0 { // w is a pause
		s.key(uint8(event), k.at, k.at == k.press)
	}
	if k.at >= k.press+k.between {
		k.at, k.index = 0, k.index+1
	}
	return k.index < len(k.keys) || k.after > 0
}

// dtmf are the frequencies of a key (ITU-T Q.23).
func dtmf(event uint8) (low, high float64) {
	rows, columns := [...]float64{697, 770, 852, 941}, [...]float64{1209, 1336, 1477, 1633}
	at := strings.IndexByte("123A456B789C*0#D", keyNames[event])
	return rows[at/4], columns[at%4]
}

// key sends frame number at, from 1, of a pressed key. The last one goes out three times (RFC 4733, section 2.5.1.4).
func (s *stream) key(event uint8, at int, last bool) {
	remote := s.remote.Load()
	if remote == nil || !remote.dir.Receives() {
		return
	}
	if !remote.events {
		low, high := dtmf(event)
		var pcm mixer.Frame
		var coded [mixer.FrameSamples]byte
		for i := range pcm {
			turn := 2 * math.Pi * float64((at-1)*mixer.FrameSamples+i) / mixer.SampleRate
			pcm[i] = int16(5000 * (math.Sin(low*turn) + math.Sin(high*turn)))
		}
		g711.EncodeULaw(coded[:], pcm[:])
		s.play(&coded)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if at == 1 {
		s.source = sourceID{}
		s.keyTS = s.ts + s.pauseLocked(now)
	}
	payload := [4]byte{event, 10}
	binary.BigEndian.PutUint16(payload[2:], uint16(at*mixer.FrameSamples))
	times := 1
	if last {
		payload[1] |= 0x80
		times = 3
	}
	for range times {
		s.sendLocked(remote, now, remote.eventPT, at == 1, s.seq+1, s.keyTS, payload[:])
	}
	if last {
		s.ts = s.keyTS + uint32((at-1)*mixer.FrameSamples)
	}
}
