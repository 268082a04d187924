package g711

// Silence as each law codes it.
const (
	SilenceULaw = 0xff
	SilenceALaw = 0xd5
)

// DecodeULaw decodes src into pcm and returns the number of samples.
func DecodeULaw(pcm []int16, src []byte) int {
	n := min(len(pcm), len(src))
	pcm, src = pcm[:n], src[:n]
	for i, b := range src {
		pcm[i] = ulawLinear[b]
	}
	return n
}

// DecodeALaw decodes src into pcm and returns the number of samples.
func DecodeALaw(pcm []int16, src []byte) int {
	n := min(len(pcm), len(src))
	pcm, src = pcm[:n], src[:n]
	for i, b := range src {
		pcm[i] = alawLinear[b]
	}
	return n
}

// EncodeULaw encodes pcm into dst and returns the number of bytes.
func EncodeULaw(dst []byte, pcm []int16) int {
	n := min(len(dst), len(pcm))
	dst, pcm = dst[:n], pcm[:n]
	for i, s := range pcm {
		dst[i] = linearULaw[uint16(s)>>2]
	}
	return n
}

// EncodeALaw encodes pcm into dst and returns the number of bytes.
func EncodeALaw(dst []byte, pcm []int16) int {
	n := min(len(dst), len(pcm))
	dst, pcm = dst[:n], pcm[:n]
	for i, s := range pcm {
		dst[i] = linearALaw[uint16(s)>>2]
	}
	return n
}

// ULawToALaw converts src into dst, which may be the same slice, and returns the number of bytes.
func ULawToALaw(dst, src []byte) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	for i, b := range src {
		dst[i] = ulawALaw[b]
	}
	return n
}

// ALawToULaw converts src into dst, which may be the same slice, and returns the number of bytes.
func ALawToULaw(dst, src []byte) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	for i, b := range src {
		dst[i] = alawULaw[b]
	}
	return n
}
