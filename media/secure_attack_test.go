package media

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// srtpTestSeal protects a copy of a packet.
func srtpTestSeal(t testing.TB, c *srtpContext, p []byte) []byte {
	t.Helper()
	buf := srtpTestRoom(p)
	n, ok := c.protectRTP(buf, len(p))
	if !ok {
		t.Fatal("packet not protected")
	}
	return buf[:n]
}

// srtpTestOpen unprotects a copy of a packet.
func srtpTestOpen(c *srtpContext, p []byte) ([]byte, srtpFault) {
	buf := srtpTestRoom(p)
	n, fault := c.unprotectRTP(buf, len(p))
	return buf[:n], fault
}

// TestB21EveryBitIsProtected flips each bit of a packet, the tag included: none is accepted, and none changes the context.
func TestB21EveryBitIsProtected(t *testing.T) {
	for _, suite := range srtpSuites {
		t.Run(suite.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, uint64(suite)))
			send, recv := mustSRTP(t, suite), mustSRTP(t, suite)
			srtpTestOpen(recv, srtpTestSeal(t, send, srtpTestRTP(9, 7, 0, -1, nil)))
			before := *recv
			sealed := srtpTestSeal(t, send, srtpTestRTP(10, 7, 2, 1, srtpTestNoise(r, 60)))
			for bit := range len(sealed) * 8 {
				bad := bytes.Clone(sealed)
				bad[bit/8] ^= 1 << (bit % 8)
				if _, fault := srtpTestOpen(recv, bad); fault == faultNone {
					t.Fatalf("bit %d flipped: accepted", bit)
				}
			}
			if recv.streams != before.streams || recv.used != before.used || recv.clock != before.clock {
				t.Fatal("a forged packet changed the context")
			}
			if _, fault := srtpTestOpen(recv, sealed); fault != faultNone {
				t.Fatalf("fault %d for the right packet afterwards", fault)
			}

			report := srtpTestRTCP(7, 6, r)
			buf := srtpTestRoom(report)
			n, _ := send.protectRTCP(buf, len(report))
			for bit := range n * 8 {
				bad := srtpTestRoom(buf[:n])
				bad[bit/8] ^= 1 << (bit % 8)
				if _, fault := recv.unprotectRTCP(bad, n); fault == faultNone {
					t.Fatalf("report bit %d flipped: accepted", bit)
				}
			}
			if n, fault := recv.unprotectRTCP(buf, n); fault != faultNone || !bytes.Equal(buf[:n], report) {
				t.Fatalf("report: fault %d", fault)
			}
		})
	}
}

// TestB21Replay: each packet once, in any order inside the window, none behind it.
func TestB21Replay(t *testing.T) {
	send, recv := mustSRTP(t, srtpCM128Tag80), mustSRTP(t, srtpCM128Tag80)
	var sealed [][]byte
	const count = 1000
	for i := range count { // over a rollover
		sealed = append(sealed, srtpTestSeal(t, send, srtpTestRTP(uint16(65000+i), 7, 0, -1, []byte{byte(i)})))
	}
	r := rand.New(rand.NewPCG(5, 5))
	const block = 150 // shuffled within less than the window
	for at := 0; at < count; at += block {
		end := min(at+block, count)
		for _, i := range r.Perm(end - at) {
			if _, fault := srtpTestOpen(recv, sealed[at+i]); fault != faultNone {
				t.Fatalf("packet %d: fault %d", at+i, fault)
			}
		}
	}
	for i, p := range sealed {
		want := faultReplay
		if count-1-i >= srtpWindowLen {
			want = faultOld
		}
		if _, fault := srtpTestOpen(recv, p); fault != want {
			t.Fatalf("packet %d again: fault %d, want %d", i, fault, want)
		}
	}

	report := srtpTestRTCP(7, 1, r)
	buf := srtpTestRoom(report)
	n, _ := send.protectRTCP(buf, len(report))
	again := srtpTestRoom(buf[:n])
	if _, fault := recv.unprotectRTCP(buf, n); fault != faultNone {
		t.Fatalf("report: fault %d", fault)
	}
	if _, fault := recv.unprotectRTCP(again, n); fault != faultReplay {
		t.Fatalf("report again: fault %d", fault)
	}
}

// TestB21NoIndexTwice: a sender never uses an index twice, whatever the packet behind it (RFC 3711 section 9.1).
func TestB21NoIndexTwice(t *testing.T) {
	send := mustSRTP(t, srtpGCM128)
	for _, seq := range []uint16{100, 103, 101} {
		srtpTestSeal(t, send, srtpTestRTP(seq, 7, 0, -1, []byte("one")))
	}
	for _, seq := range []uint16{100, 101, 103} {
		p := srtpTestRoom(srtpTestRTP(seq, 7, 0, -1, []byte("two")))
		if _, ok := send.protectRTP(p, len(p)-srtpRoom); ok {
			t.Fatalf("sequence number %d protected twice", seq)
		}
	}
	srtpTestSeal(t, send, srtpTestRTP(102, 7, 0, -1, []byte("late")))
}

// TestB21LongLossKeepsROC: the rollover counter survives loss of almost half of the number space, and late packets around it.
func TestB21LongLossKeepsROC(t *testing.T) {
	send, recv := mustSRTP(t, srtpGCM256), mustSRTP(t, srtpGCM256)
	seq := uint16(40000)
	for i := range 200 {
		p := srtpTestSeal(t, send, srtpTestRTP(seq, 7, 0, -1, []byte{1, 2, 3}))
		late := srtpTestSeal(t, send, srtpTestRTP(seq-20, 7, 0, -1, []byte{4}))
		if _, fault := srtpTestOpen(recv, p); fault != faultNone {
			t.Fatalf("jump %d: fault %d", i, fault)
		}
		if _, fault := srtpTestOpen(recv, late); fault != faultNone {
			t.Fatalf("jump %d: fault %d for the late one", i, fault)
		}
		seq += 32767
	}
	if roc := recv.state().Streams[0].ROC; roc != 100 {
		t.Fatalf("rollover counter %d, want 100", roc)
	}
}

// TestB21StrangersEvictNobody: an SSRC gets a place by an authenticated packet only; beyond the limit the longest unused goes.
func TestB21StrangersEvictNobody(t *testing.T) {
	send, recv := mustSRTP(t, srtpCM128Tag80), mustSRTP(t, srtpCM128Tag80)
	for ssrc := range uint32(srtpStreams) {
		if _, fault := srtpTestOpen(recv, srtpTestSeal(t, send, srtpTestRTP(1, ssrc, 0, -1, nil))); fault != faultNone {
			t.Fatal(fault)
		}
	}
	for ssrc := range uint32(1000) {
		p := srtpTestRTP(1, 1000+ssrc, 0, -1, make([]byte, 40))
		if _, fault := srtpTestOpen(recv, p); fault != faultAuth {
			t.Fatalf("forged packet: fault %d", fault)
		}
	}
	// Stream 0 is used again, so 1 is the oldest and gives way.
	srtpTestOpen(recv, srtpTestSeal(t, send, srtpTestRTP(2, 0, 0, -1, nil)))
	srtpTestOpen(recv, srtpTestSeal(t, send, srtpTestRTP(1, 99, 0, -1, nil)))
	var have []uint32
	for _, s := range recv.state().Streams {
		have = append(have, s.SSRC)
	}
	if len(have) != srtpStreams || have[0] != 2 || have[6] != 0 || have[7] != 99 {
		t.Fatalf("streams %v", have)
	}
}

// TestB18StateMoves: what a session record carries lets another node go on, in both directions, with rollover and reports.
func TestB18StateMoves(t *testing.T) {
	for _, suite := range srtpSuites {
		t.Run(suite.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(8, 8))
			send, recv := mustSRTP(t, suite), mustSRTP(t, suite)
			phoneRecv, phoneSend := mustSRTP(t, suite), mustSRTP(t, suite)
			var old []byte
			seq := uint16(65500)
			step := func() {
				t.Helper()
				down := srtpTestSeal(t, send, srtpTestRTP(seq, 7, 0, -1, []byte("to the phone")))
				if _, fault := srtpTestOpen(phoneRecv, down); fault != faultNone {
					t.Fatalf("seq %d to the phone: fault %d", seq, fault)
				}
				up := srtpTestSeal(t, phoneSend, srtpTestRTP(seq, 8, 0, -1, []byte("from the phone")))
				if _, fault := srtpTestOpen(recv, up); fault != faultNone {
					t.Fatalf("seq %d from the phone: fault %d", seq, fault)
				}
				old = up
				seq++
			}
			report := func() {
				t.Helper()
				for _, way := range [][2]*srtpContext{{send, phoneRecv}, {phoneSend, recv}} {
					p := srtpTestRTCP(7, 3, r)
					buf := srtpTestRoom(p)
					n, ok := way[0].protectRTCP(buf, len(p))
					if !ok {
						t.Fatal("report not protected")
					}
					if _, fault := way[1].unprotectRTCP(buf, n); fault != faultNone {
						t.Fatalf("report: fault %d", fault)
					}
				}
			}
			for range 100 {
				step()
			}
			report()
			sent, seen := send.state(), recv.state()
			report() // the record is older than the last report
			send, recv = mustSRTP(t, suite), mustSRTP(t, suite)
			send.restoreSender(sent)
			recv.restoreReceiver(seen)
			if _, fault := srtpTestOpen(recv, old); fault != faultReplay {
				t.Fatalf("replay after the move: fault %d", fault)
			}
			for range 70000 {
				step()
			}
			report()
			if got := send.state().Streams[0]; got.ROC != 2 || got.RTCPIndex != 2+srtcpRestoreGap {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// TestB21ReKey: after a new key the rollover counter may run on (RFC 3711 section 3.3.1) or start at 0, as user agents do.
func TestB21ReKey(t *testing.T) {
	for _, suite := range []srtpSuite{srtpCM128Tag80, srtpGCM128} {
		for name, roc := range map[string]uint32{"runs on": 3, "starts at 0": 0} {
			t.Run(suite.String()+" "+name, func(t *testing.T) {
				former := mustSRTP(t, suite)
				former.restoreReceiver(srtpState{Streams: []srtpStreamState{{SSRC: 7, RTP: true, ROC: 3, Seq: 500}}})
				send, recv := mustSRTP(t, suite), mustSRTP(t, suite)
				recv.follow(former)
				send.restoreSender(srtpState{Streams: []srtpStreamState{{SSRC: 7, RTP: true, ROC: roc, Seq: 500}}})
				for seq := uint16(501); seq < 520; seq++ {
					p := srtpTestRTP(seq, 7, 0, -1, []byte("words"))
					got, fault := srtpTestOpen(recv, srtpTestSeal(t, send, p))
					if fault != faultNone || !bytes.Equal(got, p) {
						t.Fatalf("seq %d: fault %d", seq, fault)
					}
				}
			})
		}
	}
}

// TestB21MKI: with a master key identifier the packets hold it where RFC 3711 section 3.1 and RFC 7714 section 9 put it.
func TestB21MKI(t *testing.T) {
	for _, suite := range srtpSuites {
		t.Run(suite.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(9, 9))
			mki := []byte{0, 0, 0, 1}
			plain, send, recv := mustSRTP(t, suite), mustSRTP(t, suite), mustSRTP(t, suite)
			for _, c := range []*srtpContext{send, recv} {
				if err := c.useMKI(mki); err != nil {
					t.Fatal(err)
				}
			}
			p := srtpTestRTP(5, 7, 0, -1, []byte("words"))
			without, with := srtpTestSeal(t, plain, p), srtpTestSeal(t, send, p)
			params, _ := suite.params()
			behind := params.tagLen
			if params.aead {
				behind = 0
			}
			cut := len(without) - behind
			want := append(append(bytes.Clone(without[:cut]), mki...), without[cut:]...)
			if !bytes.Equal(with, want) {
				t.Fatalf("got %x, want %x", with, want)
			}
			if got, fault := srtpTestOpen(recv, with); fault != faultNone || !bytes.Equal(got, p) {
				t.Fatalf("fault %d", fault)
			}
			report := srtpTestRTCP(7, 5, r)
			buf := srtpTestRoom(report)
			n, _ := send.protectRTCP(buf, len(report))
			if n, fault := recv.unprotectRTCP(buf, n); fault != faultNone || !bytes.Equal(buf[:n], report) {
				t.Fatalf("report: fault %d", fault)
			}
		})
	}
	if err := mustSRTP(t, srtpGCM128).useMKI(make([]byte, srtpMaxMKI+1)); err == nil {
		t.Fatal("an endless MKI is taken")
	}
}

// TestB21ClearSRTCP: reports that are authenticated but not encrypted (E bit 0) are read too.
func TestB21ClearSRTCP(t *testing.T) {
	for _, suite := range srtpSuites {
		c := mustSRTP(t, suite)
		p := srtpTestRTCP(7, 5, rand.New(rand.NewPCG(1, 1)))
		buf := srtpTestRoom(p)
		const word = 1 // E bit 0, index 1
		n := len(p)
		switch x := c.keyed().(type) {
		case *srtpCM:
			sum := x.mac(&x.rtcp, buf[:n], word)
			binary.BigEndian.PutUint32(buf[n:], word)
			n += 4 + copy(buf[n+4:], sum[:srtcpCMTag])
		case *srtpGCM:
			x.setNonce(&x.rtcp, 7, word)
			aad := binary.BigEndian.AppendUint32(bytes.Clone(p), word)
			n += copy(buf[n:], x.rtcp.aead.Seal(nil, x.nonce[:], nil, aad))
			binary.BigEndian.PutUint32(buf[n:], word)
			n += 4
		}
		bad := srtpTestRoom(buf[:n])
		bad[10] ^= 1
		if _, fault := c.unprotectRTCP(bad, n); fault != faultAuth {
			t.Errorf("%v: changed report: fault %d", suite, fault)
		}
		if n, fault := c.unprotectRTCP(buf, n); fault != faultNone || !bytes.Equal(buf[:n], p) {
			t.Errorf("%v: fault %d", suite, fault)
		}
	}
}

// TestB21ShortPackets: lengths and headers that do not fit are refused before anything is read behind them.
func TestB21ShortPackets(t *testing.T) {
	for _, suite := range srtpSuites {
		c := mustSRTP(t, suite)
		for n := range 60 {
			for _, first := range []byte{0x00, 0x80, 0x8f, 0x90, 0x9f, 0xff} {
				buf := make([]byte, n+srtpRoom)
				for i := range buf {
					buf[i] = 0xff
				}
				buf[0] = first
				if _, fault := c.unprotectRTP(buf, n); fault == faultNone {
					t.Fatalf("%v: %d bytes accepted", suite, n)
				}
				buf[0] = first
				if _, fault := c.unprotectRTCP(buf, n); fault == faultNone {
					t.Fatalf("%v: report of %d bytes accepted", suite, n)
				}
				buf[0] = first
				if m, ok := c.protectRTP(buf, n); ok && (n < srtpHeaderMin || m < n) {
					t.Fatalf("%v: %d bytes protected", suite, n)
				}
			}
		}
	}
	if _, err := newSRTPContext(srtpGCM128, make([]byte, 16), make([]byte, 14)); err == nil {
		t.Error("a salt of the wrong length is taken")
	}
	if _, err := newSRTPContext(srtpPlain, nil, nil); err == nil {
		t.Error("no suite is taken")
	}
}

// TestB21NoAllocations: nothing is allocated per packet, in either direction.
func TestB21NoAllocations(t *testing.T) {
	if srtpRaceBuild {
		t.Skip("the race detector allocates")
	}
	for _, suite := range srtpSuites {
		send, recv := mustSRTP(t, suite), mustSRTP(t, suite)
		p := srtpTestRTP(0, 7, 0, -1, make([]byte, 160))
		buf := srtpTestRoom(p)
		report := srtpTestRTCP(7, 6, rand.New(rand.NewPCG(1, 1)))
		rbuf := srtpTestRoom(report)
		seq := uint16(0)
		if n := testing.AllocsPerRun(2000, func() {
			seq++
			copy(buf, p)
			binary.BigEndian.PutUint16(buf[2:], seq)
			n, ok := send.protectRTP(buf, len(p))
			if !ok {
				t.Fatal("not protected")
			}
			if _, fault := recv.unprotectRTP(buf, n); fault != faultNone {
				t.Fatal(fault)
			}
			copy(rbuf, report)
			n, _ = send.protectRTCP(rbuf, len(report))
			if _, fault := recv.unprotectRTCP(rbuf, n); fault != faultNone {
				t.Fatal(fault)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", suite, n)
		}
	}
}

// FuzzB21Unprotect feeds arbitrary bytes: no panic, no packet accepted, no change of the context.
func FuzzB21Unprotect(f *testing.F) {
	f.Add(uint8(0), srtpTestRTP(1, 7, 3, 2, make([]byte, 60)))
	f.Add(uint8(4), srtpTestRTP(1, 7, 0, -1, make([]byte, 160)))
	f.Add(uint8(5), []byte{0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0xff, 0xff})
	f.Add(uint8(1), []byte{0x80, 200, 0, 1, 0, 0, 0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, p []byte) {
		c := mustSRTP(t, srtpSuites[int(which)%len(srtpSuites)])
		if which&0x80 != 0 {
			_ = c.useMKI([]byte{1, 2})
		}
		if n, fault := c.unprotectRTP(srtpTestRoom(p), len(p)); fault == faultNone || n != 0 || c.used != 0 {
			t.Fatalf("%x accepted", p)
		}
		if n, fault := c.unprotectRTCP(srtpTestRoom(p), len(p)); fault == faultNone || n != 0 || c.used != 0 {
			t.Fatalf("%x accepted as a report", p)
		}
		if n, ok := c.protectRTP(srtpTestRoom(p), len(p)); ok && n <= len(p) {
			t.Fatalf("protected %d bytes to %d", len(p), n)
		}
		c.protectRTCP(srtpTestRoom(p), len(p))
	})
}

// Goals on a packet of 172 bytes: 450 ns for AES_CM_128_HMAC_SHA1_80, 150 ns for GCM.
func BenchmarkProtectRTP(b *testing.B) {
	for _, suite := range srtpSuites {
		b.Run(suite.String(), func(b *testing.B) {
			c := mustSRTP(b, suite)
			p := srtpTestRTP(0, 7, 0, -1, make([]byte, 160))
			buf := srtpTestRoom(p)
			b.ReportAllocs()
			seq := uint16(0)
			for b.Loop() {
				seq++
				binary.BigEndian.PutUint16(buf[2:], seq)
				if _, ok := c.protectRTP(buf, len(p)); !ok {
					b.Fatal("not protected")
				}
			}
		})
	}
}

func BenchmarkUnprotectRTP(b *testing.B) {
	for _, suite := range srtpSuites {
		b.Run(suite.String(), func(b *testing.B) {
			send := mustSRTP(b, suite)
			p := srtpTestRTP(0, 7, 0, -1, make([]byte, 160))
			// A ring of packets that are made once: an index that the receiver has forgotten is new to it.
			sealed := make([][]byte, 4096)
			for i := range sealed {
				binary.BigEndian.PutUint16(p[2:], uint16(i))
				sealed[i] = srtpTestSeal(b, send, p)
			}
			recv := mustSRTP(b, suite)
			buf := make([]byte, len(p)+srtpRoom)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i == len(sealed) {
					i, recv.used = 0, 0
				}
				n := copy(buf, sealed[i])
				if _, fault := recv.unprotectRTP(buf, n); fault != faultNone {
					b.Fatal(fault)
				}
				i++
			}
		})
	}
}
