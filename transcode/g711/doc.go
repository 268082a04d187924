// Package g711 is ITU-T G.711: mu-law and A-law to 16 bit linear and back, and one law to the other, all by table. It
// knows no packets, no timestamps and no silence suppression.
//
//  1. [DecodeULaw] and [DecodeALaw] widen bytes to samples.
//  2. [EncodeULaw] and [EncodeALaw] take each sample to the nearest value that the law has.
//  3. [ULawToALaw] and [ALawToULaw] are the same as decoding and encoding, in one step.
//
// All functions work on the shorter of their two slices, allocate nothing and may be called from any goroutine.
//
// ITU-T G.711; RFC 3551 section 4.5.14.
package g711
