package media

import (
	"encoding/binary"
	"os"
)

// wavRate is the sampling rate of our WAV files in Hz. The farm's side is G.711, so there is no more to hear.
const wavRate = 8000

// Fixed by the format (Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0").
const (
	wavHeaderLen = 44
	wavPCM       = 1
	wavSizeAt    = 4  // of the chunk RIFF
	wavDataAt    = 40 // of the chunk data
)

// wavFile is mono 16 bit PCM. Its header is right after every write.
type wavFile struct {
	file *os.File
	size uint32 // of the samples in bytes
}

func newWavFile(f *os.File) *wavFile { return &wavFile{file: f} }

// write appends samples in little endian order; the first call writes the header in front.
func (w *wavFile) write(pcm []byte) error {
	at := int64(wavHeaderLen) + int64(w.size)
	if w.size == 0 {
		pcm, at = append(wavHeader(uint32(len(pcm))), pcm...), 0
	}
	if _, err := w.file.WriteAt(pcm, at); err != nil {
		return err
	}
	if at == 0 {
		w.size = uint32(len(pcm)) - wavHeaderLen
		return nil
	}
	w.size += uint32(len(pcm))
	// The samples go first: a header that tells of fewer than there are is valid.
	h := wavHeader(w.size)
	if _, err := w.file.WriteAt(h[wavSizeAt:wavSizeAt+4], wavSizeAt); err != nil {
		return err
	}
	_, err := w.file.WriteAt(h[wavDataAt:], wavDataAt)
	return err
}

func wavHeader(size uint32) []byte {
	le := binary.LittleEndian
	h := append(make([]byte, 0, wavHeaderLen), "RIFF"...)
	h = le.AppendUint32(h, size+wavHeaderLen-8)
	h = append(h, "WAVEfmt "...)
	h = le.AppendUint32(h, 16)
	h = le.AppendUint16(h, wavPCM)
	h = le.AppendUint16(h, 1)
	h = le.AppendUint32(h, wavRate)
	h = le.AppendUint32(h, 2*wavRate)
	h = le.AppendUint16(h, 2)
	h = le.AppendUint16(h, 16)
	h = append(h, "data"...)
	return le.AppendUint32(h, size)
}
