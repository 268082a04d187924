package media

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"errors"
	"hash"
)

// Sizes that RFC 3711 sections 4.1.1, 4.2.1 and RFC 4568 section 6.2 fix.
const (
	srtpCMSaltLen = 14
	srtpAuthKey   = 20 // bytes of an HMAC-SHA1 key
	srtcpCMTag    = 10
)

// srtpKeystream is ours: bytes of keystream made at a time, a G.711 packet of 20 ms and some more.
const srtpKeystream = 256

// srtpCM is AES counter mode with HMAC-SHA1.
type srtpCM struct {
	rtp, rtcp srtpCMKeys
	tag       int // of RTP

	sha  sha1State
	tail [2 * sha1.BlockSize]byte
	last [sha1.BlockSize]byte // of the outer hash: a digest and its padding
	sum  [sha1StateLen]byte
	ctr  [aes.BlockSize]byte
	ks   [srtpKeystream]byte
}

// srtpCMKeys are the session keys of RTP or of RTCP.
type srtpCMKeys struct {
	block        cipher.Block
	salt         [aes.BlockSize]byte
	inner, outer [sha1StateLen]byte // SHA-1 after the padded key of HMAC (RFC 2104 section 4)
}

// sha1State is what crypto/sha1 documents of its Hash. Its saved form is "sha\x01", the five words of the state, the
// unfinished block and the length.
type sha1State interface {
	hash.Hash
	encoding.BinaryUnmarshaler
	encoding.BinaryAppender
}

const (
	sha1StateLen = 4 + sha1.Size + sha1.BlockSize + 8
	sha1StateAt  = 4
)

func newSRTPCM(key, salt []byte, tag int) (*srtpCM, error) {
	sha, ok := sha1.New().(sha1State)
	if !ok {
		return nil, errors.New("this build's SHA-1 cannot save its state")
	}
	c := &srtpCM{tag: tag, sha: sha}
	c.last[sha1.Size] = 0x80
	binary.BigEndian.PutUint64(c.last[sha1.BlockSize-8:], (sha1.BlockSize+sha1.Size)*8)
	master, err := srtpMaster(key)
	if err != nil {
		return nil, err
	}
	if err := c.rtp.derive(c.sha, master, len(key), salt, srtpLabelCipher); err != nil {
		return nil, err
	}
	if err := c.rtcp.derive(c.sha, master, len(key), salt, srtcpLabelCipher); err != nil {
		return nil, err
	}
	return c, nil
}

// derive makes the session keys whose labels start with the given one.
func (k *srtpCMKeys) derive(sha sha1State, master cipher.Block, size int, salt []byte, label byte) error {
	cipherKey := make([]byte, size)
	var authKey [srtpAuthKey]byte
	for i, out := range [][]byte{cipherKey, authKey[:], k.salt[:srtpCMSaltLen]} {
		srtpDerive(master, salt, label+byte(i), out)
	}
	var err error
	if k.block, err = aes.NewCipher(cipherKey); err != nil {
		return err
	}
	for _, half := range []struct {
		pad   byte
		state *[sha1StateLen]byte
	}{{0x36, &k.inner}, {0x5c, &k.outer}} {
		var block [sha1.BlockSize]byte
		copy(block[:], authKey[:])
		for i := range block {
			block[i] ^= half.pad
		}
		sha.Reset()
		sha.Write(block[:])
		saved, err := sha.AppendBinary(nil)
		if err != nil || len(saved) != sha1StateLen {
			return errors.New("this build's SHA-1 saves its state in an unknown form")
		}
		copy(half.state[:], saved)
	}
	return nil
}

func (c *srtpCM) sealRTP(buf []byte, hdr, n int, ssrc uint32, index uint64) int {
	c.crypt(&c.rtp, buf[hdr:n], ssrc, index)
	copy(buf[n:], c.mac(&c.rtp, buf[:n], uint32(index>>16))[:c.tag])
	return n + c.tag
}

func (c *srtpCM) openRTP(buf []byte, hdr, n int, ssrc uint32, index uint64) (int, bool) {
	n -= c.tag
	sum := c.mac(&c.rtp, buf[:n], uint32(index>>16))
	if subtle.ConstantTimeCompare(sum[:c.tag], buf[n:n+c.tag]) == 0 {
		return 0, false
	}
	c.crypt(&c.rtp, buf[hdr:n], ssrc, index)
	return n, true
}

func (c *srtpCM) sealRTCP(buf []byte, n int, ssrc, word uint32) int {
	c.crypt(&c.rtcp, buf[srtcpHeaderLen:n], ssrc, uint64(word&^srtcpEncrypted))
	// What HMAC covers ends with the index word (RFC 3711 section 3.4), as for RTP it ends with the rollover counter.
	sum := c.mac(&c.rtcp, buf[:n], word)
	binary.BigEndian.PutUint32(buf[n:], word)
	copy(buf[n+4:], sum[:srtcpCMTag])
	return n + 4 + srtcpCMTag
}

func (c *srtpCM) openRTCP(buf []byte, n int, ssrc, word uint32) (int, bool) {
	n -= 4 + srtcpCMTag
	sum := c.mac(&c.rtcp, buf[:n], word)
	if subtle.ConstantTimeCompare(sum[:srtcpCMTag], buf[n+4:n+4+srtcpCMTag]) == 0 {
		return 0, false
	}
	if word&srtcpEncrypted != 0 {
		c.crypt(&c.rtcp, buf[srtcpHeaderLen:n], ssrc, uint64(word&^srtcpEncrypted))
	}
	return n, true
}

// crypt adds the keystream of RFC 3711 section 4.1.1 to b. It goes block by block: cipher.NewCTR allocates 512 bytes and costs more
// than twice as much for a packet of this size.
func (c *srtpCM) crypt(k *srtpCMKeys, b []byte, ssrc uint32, index uint64) {
	// IV = salt * 2^16 XOR SSRC * 2^64 XOR index * 2^16.
	ctr := &c.ctr
	*ctr = k.salt
	binary.BigEndian.PutUint32(ctr[4:], binary.BigEndian.Uint32(ctr[4:])^ssrc)
	binary.BigEndian.PutUint64(ctr[8:], binary.BigEndian.Uint64(ctr[8:])^index<<16)
	for count := uint16(0); len(b) > 0; {
		n := min(len(b), srtpKeystream)
		block := k.block
		for ks := c.ks[:]; len(ks) > srtpKeystream-n; ks = ks[aes.BlockSize:] {
			ctr[14], ctr[15] = byte(count>>8), byte(count)
			block.Encrypt(ks, ctr[:])
			count++
		}
		subtle.XORBytes(b[:n], b[:n], c.ks[:n])
		b = b[n:]
	}
}

// mac returns HMAC-SHA1 of b and a word behind it, borrowed until the next call. Padding the last block here and reading the
// state, instead of Sum's copies, takes a sixth off crypto/hmac's time.
func (c *srtpCM) mac(k *srtpCMKeys, b []byte, word uint32) []byte {
	c.load(&k.inner)
	whole := len(b) &^ (sha1.BlockSize - 1)
	c.sha.Write(b[:whole])
	n := copy(c.tail[:], b[whole:])
	binary.BigEndian.PutUint32(c.tail[n:], word)
	n += 4
	// FIPS 180-4 section 5.1.1: a one bit, zeros, and the length in bits at the end of a block.
	end := sha1.BlockSize
	if n+9 > end {
		end *= 2
	}
	c.tail[n] = 0x80
	clear(c.tail[n+1 : end-8])
	binary.BigEndian.PutUint64(c.tail[end-8:], uint64(sha1.BlockSize+len(b)+4)*8)
	c.sha.Write(c.tail[:end])
	copy(c.last[:sha1.Size], c.digest())
	c.load(&k.outer)
	c.sha.Write(c.last[:])
	return c.digest()
}

// load continues from a saved state, which has the form that derive checked.
func (c *srtpCM) load(state *[sha1StateLen]byte) { _ = c.sha.UnmarshalBinary(state[:]) }

// digest is the state after whole blocks.
func (c *srtpCM) digest() []byte {
	state, _ := c.sha.AppendBinary(c.sum[:0])
	return state[sha1StateAt : sha1StateAt+sha1.Size]
}
