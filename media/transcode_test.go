package media

import (
	"math"
	"testing"

	"rtcedge/transcode"
	"rtcedge/transcode/g711"
)

// TestB31TranscodeSNR plays a tone through both directions of a call and measures what arrives.
func TestB31TranscodeSNR(t *testing.T) {
	for _, tt := range []struct {
		codec   transcode.Codec
		formats string
		line    string
		pt      uint8
		want    float64 // dB
	}{
		{transcode.PCMA, "8", "sendrecv", 8, 30},
		{transcode.G722, "9", "sendrecv", 9, 25},
		{transcode.Opus, "111", "rtpmap:111 opus/48000/2", 111, 15},
	} {
		t.Run(tt.codec.String(), func(t *testing.T) {
			if !transcode.CanEncode(tt.codec) {
				t.Skip("this build cannot encode it")
			}
			r := newRig(t, Config{})
			a, b := newPeer(t, 1), newPeer(t, 2)
			r.connect(toFarm("c", "a", a.body("RTP/AVP", tt.formats, tt.line)), a, b, b.body("RTP/AVP", "0"))
			l16 := transcode.Format{Codec: transcode.L16, Rate: 8000, Channels: 1}
			ulaw := transcode.Format{Codec: transcode.PCMU, Rate: 8000, Channels: 1}
			rate, channels := 8000, 1
			if tt.codec == transcode.Opus {
				rate, channels = 48000, 2
			}
			far, ok := transcode.Lookup(tt.codec.String(), rate, channels, "")
			if !ok {
				t.Fatal("lookup")
			}
			for _, dir := range []struct {
				from, to *peer
				enc, dec transcode.Format
				in, out  uint8
				step     uint32
			}{
				{a, b, far, ulaw, tt.pt, 0, uint32(rate / 50)}, {b, a, ulaw, far, 0, tt.pt, 160},
			} {
				enc, err := transcode.NewPipe(transcode.PipeConfig{From: l16, To: dir.enc})
				if err != nil {
					t.Fatal(err)
				}
				dec, err := transcode.NewPipe(transcode.PipeConfig{From: dir.dec, To: l16})
				if err != nil {
					t.Fatal(err)
				}
				var heard []float64
				for i := range 100 {
					pcm := make([]byte, 320)
					for k := range 160 {
						v := int16(8000 * math.Sin(2*math.Pi*440*float64(i*160+k)/8000))
						pcm[2*k], pcm[2*k+1] = byte(uint16(v)>>8), byte(v)
					}
					enc.Push(transcode.Packet{Seq: uint16(i), Timestamp: uint32(i * 160), Payload: pcm})
					for {
						p, ok := enc.Next()
						if !ok {
							break
						}
						pkt := dir.from.packet(dir.in, append([]byte(nil), p.Payload...))
						dir.from.ts += dir.step - 160
						pkt.Timestamp = dir.from.ts
						dir.from.send(pkt)
						got := dir.to.recv()
						if got.PayloadType != dir.out {
							t.Fatalf("payload type %d", got.PayloadType)
						}
						dec.Push(transcode.Packet{Seq: got.SequenceNumber, Timestamp: got.Timestamp, Payload: got.Payload})
						for {
							q, ok := dec.Next()
							if !ok {
								break
							}
							for k := 0; k+1 < len(q.Payload); k += 2 {
								heard = append(heard, float64(int16(uint16(q.Payload[k])<<8|uint16(q.Payload[k+1]))))
							}
						}
					}
				}
				snr := toneSNR(heard[len(heard)/2:], 440)
				t.Logf("%s to %s: %.1f dB", dir.enc.Codec, dir.dec.Codec, snr)
				if snr < tt.want {
					t.Errorf("%.1f dB, want %.0f", snr, tt.want)
				}
			}
		})
	}
}

// toneSNR is the power of a tone against all the rest.
func toneSNR(x []float64, hz float64) float64 {
	n := len(x) - len(x)%200 // whole periods of 440 Hz at 8 kHz: 11 in 200 samples
	var s, c, total float64
	for i := range n {
		sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / 8000)
		s += x[i] * sin
		c += x[i] * cos
		total += x[i] * x[i]
	}
	tone := 2 * (s*s + c*c) / float64(n)
	return 10 * math.Log10(tone/math.Max(total-tone, 1e-9))
}

// opusFrame is 20 ms of a tone.
func opusFrame(t testing.TB) (frame []byte) {
	t.Helper()
	ulaw := transcode.Format{Codec: transcode.PCMU, Rate: 8000, Channels: 1}
	p, err := transcode.NewPipe(transcode.PipeConfig{From: ulaw, To: transcode.Format{Codec: transcode.Opus, Rate: 48000, Channels: 2}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		p.Push(transcode.Packet{Seq: uint16(i), Timestamp: uint32(160 * i), Payload: tone(i, 440, g711.EncodeULaw)})
		for out, ok := p.Next(); ok; out, ok = p.Next() {
			frame = append(frame[:0], out.Payload...)
		}
	}
	return frame
}

// TestB31OpusDefaults: what an engine makes of PCMU without any knob has the quality of the old stack, and a bounded rate.
func TestB31OpusDefaults(t *testing.T) {
	opusLane(t, "opus")
	frame := opusFrame(t)
	if rate := len(frame) * 8 * 50; rate < 16000 || rate > 64000 {
		t.Errorf("%d bit/s", rate)
	}
}
