//go:build e2e

package hep

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func sngrep(t *testing.T, args ...string) {
	t.Helper()
	bin, err := exec.LookPath("sngrep")
	if err != nil {
		t.Skip("sngrep is missing: apt-get install sngrep")
	}
	cmd := exec.Command(bin, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sngrep: %s", said.Bytes())
		}
	})
}

// captured is one frame of a pcap file.
type captured struct {
	at   time.Time
	data []byte // the Ethernet frame
}

const pcapMagic = 0xa1b2c3d4 // microseconds, in the byte order of the writer: little endian here

// readPcap reads what a classic pcap file holds so far: a global header of 24 bytes, then frames with one of 16.
func readPcap(t *testing.T, name string) []captured {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil || len(b) < 24 {
		return nil
	}
	if m := binary.LittleEndian.Uint32(b); m != pcapMagic {
		t.Fatalf("pcap magic %x", m)
	}
	var out []captured
	for b = b[24:]; len(b) >= 16; {
		sec, usec, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), int(binary.LittleEndian.Uint32(b[8:]))
		if len(b) < 16+n {
			break
		}
		out = append(out, captured{time.Unix(int64(sec), int64(usec)*1000), b[16 : 16+n]})
		b = b[16+n:]
	}
	return out
}

// TestB12PeerSngrepReads: sngrep 1.6 decodes what a Sender sends and writes the SIP into a pcap file, with its addresses,
// ports and microseconds. It writes all as UDP, and no addresses of IPv6: there only the message is looked for.
func TestB12PeerSngrepReads(t *testing.T) {
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := addrOf(probe.LocalAddr())
	probe.Close()
	out := filepath.Join(t.TempDir(), "out.pcap")
	sngrep(t, "-F", "-N", "-q", "-L", "udp:"+addr.String(), "-O", out)

	s, _ := start(t, Config{Addr: addr, CaptureID: 2001, NodeName: "edge-1"})
	p := sample()
	p.Transport, p.CorrelationID = UDP, CallID(p.Payload)
	answer := p
	answer.Source, answer.Destination = p.Destination, p.Source
	answer.Time = p.Time.Add(1234 * time.Microsecond)
	answer.Payload = bytes.Replace([]byte(invite), []byte("INVITE sip:600@edge.example SIP/2.0"), []byte("SIP/2.0 180 Ringing"), 1)
	overTLS := p
	overTLS.Transport = TCP
	overTLS.Payload = bytes.Replace([]byte(invite), []byte("asidkj3ss"), []byte("overtls"), 1)
	six := p
	six.Source, six.Destination = netip.MustParseAddrPort("[2001:db8::4]:5060"), netip.MustParseAddrPort("[2001:db8::7]:5060")
	six.Payload = bytes.Replace([]byte(invite), []byte("asidkj3ss"), []byte("oversix"), 1)

	find := func(p Packet) *captured {
		for _, c := range readPcap(t, out) {
			if bytes.Contains(c.data, p.Payload) {
				return &c
			}
		}
		return nil
	}
	// sngrep says nothing when it begins to listen: the first one is sent until it is seen.
	if !eventually(func() bool { s.Send(p); time.Sleep(50 * time.Millisecond); return find(p) != nil }) {
		t.Fatalf("sngrep wrote nothing; %+v", s.Stats())
	}
	s.Send(answer)
	s.Send(overTLS)
	s.Send(six)
	for name, want := range map[string]Packet{"request": p, "answer": answer, "tcp": overTLS, "ipv6": six} {
		if !eventually(func() bool { return find(want) != nil }) {
			t.Errorf("%s: not in the pcap file", name)
			continue
		}
		got := find(want)
		if got.at.UnixMicro() != want.Time.UnixMicro() {
			t.Errorf("%s: at %v, want %v", name, got.at, want.Time)
		}
		if want.Source.Addr().Is6() {
			continue
		}
		if src, tgt := addresses4(t, got.data); src != want.Source || tgt != want.Destination {
			t.Errorf("%s: %v to %v", name, src, tgt)
		}
	}
	t.Logf("%d frames in the pcap file, %+v", len(readPcap(t, out)), s.Stats())
}

// addresses4 reads Ethernet, IPv4 and UDP.
func addresses4(t *testing.T, b []byte) (src, tgt netip.AddrPort) {
	t.Helper()
	if len(b) < 14+20+4 || b[12] != 8 || b[13] != 0 || b[14]>>4 != 4 {
		t.Fatalf("no IPv4 in an Ethernet frame: %x", b[:min(len(b), 40)])
	}
	ip := b[14:]
	ports := ip[int(ip[0]&15)*4:]
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(ports)),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(ports[2:]))
}

// writePcap writes one UDP packet over IPv4 in an Ethernet frame.
func writePcap(t *testing.T, name string, p Packet) {
	t.Helper()
	le, be := binary.LittleEndian, binary.BigEndian
	src, tgt := p.Source.Addr().As4(), p.Destination.Addr().As4()
	udp := be.AppendUint16(be.AppendUint16(nil, p.Source.Port()), p.Destination.Port())
	udp = append(be.AppendUint16(be.AppendUint16(udp, uint16(8+len(p.Payload))), 0), p.Payload...)
	ip := be.AppendUint16([]byte{0x45, 0}, uint16(20+len(udp)))
	ip = append(append(append(ip, 0, 0, 0, 0, 64, UDP, 0, 0), src[:]...), tgt[:]...)
	frame := append(make([]byte, 12), 8, 0)
	frame = append(append(frame, ip...), udp...)
	b := le.AppendUint32(nil, pcapMagic)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(le.AppendUint32(b, 65535), 1)
	b = le.AppendUint32(le.AppendUint32(b, uint32(p.Time.Unix())), uint32(p.Time.Nanosecond()/1000))
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(frame))), uint32(len(frame)))
	if err := os.WriteFile(name, append(b, frame...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPeerSngrepSends: Parse reads what sngrep sends (but for the capture id, which it writes in the wrong byte order). With HEP_UPDATE set the packet is kept as testdata/sngrep.hep.
func TestPeerSngrepSends(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	want := sample()
	in := filepath.Join(t.TempDir(), "in.pcap")
	writePcap(t, in, want)
	sngrep(t, "-N", "-q", "-H", "udp:"+pc.LocalAddr().String(), "-I", in)
	buf := make([]byte, MaxPacket)
	_ = pc.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, _, err := pc.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	p, fault := Parse(buf[:n])
	if fault != FaultNone {
		t.Fatalf("%v: %x", fault, buf[:n])
	}
	t.Logf("%v to %v, transport %d, protocol %d, %v, capture id %d, node %q, auth key %q, correlation id %q, %d bytes", p.Source, p.Destination,
		p.Transport, p.Protocol, p.Time.UTC(), p.CaptureID, p.Node, p.AuthKey, p.CorrelationID, len(p.Payload))
	if p.Source != want.Source || p.Destination != want.Destination || p.Protocol != SIP || string(p.Payload) != invite ||
		p.Time.UnixMicro() != want.Time.UnixMicro() {
		t.Errorf("%+v", p)
	}
	if os.Getenv("HEP_UPDATE") != "" {
		if err := os.WriteFile("testdata/sngrep.hep", buf[:n], 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
