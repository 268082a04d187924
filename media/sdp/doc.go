// Package sdp reads, edits and prints session descriptions without losing a byte.
//
// It is the part of the media box that knows what an SDP body says. It is not a negotiator: which codec, which key or
// which address goes where is decided by package media; user agents (the embedded farm, the test peers) build their
// own bodies here with New and AddMedia.
//
// The flow:
//
//  1. Parse cuts the body into lines, keeps each with the line end that it came with, and checks what every reader
//     depends on: v=, o=, c= and m= lines, the size, the number of lines and of media.
//  2. Accessors read one line at a time when they are asked; a line that nobody asks for is never interpreted.
//  3. Editors replace, insert or remove single lines. All others stay as they came, in order: unknown attributes,
//     unknown line types, blank lines, bare LF.
//  4. Bytes prints. A session that was not edited prints exactly what Parse was given.
//
// Methods of Session and Media are not safe for concurrent use. No method panics on what a stranger sent.
//
// RFCs: 8866 and 4566 (SDP), 3264 (offer/answer), 3551 (static payload types), 3605 (rtcp), 4568 (crypto), 4585
// (rtcp-fb), 5761 (rtcp-mux), 5763 and 8842 (fingerprint, setup, tls-id), 8285 (extmap), 8839 (ICE), 9143 (BUNDLE).
package sdp
