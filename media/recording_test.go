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
	"rtcedge/media/udp"
	"rtcedge/transcode/g711"
)

// readWav checks a WAV file as a stranger would and returns its samples.
func readWav(t *testing.T, name string) []float64 {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if len(b) < 44 || string(b[:4]) != "RIFF" || string(b[8:16]) != "WAVEfmt " || string(b[36:40]) != "data" {
		t.Fatalf("%s: %d bytes, no WAV file", name, len(b))
	}
	size := int(le.Uint32(b[40:]))
	if le.Uint16(b[20:]) != 1 || le.Uint16(b[22:]) != 1 || le.Uint32(b[24:]) != 8000 || le.Uint16(b[34:]) != 16 ||
		int(le.Uint32(b[4:])) != size+36 || size+44 > len(b) || size == 0 {
		t.Fatalf("%s: header %x with %d bytes", name, b[:44], len(b))
	}
	pcm := make([]float64, size/2)
	for i := range pcm {
		pcm[i] = float64(int16(le.Uint16(b[44+2*i:])))
	}
	return pcm
}

// readPcap checks a pcap file and returns the UDP payloads.
func readPcap(t *testing.T, name string) (payloads [][]byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	le, be := binary.LittleEndian, binary.BigEndian
	if len(b) < 24 || le.Uint32(b) != 0xa1b2c3d4 || le.Uint32(b[20:]) != 101 {
		t.Fatalf("%s: no pcap file: %x", name, b[:min(24, len(b))])
	}
	for b = b[24:]; len(b) > 0; {
		if len(b) < 16 || le.Uint32(b[8:]) != le.Uint32(b[12:]) || int(le.Uint32(b[8:])) > len(b)-16 {
			t.Fatalf("%s: cut record", name)
		}
		p := b[16 : 16+le.Uint32(b[8:])]
		b = b[16+len(p):]
		if p[0] != 0x45 || int(be.Uint16(p[2:])) != len(p) || p[9] != 17 || ipChecksum(p[:20]) != 0 || int(be.Uint16(p[24:])) != len(p)-20 {
			t.Fatalf("%s: headers %x", name, p[:28])
		}
		payloads = append(payloads, p[28:])
	}
	return payloads
}

// tone makes 20 ms of A-law or u-law.
func tone(i int, hz float64, law func([]byte, []int16) int) []byte {
	b, pcm := make([]byte, 160), make([]int16, 160)
	for k := range pcm {
		pcm[k] = int16(6000 * math.Sin(2*math.Pi*hz*float64(160*i+k)/8000))
	}
	law(b, pcm)
	return b
}

// level is the amplitude of one frequency.
func level(x []float64, hz float64) float64 {
	var s, c float64
	for i, v := range x {
		sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / 8000)
		s, c = s+v*sin, c+v*cos
	}
	return 2 * math.Hypot(s, c) / float64(len(x))
}

func glob(t *testing.T, dir, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) != 1 {
		all, _ := os.ReadDir(dir)
		t.Fatalf("%s: %v of %v", pattern, names, all)
	}
	return names[0]
}

// TestB24Recording: an SRTP caller with A-law and a farm; the files are valid while the call goes on, as after a kill, and
// each has whose voice it should. A Call-ID with a path in it stays inside the directory.
func TestB24Recording(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Config{RecordingDir: dir})
	r.clock.freeze()
	a, b := newPeer(t, 1), newPeer(t, 2)
	const id = "../../../evil/..\x00/call@host"
	offer := toFarm(id, "a", a.body("RTP/SAVP", "8", a.key("AES_CM_128_HMAC_SHA1_80", 3)))
	offer.RecordCall = "yes"
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	i := 0
	talk := func(frames int) {
		for range frames {
			a.send(a.packet(8, tone(i, 400, g711.EncodeALaw)))
			b.recv()
			b.send(b.packet(0, tone(i, 1000, g711.EncodeULaw)))
			a.recv()
			i++
			r.clock.advance(20 * time.Millisecond)
			time.Sleep(time.Millisecond) // the writer's ticker is a real one
		}
	}
	talk(150)
	deadline := time.Now().Add(5 * time.Second)
	for r.Stats().Recordings == 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	talk(50)
	// As a kill would leave them: nothing is closed. The writer is one flush behind.
	var early int
	for {
		if names, _ := filepath.Glob(filepath.Join(dir, "*-mixed.wav")); len(names) == 1 {
			if info, err := os.Stat(names[0]); err == nil && info.Size() > 44+2*8000 {
				early = len(readWav(t, names[0]))
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was written while the call went on")
		}
		talk(5)
	}
	if early < 8000 {
		t.Errorf("%d samples so far", early)
	}
	readPcap(t, glob(t, dir, "*.pcap"))

	r.must(ng.Request{Command: "pause recording", CallID: id})
	r.barrier()
	for range 50 {
		a.send(a.packet(8, tone(i, 2000, g711.EncodeALaw)))
		b.recv()
		i++
		r.clock.advance(20 * time.Millisecond)
	}
	r.barrier()
	r.must(ng.Request{Command: "start recording", CallID: id})
	r.barrier()
	talk(50)
	r.must(ng.Request{Command: "delete", CallID: id})
	end := <-r.ended
	r.stop()
	if len(end.Recordings) != 1 || strings.ContainsAny(end.Recordings[0], "/\x00") || end.Recordings[0][0] == '.' {
		t.Fatalf("recordings %q", end.Recordings)
	}
	base := filepath.Join(dir, end.Recordings[0])
	caller, callee, mixed := readWav(t, base+"-caller.wav"), readWav(t, base+"-callee.wav"), readWav(t, base+"-mixed.wav")
	if len(caller) != len(mixed) || len(callee) != len(mixed) {
		t.Errorf("%d, %d, %d samples", len(caller), len(callee), len(mixed))
	}
	if want := (i - 50) * 160; len(mixed) < want-2400 || len(mixed) > want+4800 {
		t.Errorf("%d samples, said were %d", len(mixed), want)
	}
	mid := func(x []float64) []float64 { return x[4000:12000] }
	for _, tt := range []struct {
		name    string
		x       []float64
		low, hi bool
	}{{"caller", caller, true, false}, {"callee", callee, false, true}, {"mixed", mixed, true, true}} {
		if low, hi := level(mid(tt.x), 400) > 3000, level(mid(tt.x), 1000) > 3000; low != tt.low || hi != tt.hi {
			t.Errorf("%s: 400 Hz %.0f, 1000 Hz %.0f", tt.name, level(mid(tt.x), 400), level(mid(tt.x), 1000))
		}
		if l := level(tt.x, 2000); l > 100 {
			t.Errorf("%s: what was said in the pause is there, %.0f", tt.name, l)
		}
	}
	pkts := readPcap(t, base+".pcap")
	if want := 2 * (i - 50); len(pkts) != want {
		t.Errorf("%d packets in the pcap file, want %d", len(pkts), want)
	}
	if p := pkts[0]; len(p) != 172 || p[1]&0x7f != 8 || string(p[12:]) != string(tone(0, 400, g711.EncodeALaw)) {
		t.Errorf("first packet %x", p)
	}
	if out, err := filepath.Glob(filepath.Join(dir, "..", "*")); err != nil || len(out) != 1 {
		t.Errorf("outside of the directory: %v", out)
	}
	if st := r.Stats(); st.RecordingLost != 0 || st.RecordingErrors != 0 || st.Recordings != 0 {
		t.Errorf("%+v", st)
	}
}

// TestB24RecordingNames: no Call-ID leaves the directory or hides another's file.
func TestB24RecordingNames(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{"", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a_b", "-rf", strings.Repeat("x", 500), strings.Repeat("x", 501), "ü\n"} {
		name := recordingName(id, time.Unix(0, 0))
		if !filepath.IsLocal(name) || strings.ContainsAny(name, "/\\\n\x00") || name[0] == '.' || name[0] == '-' || len(name) > 110 || seen[name] {
			t.Errorf("%q: %q", id, name)
		}
		seen[name] = true
	}
}

// TestB24RecordingRefused: no directory, or one that cannot be written, is said and ends no call.
func TestB24RecordingRefused(t *testing.T) {
	if _, err := New(Config{RecordingDir: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "recording dir") {
		t.Errorf("missing directory: %v", err)
	}
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := relayed("c", "a", a.body("RTP/AVP", "0"))
	offer.RecordCall = "on"
	if resp := r.do(offer); resp.Result != ng.ResultOK || !strings.Contains(resp.Warning, "--recording-dir") {
		t.Errorf("%+v", resp)
	}
	if resp := r.do(ng.Request{Command: "start recording", CallID: "c"}); resp.Result != ng.ResultError {
		t.Errorf("%+v", resp)
	}
	r.stop()

	dir := t.TempDir()
	r = newRig(t, Config{RecordingDir: dir})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r.connect(offer, a, b, b.body("RTP/AVP", "0"))
	deadline := time.Now().Add(5 * time.Second)
	for r.Stats().RecordingErrors == 0 && time.Now().Before(deadline) {
		a.send(a.packet(0, make([]byte, 160)))
		b.recv()
	}
	if n := r.Stats().RecordingErrors; n != 1 {
		t.Errorf("%d errors", n)
	}
}

// TestB24RecordingZeroAllocs: the hand-over allocates nothing, and a full ring costs packets of the recording only.
func TestB24RecordingZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l := newLane(t, "RTP/AVP", "0", 160)
	ring := newRecordRing()
	l.leg.stream.tap.Store(&tap{rec: &recording{}, ring: ring})
	pkt := new(udp.Packet)
	l.one(pkt)
	if n := testing.AllocsPerRun(500, func() { l.one(pkt) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
	if n := ring.head.Load(); n != 502 {
		t.Errorf("%d packets tapped", n)
	}
	before := l.leg.stream.legs[1].sent.packets.Load()
	for range recordSlots {
		l.one(pkt)
	}
	if lost, sent := ring.lost.Load(), l.leg.stream.legs[1].sent.packets.Load()-before; lost != 502 || sent != recordSlots {
		t.Errorf("%d lost, %d forwarded", lost, sent)
	}
	n := 0
	ring.take(func(s *recordSlot) {
		if n++; s.n != 172 || s.audio != true {
			t.Fatal(fmt.Sprint(n, s.n, s.audio))
		}
	})
	if n != recordSlots {
		t.Errorf("%d taken", n)
	}
}
