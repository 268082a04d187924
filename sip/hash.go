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
// keyed hashing): a pseudo-random function made for short inputs, some 50 ns for a branch, where HMAC-SHA-256 takes ten times
// that. Parts are written one after the other; each ends with its length, so that ("ab", "c") and ("a", "bc") differ.
type hasher struct {
	v0, v1, v2, v3 uint64
	tail           uint64
	n              uint // bytes in all
}

func (k key) hasher(purpose byte) hasher {
	h := hasher{k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d ^ 0xee, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573, 0, 0}
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

// block takes eight whole bytes in.
func (h *hasher) block(m uint64) {
	v0, v1, v2, v3 := round(h.v0, h.v1, h.v2, h.v3^m)
	h.v0, h.v1, h.v2, h.v3 = v0^m, v1, v2, v3
}

// word takes eight bytes in at any offset.
func (h *hasher) word(m uint64) {
	if r := h.n % 8 * 8; r != 0 {
		w := h.tail | m<<r
		h.tail = m >> (64 - r)
		m = w
	}
	h.n += 8
	h.block(m)
}

func (h *hasher) raw(b []byte) {
	for len(b) >= 8 {
		h.word(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for _, c := range b {
		h.tail |= uint64(c) << (h.n % 8 * 8)
		h.n++
		if h.n%8 == 0 {
			h.block(h.tail)
			h.tail = 0
		}
	}
}

// part takes bytes in, then their number.
func (h *hasher) part(b []byte) {
	h.raw(b)
	h.word(uint64(len(b)))
}

// sum ends it.
func (h *hasher) sum() (lo, hi uint64) {
	h.block(h.tail | uint64(h.n)<<56)
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
