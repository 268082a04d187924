// Package hep is the capture part of recovery's box in the picture: it speaks HEP3, by which the edge tells HOMER, or any
// other collector, every message that it saw.
//
// It is no tap: sip and media have one of their own (nil is off), and cmd joins them with a Sender. It parses no SIP but
// the one field that ties the messages of a call together, stores nothing, and does not read HEP versions 1 and 2.
//
// A captured message's way:
//
//  1. CallID finds the correlation id in the raw message.
//  2. Send encodes the packet (Append) into the queue's own memory, on the caller's goroutine, and returns. Where the
//     queue is full the packet is counted and gone: the newest is dropped, and no call ever waits for a collector.
//  3. Run's goroutine takes what is complete, in order, and writes it: over UDP a datagram per packet, several per
//     system call; over TCP one after the other, as many as lie side by side in one write.
//  4. A connection that breaks, or takes nothing for StallTimeout, is opened again after a growing pause; meanwhile the
//     queue keeps what fits. A packet that was written in part is written again as a whole.
//  5. When the context ends, what waits gets a quarter of a second more.
//
// UDP loses bursts in the collector's receive buffer without a trace here; where every message counts, use TCP.
//
// A receiver's way: Length frames a stream, Parse reads one packet, strictly, as views into the bytes given.
//
// HEP/EEP protocol revision 37 (sipcapture/HEP); RFC 3261 section 7.3 (Call-ID and its compact form).
package hep
