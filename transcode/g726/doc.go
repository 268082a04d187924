// Package g726 is ITU-T G.726: 8 kHz audio at 40, 32, 24 or 16 kbit/s, by adaptive differential coding with 5, 4, 3 or 2 bits a sample. It knows
// no packets.
//
// A sample on its way (the names are those of the recommendation's blocks, section 3 and 4):
//
//  1. The difference to the prediction (two poles, six zeros) is quantized in the logarithmic domain, by a scale that adapts (LOG, SUBTB, QUAN).
//  2. The inverse quantizer makes the difference that the decoder will have (RECONST, ADDA, ANTILOG), and with the prediction its sample (ADDB).
//  3. The scale follows by a fast and a slow mean, mixed by how steady the signal is (FUNCTW, FILTD, FILTE, MIX, FILTA to FILTC).
//  4. Poles and zeros learn from signs; a jump from a tone to another, as modems have it, forgets them (UPA1, UPA2, UPB, TRANS, TONE).
//
// In and out are linear samples of 16 bits, of which the coder has the upper 14: the conversion from and to G.711 in the recommendation is its caller's.
// Codes are packed as RTP has them, the first in the least significant bits (RFC 3551 section 4.5.4), not as AAL2 has them.
// Both directions equal spandsp bit for bit.
package g726
