package media

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/transcode/g711"
)

// wavOf is a file with a tone of 1 kHz.
func wavOf(format, channels, rate, bits int, d time.Duration) []byte {
	le := binary.LittleEndian
	var data []byte
	for i := range int(d * time.Duration(rate) / time.Second) {
		s := int16(8000 * math.Sin(2*math.Pi*1000*float64(i)/float64(rate)))
		for range channels {
			switch format {
			case wavULaw:
				var b [1]byte
				g711.EncodeULaw(b[:], []int16{s})
				data = append(data, b[0])
			default:
				data = le.AppendUint16(data, uint16(s))
			}
		}
	}
	b := le.AppendUint32([]byte("RIFF"), uint32(36+len(data)))
	b = le.AppendUint32(append(b, "WAVEfmt "...), 16)
	b = le.AppendUint16(le.AppendUint16(b, uint16(format)), uint16(channels))
	b = le.AppendUint32(le.AppendUint32(b, uint32(rate)), uint32(rate*channels*bits/8))
	b = le.AppendUint16(le.AppendUint16(b, uint16(channels*bits/8)), uint16(bits))
	b = append(b, "LIST\x03\x00\x00\x00abc\x00"...) // a chunk of odd size in between
	return append(le.AppendUint32(append(b, "data"...), uint32(len(data))), data...)
}

// TestB22PlayMedia: a party hears a file in its codec, in the stream that it knows, and not the other party; then that again. To the
// sample for G.711 at 8 kHz.
func TestB22PlayMedia(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tone.wav"), wavOf(wavPCM, 1, 8000, 16, 200*time.Millisecond), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Config{MediaDir: dir})
	for _, codec := range []uint8{0, 8, 9} {
		id := fmt.Sprint("call-", codec)
		j := newJoinable(r, id, "RTP/SAVP", fmt.Sprintf("%d 101", codec), codec)
		resp := r.do(ng.Request{Command: ng.CmdPlayMedia, CallID: id, FromTag: "phone", File: "tone.wav"})
		if resp.Result != ng.ResultOK || resp.Duration != 200*time.Millisecond {
			t.Fatalf("%+v", resp)
		}
		r.barrier()
		for i := range 10 {
			j.farm.send(j.farm.packet(0, frameOf(9)))
			got := j.heard(t)
			buf := make([]int16, 160)
			if codec == 8 {
				g711.DecodeALaw(buf, got)
			} else {
				g711.DecodeULaw(buf, got)
			}
			for k, x := range buf {
				want := 8000 * math.Sin(2*math.Pi*1000*float64(160*i+k)/8000)
				if codec != 9 && math.Abs(float64(x)-want) > 300 {
					t.Fatalf("codec %d: sample %d is %d, want %.0f", codec, 160*i+k, x, want)
				}
			}
		}
		waitFor(t, "the end of the file", func() bool { return !r.plays(id) })
		j.farm.send(j.farm.packet(0, frameOf(3)))
		j.heard(t)
		j.farm.send(j.farm.packet(0, frameOf(3)))
		j.heard(t)
	}
	if n := r.Stats().Drops["blocked"]; n == 0 || n > 30 {
		t.Errorf("%d packets of the farm held back, want 30 at most", n)
	}
}

// plays tells if a party of the call hears a file.
func (r *rig) plays(id string) (yes bool) {
	r.t.Helper()
	c, err := r.lock(id, false)
	if c == nil {
		r.t.Fatal("unknown call", err)
	}
	defer c.mu.Unlock()
	done := make(chan struct{})
	c.worker.loop.Do(func() {
		for _, v := range c.worker.speakers {
			yes = yes || v.play != nil && !v.ended && v.leg.stream.callID == id
		}
		close(done)
	})
	<-done
	return yes
}

// TestB22PlayMediaCommands: blobs, repetitions, a start in the middle, an end by command, a second file in place of the first, and
// what cannot be.
func TestB22PlayMediaCommands(t *testing.T) {
	r := newRig(t, Config{MediaDir: t.TempDir()})
	j := newJoinable(r, "c", "RTP/AVP", "0 101", 0)
	count := func() (n int) {
		t.Helper()
		for {
			if _, ok := j.phone.bytes(120 * time.Millisecond); !ok {
				return n
			}
			n++
		}
	}
	play := func(req ng.Request) {
		t.Helper()
		req.Command, req.CallID, req.FromTag = ng.CmdPlayMedia, "c", "phone"
		r.must(req)
	}
	blob := wavOf(wavULaw, 2, 8000, 8, 100*time.Millisecond)
	play(ng.Request{Blob: blob})
	if n := count(); n != 5 {
		t.Errorf("100 ms were %d frames", n)
	}
	play(ng.Request{Blob: blob, StartPos: 50 * time.Millisecond, RepeatTimes: 3})
	if n := count(); n != 3+5+5 {
		t.Errorf("three times from the middle were %d frames", n)
	}
	play(ng.Request{Blob: blob, RepeatDuration: 150 * time.Millisecond})
	if n := count(); n != 10 {
		t.Errorf("repeated for 150 ms were %d frames", n)
	}
	play(ng.Request{Blob: blob, RepeatTimes: 1000})
	play(ng.Request{Blob: blob, RepeatTimes: 1000})
	j.phone.recv()
	r.must(ng.Request{Command: ng.CmdStopMedia, CallID: "c"})
	r.barrier()
	if n := count(); n > 20 || r.plays("c") {
		t.Errorf("%d frames, and it plays: %v", n, r.plays("c"))
	}
	c, d := newPeer(t, 1), newPeer(t, 2)
	r.connect(relayed("g729", "x", c.body("RTP/AVP", "18")), c, d, d.body("RTP/AVP", "18"))
	for _, tt := range []struct {
		req  ng.Request
		want string
	}{
		{ng.Request{CallID: "c"}, "file or blob is needed"},
		{ng.Request{CallID: "c", File: "../../etc/passwd"}, "relative to the media directory"},
		{ng.Request{CallID: "c", File: "nothing.wav"}, "relative to the media directory"},
		{ng.Request{CallID: "c", Blob: []byte("ID3")}, "no RIFF header"},
		{ng.Request{CallID: "c", Blob: wavOf(wavPCM, 3, 8000, 16, time.Second)}, "3 channels"},
		{ng.Request{CallID: "c", Blob: blob, StartPos: time.Minute}, "behind the end"},
		{ng.Request{CallID: "g729", Blob: blob}, "offer it a codec"},
		{ng.Request{CallID: "nobody", Blob: blob}, "unknown call-id"},
		{ng.Request{CallID: "c", FromTag: "nobody", Blob: blob}, "no party"},
	} {
		tt.req.Command = ng.CmdPlayMedia
		if resp := r.do(tt.req); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, tt.want) {
			t.Errorf("%+v, want %q", resp, tt.want)
		}
	}
}

// TestClipRates: a tone of 1 kHz stays one from any rate.
func TestClipRates(t *testing.T) {
	for _, rate := range []int{8000, 11025, 16000, 22050, 32000, 44100, 48000} {
		c, err := decodeWav(wavOf(wavPCM, 2, rate, 16, 500*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if d := c.duration(); d < 499*time.Millisecond || d > 501*time.Millisecond {
			t.Errorf("%d Hz: %v", rate, d)
		}
		var diff, power float64
		for i := 200; i < len(c.pcm)/2-200; i++ {
			got := float64(int16(binary.BigEndian.Uint16(c.pcm[2*i:])))
			want := 8000 * math.Sin(2*math.Pi*1000*float64(i)/float64(c.rate))
			diff, power = diff+(got-want)*(got-want), power+want*want
		}
		if snr := 10 * math.Log10(power/diff); snr < 60 {
			t.Errorf("%d Hz: SNR %.1f dB", rate, snr)
		}
	}
}

// FuzzWav: whoever may command the node may send a blob.
func FuzzWav(f *testing.F) {
	f.Add(wavOf(wavULaw, 2, 8000, 8, 10*time.Millisecond))
	f.Add(wavOf(wavPCM, 1, 44100, 16, 10*time.Millisecond))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeWav(b); err == nil && (len(c.pcm) == 0 || len(c.pcm)%2 != 0 || c.rate != 8000 && c.rate != 16000) {
			t.Fatalf("%d bytes at %d Hz", len(c.pcm), c.rate)
		}
	})
}
