package transcode

import (
	"encoding/binary"
	"math"
	"os"
	"testing"
	"time"
)

// Formats as an SDP would name them.
var (
	pcmu  = Format{Codec: PCMU, Rate: 8000, Channels: 1}
	pcma  = Format{Codec: PCMA, Rate: 8000, Channels: 1}
	g722f = Format{Codec: G722, Rate: 8000, Channels: 1}
	opusf = Format{Codec: Opus, Rate: 48000, Channels: 2}
	l16n  = Format{Codec: L16, Rate: 8000, Channels: 1}
	l16w  = Format{Codec: L16, Rate: 16000, Channels: 1}

	g726f = Format{Codec: G726R32, Rate: 8000, Channels: 1}
	g724f = Format{Codec: G726R24, Rate: 8000, Channels: 1} // its codes lie across bytes

	voices = []Format{pcmu, pcma, g722f, opusf, l16n, l16w, g726f, g724f}
)

func name(f Format) string {
	if f.Codec == L16 && f.Rate == 16000 {
		return "L16-16000"
	}
	return f.Codec.String()
}

func withPTime(f Format, d time.Duration) Format {
	f.PTime = d
	return f
}

func mustPipe(t testing.TB, cfg PipeConfig) *Pipe {
	t.Helper()
	p, err := NewPipe(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pairs runs f for every conversion that this build can do.
func pairs(t *testing.T, f func(t *testing.T, from, to Format)) {
	for _, from := range voices {
		for _, to := range voices {
			if !CanEncode(from.Codec) || !CanEncode(to.Codec) {
				continue // packets of this codec cannot be made here
			}
			t.Run(name(from)+"-"+name(to), func(t *testing.T) { f(t, from, to) })
		}
	}
}

// naturalRate is the rate of audio that a test stream of f is made of.
func naturalRate(f Format) int {
	if f.Codec == G722 || f.Codec == L16 && f.Rate == 16000 {
		return 16000
	}
	return 8000
}

// encodeStream makes a stream of f out of pcm, at naturalRate(f), one packet per ptime.
func encodeStream(t testing.TB, f Format, pcm []int16) []Packet {
	t.Helper()
	rate := naturalRate(f)
	cfg := PipeConfig{From: f, To: f, OpusBitrate: 64000}
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	frame, ticks := span(cfg.To.PTime, rate), uint32(span(cfg.To.PTime, f.Rate))
	enc, size, err := newEncoder(&cfg, rate, frame)
	if err != nil {
		t.Fatal(err)
	}
	var out []Packet
	for i := 0; (i+1)*frame <= len(pcm); i++ {
		payload := make([]byte, size)
		n := enc.encode(payload, pcm[i*frame:(i+1)*frame])
		out = append(out, Packet{
			Seq: uint16(65400 + i), Timestamp: 4294960000 + uint32(i)*ticks, Marker: i == 0, Payload: payload[:n],
		})
	}
	return out
}

// decodeStream turns packets of f into audio at rate, one after the other.
func decodeStream(t testing.TB, f Format, rate int, packets []Packet) []int16 {
	t.Helper()
	dec, err := newDecoder(f, rate)
	if err != nil {
		t.Fatal(err)
	}
	var out []int16
	for _, pkt := range packets {
		n, ok := dec.samples(pkt.Payload)
		if !ok {
			t.Fatalf("packet %d has %d undecodable bytes", pkt.Seq, len(pkt.Payload))
		}
		pcm := make([]int16, n)
		out = append(out, pcm[:dec.decode(pcm, pkt.Payload)]...)
	}
	return out
}

// drain collects copies of what the last Push made.
func drain(p *Pipe) (out []Packet) {
	for {
		pkt, ok := p.Next()
		if !ok {
			return out
		}
		pkt.Payload = append([]byte(nil), pkt.Payload...)
		out = append(out, pkt)
	}
}

func pushAll(p *Pipe, packets []Packet) (out []Packet) {
	for _, pkt := range packets {
		p.Push(pkt)
		out = append(out, drain(p)...)
	}
	return out
}

func sine(rate int, frequency, amplitude float64, d time.Duration) []int16 {
	pcm := make([]int16, span(d, rate))
	for i := range pcm {
		pcm[i] = int16(math.Round(amplitude * math.Sin(2*math.Pi*frequency*float64(i)/float64(rate))))
	}
	return pcm
}

// toneSNR fits a sine of the frequency to pcm and compares it with the rest, in dB.
func toneSNR(pcm []int16, rate int, frequency float64) float64 {
	var ss, sc, cc, xs, xc, mean float64
	for _, v := range pcm {
		mean += float64(v) / float64(len(pcm))
	}
	for i, v := range pcm {
		s, c := math.Sincos(2 * math.Pi * frequency * float64(i) / float64(rate))
		x := float64(v) - mean
		ss, sc, cc = ss+s*s, sc+s*c, cc+c*c
		xs, xc = xs+x*s, xc+x*c
	}
	det := ss*cc - sc*sc
	a, b := (xs*cc-xc*sc)/det, (xc*ss-xs*sc)/det
	var signal, noise float64
	for i, v := range pcm {
		s, c := math.Sincos(2 * math.Pi * frequency * float64(i) / float64(rate))
		fit := a*s + b*c
		signal += fit * fit
		d := float64(v) - mean - fit
		noise += d * d
	}
	return 10 * math.Log10(signal/max(noise, 1e-9))
}

// alignedSNR compares got with want at the delay and gain that fit best, in dB. The filters of two ways differ by parts of a sample, so
// around the best whole delay sixteenths are tried.
func alignedSNR(want, got []int16, maxDelay int) (snr float64, delay int) {
	snr = math.Inf(-1)
	for d := -maxDelay; d <= maxDelay; d++ {
		if s := fitSNR(want, got, d, 0); s > snr {
			snr, delay = s, d
		}
	}
	whole := delay
	for d := whole - 1; d <= whole+1; d++ {
		for part := 1; part < 16; part++ {
			if s := fitSNR(want, got, d, float64(part)/16); s > snr {
				snr, delay = s, d
			}
		}
	}
	return snr, delay
}

// fitSNR is that of got delayed by d and a part of a sample against want.
func fitSNR(want, got []int16, d int, part float64) float64 {
	want, got = want[max(-d, 0):], got[max(d, 0):] // the resampler that made want delays, too
	const half = 16
	var taps [2 * half]float64 // a sinc under a raised cosine
	for k := range taps {
		x := float64(k-half+1) - part
		taps[k] = 1
		if x != 0 {
			taps[k] = math.Sin(math.Pi*x) / (math.Pi * x) * (0.5 + 0.5*math.Cos(math.Pi*x/(half+1)))
		}
	}
	var ww, gg, wg float64
	for i := half; i < min(len(want), len(got)-half); i++ {
		w, g := float64(want[i]), float64(got[i])
		if part != 0 {
			g = 0
			for k, tap := range taps {
				g += tap * float64(got[i+k-half+1])
			}
		}
		ww, gg, wg = ww+w*w, gg+g*g, wg+w*g
	}
	if wg <= 0 {
		return math.Inf(-1)
	}
	signal := wg * wg / ww // the residual of the best gain: gg - wg^2/ww
	return 10 * math.Log10(signal/max(gg-signal, 1e-9))
}

func power(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return sum / float64(max(len(pcm), 1))
}

func chirp(t testing.TB) []int16 {
	t.Helper()
	b, err := os.ReadFile("g722/testdata/chirp16k.s16le")
	if err != nil {
		t.Fatal(err)
	}
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm
}

// oggPackets reads the Opus packets of an Ogg file (RFC 3533, RFC 7845), headers left out.
func oggPackets(t testing.TB, file string) (packets [][]byte) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var part []byte
	for len(b) >= 27 {
		segments := b[27 : 27+int(b[26])]
		body := b[27+len(segments):]
		for _, n := range segments {
			part = append(part, body[:n]...)
			body = body[n:]
			if n < 255 {
				packets = append(packets, part)
				part = nil
			}
		}
		b = body
	}
	return packets[2:]
}

// oggStream gives an Ogg file's packets RTP numbers.
func oggStream(t testing.TB, file string) (out []Packet) {
	stamp := uint32(1000)
	for i, payload := range oggPackets(t, file) {
		out = append(out, Packet{Seq: uint16(i), Timestamp: stamp, Payload: payload})
		n, ok := opusSamples(payload)
		if !ok {
			t.Fatalf("%s: packet %d is malformed", file, i)
		}
		stamp += uint32(n)
	}
	return out
}
