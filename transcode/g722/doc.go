// Package g722 is ITU-T G.722 at 64 kbit/s: 16 kHz audio in two sub-bands, 6 bits for the lower, 2 for the upper, each an
// adaptive differential coder. It knows no packets; the 48 and 56 kbit/s modes, which RTP does not use, are left out.
//
// Encoding (the names are those of the recommendation):
//
//  1. The transmit QMF (section 3.1) splits two samples into one of the lower and one of the higher sub-band.
//  2. Each band's difference to its prediction is quantized with a step that adapts (sections 3.2 to 3.4).
//  3. The band's predictor, two poles and six zeros, learns from the quantized difference (section 3.6), as the decoder's will.
//
// Decoding runs 3 with the received code and ends with the receive QMF (section 4.4). Both equal FFmpeg's coder bit for bit.
//
// ITU-T G.722; RFC 3551 section 4.5.2 (the RTP clock is 8000 although the audio is 16000).
package g722
