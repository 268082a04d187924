package hep

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var compareAddr = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

const invite = "INVITE sip:600@edge.example SIP/2.0\r\n" +
	"Via: SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks\r\n" +
	"From: <sip:1001@edge.example>;tag=asdyka899\r\n" +
	"To: <sip:600@edge.example>\r\n" +
	"Call-ID: asidkj3ss@192.0.2.4\r\n" +
	"CSeq: 1 INVITE\r\n" +
	"Content-Length: 0\r\n\r\n"

func sample() Packet {
	return Packet{Source: netip.MustParseAddrPort("192.0.2.4:5060"), Destination: netip.MustParseAddrPort("198.51.100.7:5061"), Transport: TCP,
		Protocol: SIP, Time: time.Unix(1795384957, 37297000), CaptureID: 0x80000001, Node: []byte("edge-1"), AuthKey: []byte("key"),
		CorrelationID: []byte("asidkj3ss@192.0.2.4"), Payload: []byte(invite)}
}

func mustAppend(t testing.TB, p Packet) []byte {
	t.Helper()
	b, fault := Append(nil, p)
	if fault != FaultNone {
		t.Fatalf("append: %v", fault)
	}
	return b
}

// TestB12Bytes writes a packet out by hand, from the table of revision 37.
func TestB12Bytes(t *testing.T) {
	p := sample()
	p.Payload = []byte("SIP")
	want := "48455033 0094" + // HEP3, 148 bytes
		"0000 0001 0007 02" + "0000 0002 0007 06" +
		"0000 0003 000a c0000204" + "0000 0004 000a c6336407" +
		"0000 0007 0008 13c4" + "0000 0008 0008 13c5" +
		"0000 0009 000a 6b03667d" + "0000 000a 000a 000091b1" +
		"0000 000b 0007 01" + "0000 000c 000a 80000001" +
		"0000 000e 0009 6b6579" +
		"0000 0011 0019 617369646b6a337373403139322e302e322e34" +
		"0000 0013 000c 656467652d31" +
		"0000 000f 0009 534950"
	if got, want := hex.EncodeToString(mustAppend(t, p)), strings.ReplaceAll(want, " ", ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestB12RoundTrip: what is written is read again, for each form of a packet.
func TestB12RoundTrip(t *testing.T) {
	for name, edit := range map[string]func(in, want *Packet){
		"all":     func(in, want *Packet) {},
		"minimum": func(in, want *Packet) { in.Node, in.AuthKey, in.CorrelationID = nil, nil, nil; *want = *in },
		"rtcp": func(in, want *Packet) {
			in.Protocol, in.Transport, in.Payload = RTCP, UDP, []byte(`{"type":200}`)
			*want = *in
		},
		"ipv6": func(in, want *Packet) {
			in.Source, in.Destination = netip.MustParseAddrPort("[2001:db8::4]:5060"), netip.MustParseAddrPort("[2001:db8::7]:40000")
			*want = *in
		},
		"link-local": func(in, want *Packet) {
			in.Source, in.Destination = netip.MustParseAddrPort("[fe80::1%eth0]:5060"), netip.MustParseAddrPort("[fe80::2%eth0]:1")
			want.Source, want.Destination = netip.MustParseAddrPort("[fe80::1]:5060"), netip.MustParseAddrPort("[fe80::2]:1")
		},
		"mapped": func(in, want *Packet) { in.Source = netip.MustParseAddrPort("[::ffff:192.0.2.4]:5060") },
		"wildcard of the other family": func(in, want *Packet) {
			in.Destination = netip.MustParseAddrPort("[::]:5060")
			want.Destination = netip.MustParseAddrPort("0.0.0.0:5060")
		},
		"other family": func(in, want *Packet) {
			in.Destination = netip.MustParseAddrPort("[2001:db8::7]:5060")
			*want = *in
			want.Source = netip.MustParseAddrPort("[::ffff:192.0.2.4]:5060")
		},
		"no addresses": func(in, want *Packet) {
			in.Source, in.Destination = netip.AddrPort{}, netip.AddrPort{}
			want.Source, want.Destination = netip.MustParseAddrPort("0.0.0.0:0"), netip.MustParseAddrPort("0.0.0.0:0")
		},
		"no time":         func(in, want *Packet) { in.Time, want.Time = time.Time{}, time.Time{} },
		"before 1970":     func(in, want *Packet) { in.Time, want.Time = time.Unix(-1, 0), time.Time{} },
		"after 2106":      func(in, want *Packet) { in.Time, want.Time = time.Unix(1<<32, 0), time.Time{} },
		"nanoseconds cut": func(in, want *Packet) { in.Time = in.Time.Add(999) },
		"defaults":        func(in, want *Packet) { in.Transport, in.Protocol = 0, 0; want.Transport, want.Protocol = UDP, SIP },
	} {
		t.Run(name, func(t *testing.T) {
			in, want := sample(), sample()
			edit(&in, &want)
			got, fault := Parse(mustAppend(t, in))
			if fault != FaultNone {
				t.Fatal(fault)
			}
			if diff := cmp.Diff(want, got, compareAddr); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAppendTooLarge: one byte less than too much fits, and too much leaves the buffer alone.
func TestAppendTooLarge(t *testing.T) {
	p := sample()
	p.Payload = nil
	p.Payload = make([]byte, MaxPacket-len(mustAppend(t, p)))
	if b := mustAppend(t, p); len(b) != MaxPacket {
		t.Errorf("%d bytes, want %d", len(b), MaxPacket)
	}
	p.Payload = append(p.Payload, 0)
	if b, fault := Append([]byte("kept"), p); fault != FaultTooLarge || string(b) != "kept" {
		t.Errorf("%v, %d bytes", fault, len(b))
	}
}

// chunk writes one with any vendor, type and length.
func chunk(vendor, kind, length int, value string) string {
	return string([]byte{byte(vendor >> 8), byte(vendor), byte(kind >> 8), byte(kind), byte(length >> 8), byte(length)}) + value
}

func good(vendor, kind int, value string) string {
	return chunk(vendor, kind, chunkLen+len(value), value)
}

func frame(chunks ...string) []byte {
	all := strings.Join(chunks, "")
	n := headerLen + len(all)
	return append([]byte{'H', 'E', 'P', '3', byte(n >> 8), byte(n)}, all...)
}

// TestParseStrict: what is wrong has a name, and nothing of it is taken.
func TestParseStrict(t *testing.T) {
	base := []string{good(0, 1, "\x02"), good(0, 2, "\x11"), good(0, 3, "\x7f\x00\x00\x01"), good(0, 4, "\x7f\x00\x00\x02"), good(0, 11, "\x01"),
		good(0, 15, "hello")}
	with := func(more ...string) []byte { return frame(append(append([]string{}, base...), more...)...) }
	without := func(i int) []byte { return frame(append(append([]string{}, base[:i]...), base[i+1:]...)...) }
	for _, tt := range []struct {
		name string
		in   []byte
		want Fault
	}{
		{"minimum", with(), FaultNone},
		{"unknown chunk", with(good(0, 0x29, "group"), good(0, 0xffff, ""), good(0, 0x12, "\x00\x01"), good(0, 0x0d, "\x00\x1e")), FaultNone},
		{"unknown chunk twice", with(good(0, 0x29, "a"), good(0, 0x29, "b"), good(0, 0, ""), good(0, 0, "")), FaultNone},
		{"vendor chunks are another's", with(good(4, 15, "forged"), good(4, 17, "x"), good(1, 16, "zip"), good(2, 1, "too long")), FaultNone},
		{"empty", nil, FaultShort},
		{"half a header", []byte("HEP3\x00"), FaultShort},
		{"version 1", []byte("\x01\x10\x02\x11\x13\xc4"), FaultMagic},
		{"version 2", []byte("\x02\x10\x02\x11\x13\xc4\x13\xc4"), FaultMagic},
		{"length below a header", []byte("HEP3\x00\x05"), FaultLength},
		{"only a header", frame(), FaultMissing},
		{"cut", with()[:40], FaultLength},
		{"more behind", append(with(), 0), FaultLength},
		{"half a chunk header", with("\x00\x00\x00"), FaultChunk},
		{"chunk of length 0", with(chunk(0, 0x29, 0, "")), FaultChunk},
		{"chunk shorter than its header", with(chunk(0, 0x29, 5, "")), FaultChunk},
		{"vendor chunk behind the packet", with(chunk(4, 0x29, 8, "x")), FaultChunk},
		{"chunk behind the packet", with(chunk(0, 0x11, 0xffff, "x")), FaultChunk},
		{"short port", with(good(0, 7, "\x01")), FaultSize},
		{"long seconds", with(good(0, 9, "\x00\x00\x00\x00\x01")), FaultSize},
		{"IPv6 of four bytes", with(good(0, 5, "\x00\x00\x00\x00")), FaultSize},
		{"second payload", with(good(0, 15, "other")), FaultDuplicate},
		{"second Call-ID", with(good(0, 17, "a"), good(0, 17, "a")), FaultDuplicate},
		{"compressed beside", with(good(0, 16, "zip")), FaultCompressed},
		{"compressed instead", append(without(5)[:0:0], frame(append(base[:5:5], good(0, 16, "zip"))...)...), FaultCompressed},
		{"a million microseconds", with(good(0, 10, "\x00\x0f\x42\x40")), FaultTime},
		{"no family", without(0), FaultMissing},
		{"no transport", without(1), FaultNone},
		{"no source", without(2), FaultMissing},
		{"no destination", without(3), FaultMissing},
		{"no protocol type", without(4), FaultMissing},
		{"no payload", without(5), FaultMissing},
		{"family of others", frame(append(base[1:6:6], good(0, 1, "\x03"))...), FaultFamily},
		{"addresses of the other family", frame(append(base[1:6:6], good(0, 1, "\x0a"))...), FaultMissing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, fault := Parse(tt.in)
			if fault != tt.want {
				t.Fatalf("%v, want %v", fault, tt.want)
			}
			if fault != FaultNone {
				if diff := cmp.Diff(Packet{}, p, compareAddr); diff != "" {
					t.Error(diff)
				}
			} else if string(p.Payload) != "hello" || p.CorrelationID != nil {
				t.Errorf("payload %q, correlation id %q", p.Payload, p.CorrelationID)
			}
		})
	}
}

// TestParseRecorded reads a packet that sngrep 1.6.0 sent (-H), see TestPeerSngrepSends.
func TestParseRecorded(t *testing.T) {
	b, err := os.ReadFile("testdata/sngrep.hep")
	if err != nil {
		t.Fatal(err)
	}
	p, fault := Parse(b)
	if fault != FaultNone {
		t.Fatal(fault)
	}
	if p.Source.String() != "192.0.2.4:5060" || p.Destination.String() != "198.51.100.7:5061" || p.Protocol != SIP || string(p.Payload) != invite ||
		p.Time.UnixMicro() != sample().Time.UnixMicro() {
		t.Errorf("%+v", p)
	}
}

// TestB12NoAllocation: writing, reading and finding the Call-ID allocate nothing.
func TestB12NoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := sample()
	buf := make([]byte, 0, MaxPacket)
	if n := testing.AllocsPerRun(1000, func() {
		b, _ := Append(buf, p)
		q, fault := Parse(b)
		if fault != FaultNone || CallID(q.Payload) == nil {
			t.Error(fault)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNames(t *testing.T) {
	for f := range NumFaults {
		if f.String() == "" || f.String() == "unknown" {
			t.Errorf("fault %d has no name", f)
		}
	}
	for d := range NumDrops {
		if d.String() == "" || d.String() == "unknown" {
			t.Errorf("drop %d has no name", d)
		}
	}
}

// FuzzParse: no input panics, views stay inside, and what is accepted is written and read again as the same.
func FuzzParse(f *testing.F) {
	f.Add(mustAppend(f, sample()))
	six := sample()
	six.Source, six.Destination = netip.MustParseAddrPort("[2001:db8::4]:5060"), netip.MustParseAddrPort("[2001:db8::7]:5060")
	f.Add(mustAppend(f, six))
	f.Add(frame(good(0, 1, "\x02"), good(4, 15, "x"), good(0, 16, "zip")))
	f.Add([]byte("HEP3\x00\x06"))
	if b, err := os.ReadFile("testdata/sngrep.hep"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, fault := Parse(b)
		if fault >= NumFaults {
			t.Fatalf("fault %d", fault)
		}
		if fault != FaultNone {
			return
		}
		if len(p.Payload)+len(p.Node)+len(p.AuthKey)+len(p.CorrelationID) > len(b) {
			t.Fatal("views are longer than the packet")
		}
		for _, v := range [][]byte{p.Payload, p.Node, p.AuthKey, p.CorrelationID} {
			if !bytes.Contains(b, v) {
				t.Fatal("a view outside of the packet")
			}
		}
		again, fault := Append(nil, p)
		if fault == FaultTooLarge {
			return // a sender may leave out chunks that we write
		}
		q, fault := Parse(again)
		if fault != FaultNone {
			t.Fatal(fault)
		}
		// What is not told is written as the default, and an empty chunk is none.
		p.Transport, p.Protocol = orDefault(p.Transport, UDP), Protocol(orDefault(uint8(p.Protocol), uint8(SIP)))
		third, _ := Append(nil, q)
		if !bytes.Equal(again, third) || !bytes.Equal(p.Payload, q.Payload) || !bytes.Equal(p.CorrelationID, q.CorrelationID) ||
			p.Transport != q.Transport || p.Protocol != q.Protocol || !p.Time.Equal(q.Time) || p.CaptureID != q.CaptureID ||
			p.Source.Port() != q.Source.Port() || p.Destination.Port() != q.Destination.Port() {
			t.Fatalf("%+v\n%+v", p, q)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	p := sample()
	p.Payload = bytes.Repeat([]byte("x"), 1400)
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = Append(buf[:0], p)
	}
}

func BenchmarkParse(b *testing.B) {
	in, _ := Append(nil, sample())
	b.ReportAllocs()
	for b.Loop() {
		Parse(in)
	}
}
