//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// hepOf makes a HEP3 packet (hep_rev11) of a SIP message between two addresses.
func hepOf(payload string) []byte {
	chunk := func(b []byte, kind uint16, value ...byte) []byte {
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint16(b, kind)
		b = binary.BigEndian.AppendUint16(b, uint16(6+len(value)))
		return append(b, value...)
	}
	b := []byte("HEP3\x00\x00")
	b = chunk(b, 1, 2)
	b = chunk(b, 2, 17)
	b = chunk(b, 3, 192, 0, 2, 1)
	b = chunk(b, 4, 192, 0, 2, 2)
	b = chunk(b, 7, 0x13, 0xc4)
	b = chunk(b, 8, 0x13, 0xc4)
	b = chunk(b, 9, binary.BigEndian.AppendUint32(nil, uint32(time.Now().Unix()))...)
	b = chunk(b, 10, 0, 0, 0, 1)
	b = chunk(b, 11, 1)
	b = chunk(b, 12, 0, 0, 7, 0xd1)
	b = chunk(b, 17, []byte("correlation")...)
	b = chunk(b, 15, []byte(payload)...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

// TestF22MutatedHEP sends mutated HEP3 packets to the capture of the recovery role, over UDP and, whole and cut, over TCP: it lives, its
// memory is bounded, and a good packet behind them is taken (F22).
func TestF22MutatedHEP(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	host := newHost()
	capture, admin := netip.AddrPortFrom(host, 9060), freePort(t, local)
	p := launch(t, "rtcedge recovery", edgeProgram.binary(t), "recovery", "--farm", "http://a:b@127.0.0.1:1", "--capture", "udp:"+capture.String(),
		"--capture", "tcp:"+capture.String(), "--capture-from", "127.0.0.0/8", "--store-listen", freePort(t, local).String(), "--admin", admin.String())
	listening(t, p, admin)
	udp, err := net.Dial("udp", capture.String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	const sip = "INVITE sip:600@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@example.org>;tag=a\r\n" +
		"To: <sip:600@example.org>\r\nCall-ID: %s\r\nCSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.1>\r\nContent-Length: 0\r\n\r\n"
	seeds := [][]byte{
		hepOf(fmt.Sprintf(sip, "seed-1")), hepOf(""), []byte("HEP3\x00\x06"), []byte("HEP3\xff\xff"), {2, 16, 2, 17, 0, 5, 0, 5}, // HEP2
		append([]byte("HEP3\x00\x0c"), 0, 0, 0, 15, 0, 0),       // a chunk of no length
		append([]byte("HEP3\x00\x0c"), 0, 0, 0, 15, 0xff, 0xff), // and one of too much
		bytes.Replace(hepOf(fmt.Sprintf(sip, "seed-2")), []byte("HEP3"), []byte("HEP4"), 1),
	}
	n := attackPackets(t)
	if os.Getenv("RTCEDGE_ATTACK_PACKETS") == "" {
		n /= 2
	}
	rss, r := memory(t, p), rand.New(rand.NewPCG(22, 9060))
	paced(n, 25000, func(int) { _, _ = udp.Write(mutated(r, seeds)) })
	streams := n / 100 // each of which ends at its first fault
	for range streams {
		c, err := net.DialTimeout("tcp", capture.String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(bytes.Join([][]byte{seeds[0], mutated(r, seeds), mutated(r, seeds)}, nil))
		c.Close()
	}
	page := func() string {
		resp, err := http.Get("http://" + admin.String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "capture") && line[0] != '#' && !strings.HasSuffix(line, " 0\n") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return strings.Join(lines, ", ")
	}
	t.Logf("%d mutations over UDP, %d streams: %s", n, streams, page())
	before := page()
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, _ = udp.Write(seeds[0])
		if page() != before {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("a good packet behind the attack was not counted")
		}
	}
	survived(t, p, rss, 96<<10)
	endsWell(t, p)
}
