package media

import (
	"context"
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rtcedge/media/ng"
	"rtcedge/media/udp"
	"rtcedge/transcode"
	"rtcedge/transcode/g711"
)

// pending reads what has come already. It does not wait, so it may be called where time is virtual.
func (p *peer) pending() (all [][]byte) {
	p.t.Helper()
	raw, err := p.conn.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	for {
		buf := make([]byte, 2048)
		n := -1
		if err := raw.Read(func(fd uintptr) bool { n, _, _ = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT); return true }); err != nil {
			p.t.Fatal(err)
		}
		if n < 0 {
			return all
		}
		all = append(all, buf[:n])
	}
}

// beating drives the metronome of a worker whose loop does not run.
func beating(w *worker) (on func(func()), beats *int, stop func()) {
	beats = new(int)
	v := newVirtualWorker(func() {})
	on = func(fn func()) {
		v.do(fn)
		synctest.Wait()
	}
	w.beats.init(v.do, func() { *beats++; w.speak(time.Now()) })
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { w.beats.run(ctx) })
	return on, beats, func() { cancel(); done.Wait(); close(v.ended) }
}

// TestB18Comfort: when the farm falls silent, the phone hears noise in its codec within 100 ms, every 20 ms, as the same stream; the
// farm's next packet ends it and goes on in that stream; off is off; and nothing ticks when nobody needs it.
func TestB18Comfort(t *testing.T) {
	for _, codec := range []string{"0", "8", "9", "to-opus"} {
		t.Run(codec, func(t *testing.T) {
			opusLane(t, codec)
			synctest.Test(t, func(t *testing.T) { testComfort(t, codec) })
		})
	}
}

func testComfort(t *testing.T, codec string) {
	l := newLane(t, "RTP/AVP", codec, 160)
	s := l.leg.stream
	phone, farm := &s.legs[0], &s.legs[1]
	voice, clock := l.pt, 8000
	if codec == "to-opus" {
		voice, clock = 111, 48000
	}
	w := s.worker
	on, beats, stop := beating(w)
	defer stop()
	hear := &peer{t: t, conn: l.phone.conn}
	var last []byte // the packet before
	expect := func(what string, least, most int) (payloads [][]byte) {
		t.Helper()
		got := hear.pending()
		if len(got) < least || len(got) > most {
			t.Fatalf("%s: %d packets, want %d to %d", what, len(got), least, most)
		}
		for i, b := range got {
			if b[1]&typeMask != voice || binary.BigEndian.Uint32(b[8:]) != phone.ssrc {
				t.Fatalf("%s: packet %d: %x", what, i, b[:12])
			}
			if last != nil {
				seq, ts := binary.BigEndian.Uint16(b[2:])-binary.BigEndian.Uint16(last[2:]), binary.BigEndian.Uint32(b[4:])-binary.BigEndian.Uint32(last[4:])
				if seq != 1 || ts < uint32(clock/50) || ts > uint32(clock/4) {
					t.Fatalf("%s: packet %d is %d behind the one before, its timestamp %d", what, i, seq, ts)
				}
			}
			last = b
			payloads = append(payloads, b[12:])
		}
		return payloads
	}
	talk := func(n int) {
		for range n {
			l.seq++
			l.ts += 160
			b := make([]byte, 172, 172+udp.Tailroom)
			b[0], b[11] = 0x80, 1
			binary.BigEndian.PutUint16(b[2:], l.seq)
			binary.BigEndian.PutUint32(b[4:], l.ts)
			on(func() { farm.rtp.Receive(&udp.Packet{Data: b, From: l.farm.addr(), Time: time.Now()}) })
			time.Sleep(20 * time.Millisecond)
		}
	}
	talk(10)
	on(func() { w.comfort(&speaker{leg: phone, complexity: 3}) })
	time.Sleep(3 * time.Millisecond) // out of step with the beats
	talk(10)
	expect("the farm", 20, 20)
	time.Sleep(970 * time.Millisecond)
	noise := expect("the silence", 44, 46)
	if codec == "0" || codec == "8" {
		decode := g711.DecodeULaw
		if codec == "8" {
			decode = g711.DecodeALaw
		}
		var power float64
		pcm := make([]int16, 160)
		for _, frame := range noise {
			for _, x := range pcm[:decode(pcm, frame)] {
				power += float64(x) * float64(x)
			}
		}
		dbov := 10*math.Log10(power/float64(160*len(noise))) - 20*math.Log10(math.MaxInt16)
		if dbov < -64 || dbov > -56 {
			t.Errorf("the noise has %.1f dBov, want about -60", dbov)
		}
	}
	talk(5)
	time.Sleep(60 * time.Millisecond)
	expect("the farm again", 5, 5)
	time.Sleep(500 * time.Millisecond)
	expect("its next silence", 22, 27)
	on(func() { w.hush(phone) })
	time.Sleep(time.Second)
	expect("off", 0, 0)
	synctest.Wait()
	n := *beats
	time.Sleep(time.Hour)
	synctest.Wait()
	if *beats != n {
		t.Errorf("%d beats with nobody to hear them", *beats-n)
	}
}

// TestB18ComfortCommand: the command, with a real clock, over SRTP and with a party that never heard anything.
func TestB18ComfortCommand(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	offer := toFarm("c", "a", a.body("RTP/SAVP", "8 101", append(eventLines, a.key(suite80, 3))...))
	r.connect(offer, a, b, b.body("RTP/AVP", pcmu, eventLines...))
	a.send(a.packet(8, make([]byte, 160)))
	b.recv()
	r.must(ng.Request{Command: ng.CmdComfort, CallID: "c"})
	first := a.recv()
	for i := range 5 {
		if got := a.recv(); got.SSRC != first.SSRC || got.SequenceNumber != first.SequenceNumber+1+uint16(i) {
			t.Fatalf("%v behind %v", got.Header, first.Header)
		}
	}
	r.must(ng.Request{Command: ng.CmdComfort, CallID: "c", FromTag: "a", Comfort: "off"})
	r.barrier()
	for _, ok := a.bytes(30 * time.Millisecond); ok; _, ok = a.bytes(30 * time.Millisecond) { //nolint:revive // drains what left before
	}
	a.silence()

	c, d := newPeer(t, 1), newPeer(t, 2)
	r.connect(relayed("g729", "x", c.body("RTP/AVP", "18")), c, d, d.body("RTP/AVP", "18"))
	for _, tt := range []struct {
		req  ng.Request
		want string
	}{
		{ng.Request{Command: ng.CmdComfort, CallID: "g729", FromTag: "x"}, "offer it one that this node can encode"},
		{ng.Request{Command: ng.CmdComfort, CallID: "c", FromTag: "nobody"}, "no party has the tag"},
		{ng.Request{Command: ng.CmdComfort, CallID: "nobody"}, "unknown call-id"},
	} {
		if resp := r.do(tt.req); resp.Result != ng.ResultError || !strings.Contains(resp.ErrorReason, tt.want) {
			t.Errorf("%+v, want %q", resp, tt.want)
		}
	}
}

// TestB18ComfortZeroAllocs: a frame of noise costs no memory.
func TestB18ComfortZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, codec := range []string{"0", "9", "to-opus"} {
		if strings.Contains(codec, "opus") && !transcode.CanEncode(transcode.Opus) {
			continue
		}
		l := newLane(t, "RTP/AVP", codec, 160)
		phone := &l.leg.stream.legs[0]
		w := phone.stream.worker
		w.comfort(&speaker{leg: phone})
		now := time.Now()
		for range 20 {
			now = now.Add(beatEvery)
			w.speak(now)
		}
		before := phone.sent.packets.Load()
		if n := testing.AllocsPerRun(200, func() { now = now.Add(2 * beatEvery); w.speak(now) }); n != 0 {
			t.Errorf("%s: %v allocations per frame", codec, n)
		}
		if n := phone.sent.packets.Load() - before; n < 200 {
			t.Errorf("%d frames", n)
		}
		l.end()
	}
}
