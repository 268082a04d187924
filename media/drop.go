package media

import "sync/atomic"

// dropReason says why a packet did not leave.
type dropReason uint8

const (
	dropShort       dropReason = iota // shorter than its header says
	dropClass                         // no RTP, RTCP, STUN or DTLS by its first byte (RFC 7983)
	dropSTUN                          // STUN on a stream without ICE, or without its password
	dropDTLS                          // DTLS on a stream without DTLS-SRTP, or a record of no use
	dropNoKey                         // DTLS-SRTP: before the handshake has brought keys
	dropNoRoute                       // before the answer
	dropSource                        // not the latched source
	dropAuth                          // SRTP: authentication failed
	dropReplay                        // SRTP: seen before or too old
	dropPayloadType                   // payload type that was not negotiated
	dropPayload                       // the decoder or encoder refused the payload
	dropHold                          // the receiver gave no address to send to (c=0.0.0.0 or port 0)
	dropRTCP                          // malformed RTCP, or a packet type that ends here
	dropSeal                          // SRTP could not be sealed (key life used up)
	dropSend                          // the socket refused the packet
	dropBlocked                       // block media, block DTMF, silence media or play media
	dropJoined                        // from a party whose place a joined stream has taken
	dropPace                          // to be converted, and more than twice the audio that passes in the time
	numDrops
)

// dropNames are the label values of the metrics exporter, in the order of the constants.
var dropNames = [numDrops]string{
	"short", "class", "stun", "dtls", "no-key", "no-route", "source", "auth", "replay", "payload-type", "payload", "hold", "rtcp",
	"seal", "send", "blocked", "joined", "pace",
}

func (d dropReason) String() string {
	if d < numDrops {
		return dropNames[d]
	}
	return "unknown"
}

// drops counts by reason. One writer, any reader.
type drops [numDrops]atomic.Uint64

func (d *drops) count(r dropReason) { d[r].Add(1) }

func (d *drops) total() (n uint64) {
	for i := range d {
		n += d[i].Load()
	}
	return n
}
