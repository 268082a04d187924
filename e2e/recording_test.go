//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rtcedge/media/ng"
)

// TestB24KilledNodeLeavesValidFiles: a media node that records two calls dies by SIGKILL. What was said until a moment before stands in WAV files that can
// be played and a pcap file that can be read.
func TestB24KilledNodeLeavesValidFiles(t *testing.T) {
	dir := t.TempDir()
	n := startMedia(t, nil, "--recording-dir", dir)
	c := n.controller(t)
	var phones [2]*stranger
	var ports [2]netip.AddrPort
	for i := range phones {
		phones[i] = newStranger(t, netip.AddrPortFrom(newHost(), 0), nil)
	}
	for k := range 2 {
		id := fmt.Sprint("recorded-", k)
		body := func(i int) []byte { return offerOf(phones[i].addr, "0", "a=rtpmap:0 PCMU/8000") }
		for i, req := range []*ng.Request{{Command: ng.CmdOffer, CallID: id, FromTag: "a", SDP: body(0), RecordCall: "yes"},
			{Command: ng.CmdAnswer, CallID: id, FromTag: "a", ToTag: "b", SDP: body(1)}} {
			resp, _ := c.must(t, req)
			if resp.Result != ng.ResultOK || resp.Warning != "" {
				t.Fatal(resp.ErrorReason, resp.Warning)
			}
			ports[1-i] = mediaAddr(t, resp.SDP) // the offer's goes to the called phone
		}
	}
	// The second call; the first one is recorded, and silent.
	const packets = 200
	paced(packets, 50, func(i int) {
		for side := range phones {
			_, _ = phones[side].WriteToUDPAddrPort(rtpOf(uint32(side+1), i, byte(0x2a+side)), ports[side])
		}
	})
	// In the middle of the talk: the writer is a second or two behind.
	if err := n.proc.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-n.proc.done
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(f, ".wav"):
			if len(b) < 44 || string(b[:4]) != "RIFF" || string(b[36:40]) != "data" || int(binary.LittleEndian.Uint32(b[4:])) > len(b)-8 || int(binary.LittleEndian.Uint32(b[40:])) > len(b)-44 {
				t.Errorf("%s of %d bytes is no whole WAV file", f, len(b))
				continue
			}
			r, err := readWAV(f)
			if err != nil {
				t.Errorf("%s: %v", f, err)
			}
			if seconds := float64(len(r.samples)) / float64(r.rate); seconds > 1.5 {
				whole[f[strings.LastIndexByte(f, '-'):]]++
			}
		case strings.HasSuffix(f, ".pcap"):
			count, at := 0, 24
			for at+16 <= len(b) {
				at += 16 + int(binary.LittleEndian.Uint32(b[at+8:]))
				count++
			}
			if len(b) < 24 || at != len(b) {
				t.Errorf("%s ends within a packet: %d of %d bytes", f, at, len(b))
			}
			if count >= packets*3/4 {
				whole[".pcap"]++
			}
		}
	}
	if whole["-caller.wav"] != 1 || whole["-callee.wav"] != 1 || whole["-mixed.wav"] != 1 || whole[".pcap"] != 1 {
		t.Errorf("%v of %v, want one of each kind with what was said", whole, files)
	}
}
