package media

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// Sizes that RFC 7714 section 12 fixes.
const (
	srtpGCMSaltLen = 12
	srtpGCMTag     = 16
)

// srtpGCM is AES-GCM (RFC 7714).
type srtpGCM struct {
	rtp, rtcp srtpGCMKeys

	nonce [srtpGCMSaltLen]byte
	aad   [srtcpHeaderLen + 4]byte
	none  [srtpGCMTag]byte
}

type srtpGCMKeys struct {
	aead cipher.AEAD
	salt [srtpGCMSaltLen]byte
}

func newSRTPGCM(key, salt []byte) (*srtpGCM, error) {
	c := &srtpGCM{}
	master, err := srtpMaster(key)
	if err != nil {
		return nil, err
	}
	if err := c.rtp.derive(master, len(key), salt, srtpLabelCipher); err != nil {
		return nil, err
	}
	if err := c.rtcp.derive(master, len(key), salt, srtcpLabelCipher); err != nil {
		return nil, err
	}
	return c, nil
}

func (k *srtpGCMKeys) derive(master cipher.Block, size int, salt []byte, label byte) error {
	cipherKey := make([]byte, size)
	srtpDerive(master, salt, label, cipherKey)
	srtpDerive(master, salt, label+srtpLabelSalt, k.salt[:])
	block, err := aes.NewCipher(cipherKey)
	if err != nil {
		return err
	}
	k.aead, err = cipher.NewGCM(block)
	return err
}

func (c *srtpGCM) sealRTP(buf []byte, hdr, n int, ssrc uint32, index uint64) int {
	c.setNonce(&c.rtp, ssrc, index)
	c.rtp.aead.Seal(buf[hdr:hdr], c.nonce[:], buf[hdr:n], buf[:hdr])
	return n + srtpGCMTag
}

func (c *srtpGCM) openRTP(buf []byte, hdr, n int, ssrc uint32, index uint64) (int, bool) {
	c.setNonce(&c.rtp, ssrc, index)
	_, err := c.rtp.aead.Open(buf[hdr:hdr], c.nonce[:], buf[hdr:n], buf[:hdr])
	return n - srtpGCMTag, err == nil
}

func (c *srtpGCM) sealRTCP(buf []byte, n int, ssrc, word uint32) int {
	c.setNonce(&c.rtcp, ssrc, uint64(word&^srtcpEncrypted))
	copy(c.aad[:], buf[:srtcpHeaderLen])
	binary.BigEndian.PutUint32(c.aad[srtcpHeaderLen:], word)
	c.rtcp.aead.Seal(buf[srtcpHeaderLen:srtcpHeaderLen], c.nonce[:], buf[srtcpHeaderLen:n], c.aad[:])
	n += srtpGCMTag
	binary.BigEndian.PutUint32(buf[n:], word)
	return n + 4
}

func (c *srtpGCM) openRTCP(buf []byte, n int, ssrc, word uint32) (int, bool) {
	c.setNonce(&c.rtcp, ssrc, uint64(word&^srtcpEncrypted))
	n -= 4
	if word&srtcpEncrypted == 0 {
		return c.openClearRTCP(buf, n, word)
	}
	copy(c.aad[:], buf[:srtcpHeaderLen])
	binary.BigEndian.PutUint32(c.aad[srtcpHeaderLen:], word)
	_, err := c.rtcp.aead.Open(buf[srtcpHeaderLen:srtcpHeaderLen], c.nonce[:], buf[srtcpHeaderLen:n], c.aad[:])
	return n - srtpGCMTag, err == nil
}

// openClearRTCP checks a packet that is only authenticated: packet and index word are associated data, in this order, with
// the tag between them (RFC 7714 section 9.3).
func (c *srtpGCM) openClearRTCP(buf []byte, n int, word uint32) (int, bool) {
	copy(c.none[:], buf[n-srtpGCMTag:n])
	n -= srtpGCMTag
	binary.BigEndian.PutUint32(buf[n:], word)
	_, err := c.rtcp.aead.Open(c.none[:0], c.nonce[:], c.none[:], buf[:n+4])
	return n, err == nil
}

// setNonce makes the nonce: 16 zero bits, SSRC and the 48 bit index, XORed with the salt (RFC 7714 sections 8.1 and 9.1; the
// index of RTCP stands in the same place behind zeros).
func (c *srtpGCM) setNonce(k *srtpGCMKeys, ssrc uint32, index uint64) {
	c.nonce = k.salt
	binary.BigEndian.PutUint32(c.nonce[2:], binary.BigEndian.Uint32(c.nonce[2:])^ssrc)
	binary.BigEndian.PutUint64(c.nonce[4:], binary.BigEndian.Uint64(c.nonce[4:])^index)
}
