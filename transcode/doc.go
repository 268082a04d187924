// Package transcode is the transcode box: it turns one codec's RTP payloads into another's. It is pure: it opens no
// socket, reads no clock, starts no goroutine and holds no lock. It is not a jitter buffer: nothing waits for a playout time,
// so a stream leaves with the delay that it came with.
//
// A [Pipe] carries one direction of one call. A voice packet meets these steps, all within [Pipe.Push]:
//
//  1. order (jitter.go): late packets and duplicates fall out; when a number is missing, one packet waits for it until the
//     next arrival, so a swap of neighbours is undone before the decoder; everything else passes at once.
//  2. conceal (plc.go, opus): a hole of the numbering is filled, by Opus FEC where the next packet has it, else by the last
//     pitch period with a fade; a hole of the timestamps alone is silence (DTX) and becomes a hole of the outgoing ones.
//  3. decode (g711, g722, g726, opus, l16.go) into 16 bit mono at the codec's own rate; Opus decodes at the far side's rate.
//  4. DTMF (dtmf.go, event.go): tones become events where only the far side knows RFC 4733, events become tones where it does not.
//  5. resample (resample.go) between 8 and 16 kHz.
//  6. frame: samples gather to the far side's ptime; a remainder waits for the next packet.
//  7. encode, with the outgoing sequence number and timestamp, which have no holes but those of step 2.
//
// PCMU to PCMA and back with equal ptimes takes one table look-up per sample instead of steps 3 to 7, with the same result.
//
// No packet allocates. The work of one Push is bounded: at most two packets of 120 ms and 100 ms of concealment are coded.
//
// RFC 3550 (numbering), 3551 (PCMU, PCMA, G722, G726, L16), 3389 (comfort noise), 4733 (telephone-event), 6716 and 7587 (Opus),
// ITU-T G.711, G.722 and G.726.
package transcode
