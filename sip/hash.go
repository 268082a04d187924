package sip

import (
	"encoding/binary"
	"math/bits"
)

// key is the secret that all edge nodes share, as SipHash takes it.
type key struct{ k0, k1 uint64 }

func newKey(b []byte) key {
	return key{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// hasher is SipHash-1-3 with a 128-bit result (Aumasson and Bernstein; the number of rounds that Rust, Python and Ruby use for
// keyed hashing): a pseudo-random function made for short inputs, some 30 ns for a branch, where HMAC-SHA-256 takes ten times
// that. Parts are written one after the other; each begins with its length, so that ("ab", "c") and ("a", "bc") differ, and is filled up to
// whole words, so that no part has to be moved.
type hasher struct {
	v0, v1, v2, v3 uint64
	n              uint64 // words in all
}

func (k key) hasher(purpose byte) hasher {
	h := hasher{k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d ^ 0xee, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573, 0}
	h.word(uint64(purpose))
	return h
}

// round is one SipRound; the values stay in registers.
func round(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

// word takes eight bytes in.
func (h *hasher) word(m uint64) {
	v0, v1, v2, v3 := round(h.v0, h.v1, h.v2, h.v3^m)
	h.v0, h.v1, h.v2, h.v3 = v0^m, v1, v2, v3
	h.n++
}

// part takes the number of the bytes in, then the bytes. The state stays in registers.
func (h *hasher) part(b []byte) {
	m := uint64(len(b))
	h.n += (m+7)/8 + 1
	v0, v1, v2, v3 := round(h.v0, h.v1, h.v2, h.v3^m)
	v0 ^= m
	for ; len(b) >= 8; b = b[8:] {
		m = binary.LittleEndian.Uint64(b)
		v0, v1, v2, v3 = round(v0, v1, v2, v3^m)
		v0 ^= m
	}
	if len(b) > 0 {
		m = 0
		for i, c := range b {
			m |= uint64(c) << (8 * i)
		}
		v0, v1, v2, v3 = round(v0, v1, v2, v3^m)
		v0 ^= m
	}
	h.v0, h.v1, h.v2, h.v3 = v0, v1, v2, v3
}

// sum ends it.
func (h *hasher) sum() (lo, hi uint64) {
	h.word(h.n)
	v0, v1, v2, v3 := h.v0, h.v1, h.v2^0xee, h.v3
	for range 3 {
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
	}
	lo = v0 ^ v1 ^ v2 ^ v3
	v1 ^= 0xdd
	for range 3 {
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
	}
	return lo, v0 ^ v1 ^ v2 ^ v3
}
