//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"rtcedge/media/sdp"
)

// takeoverCall is a phone that speaks SRTP and a farm that does not, through one media node after the other.
type takeoverCall struct {
	phone, farm     *net.UDPConn
	toPhone, toFarm netip.AddrPort // our ports that face them
	seal, open      *srtp.Context

	mu          sync.Mutex // guards what follows
	heard       []time.Time
	farmHeard   []time.Time
	ssrc        map[uint32]bool
	undecrypted int
}

// ngOverUDP asks a media node and returns its SDP.
func ngOverUDP(t *testing.T, at netip.AddrPort, cookie string, req map[string]any) *sdp.Media {
	t.Helper()
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1<<16)
	for range 20 {
		_, _ = c.Write(append([]byte(cookie+" "), b...))
		c.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
		n, err := c.Read(buf)
		if err != nil {
			continue
		}
		var resp struct {
			Result, SDP string
			Reason      string `json:"error-reason"`
		}
		if err := json.Unmarshal(buf[len(cookie)+1:n], &resp); err != nil || resp.Result != "ok" {
			t.Fatalf("%v: %s", err, buf[:n])
		}
		body, err := sdp.Parse([]byte(resp.SDP))
		if err != nil {
			t.Fatal(err)
		}
		return body.Media[0]
	}
	t.Fatalf("no answer from %s", at)
	return nil
}

func (c *takeoverCall) setUp(t *testing.T, ng netip.AddrPort, host netip.Addr, i int) {
	t.Helper()
	listen := func() *net.UDPConn {
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { u.Close() })
		return u
	}
	c.phone, c.farm, c.ssrc = listen(), listen(), map[uint32]bool{}
	key := slices.Repeat([]byte{byte(i + 1)}, 30)
	var err error
	if c.seal, err = srtp.CreateContext(key[:16], key[16:], srtp.ProtectionProfileAes128CmHmacSha1_80); err != nil {
		t.Fatal(err)
	}
	body := func(u *net.UDPConn, proto, lines string) string {
		at := u.LocalAddr().(*net.UDPAddr).AddrPort()
		return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d %s 0\r\n%s", at.Addr(), at.Addr(), at.Port(), proto, lines)
	}
	id := "takeover-" + strconv.Itoa(i)
	crypto := "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + base64.StdEncoding.EncodeToString(key) + "\r\n"
	m := ngOverUDP(t, ng, id+"o", map[string]any{"command": "offer", "call-id": id, "from-tag": "a", "sdp": body(c.phone, "RTP/SAVP", crypto),
		"transport-protocol": "RTP/AVP"})
	c.toFarm = netip.AddrPortFrom(m.Connection(), uint16(m.Port()))
	m = ngOverUDP(t, ng, id+"a", map[string]any{"command": "answer", "call-id": id, "from-tag": "a", "to-tag": "b", "sdp": body(c.farm, "RTP/AVP", "")})
	c.toPhone = netip.AddrPortFrom(m.Connection(), uint16(m.Port()))
	ours := m.Crypto()[0].Keys[0].KeySalt
	if c.open, err = srtp.CreateContext(ours[:16], ours[16:], srtp.ProtectionProfileAes128CmHmacSha1_80); err != nil {
		t.Fatal(err)
	}
}

// talk sends 50 packets a second both ways until done; the phone's sequence number rolls over in the first second.
func (c *takeoverCall) talk(wg *sync.WaitGroup, done chan struct{}) {
	wg.Go(func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-done:
				_ = c.phone.SetReadDeadline(time.Now())
				_ = c.farm.SetReadDeadline(time.Now())
				return
			case <-ticker.C:
			}
			p := rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(65500 + n), Timestamp: uint32(160 * n), SSRC: 7}, Payload: make([]byte, 160)}
			b, _ := p.Marshal()
			if sealed, err := c.seal.EncryptRTP(nil, b, nil); err == nil {
				_, _ = c.phone.WriteToUDPAddrPort(sealed, c.toPhone)
			}
			_, _ = c.farm.WriteToUDPAddrPort(b, c.toFarm)
		}
	})
	wg.Go(func() { c.listen(c.farm, func([]byte) { c.farmHeard = append(c.farmHeard, time.Now()) }) })
	wg.Go(func() {
		c.listen(c.phone, func(b []byte) {
			opened, err := c.open.DecryptRTP(nil, b, nil)
			if err != nil {
				c.undecrypted++
				return
			}
			var p rtp.Packet
			if p.Unmarshal(opened) == nil {
				c.ssrc[p.SSRC] = true
				c.heard = append(c.heard, time.Now())
			}
		})
	})
}

func (c *takeoverCall) listen(u *net.UDPConn, got func(b []byte)) {
	buf := make([]byte, 2048)
	for {
		n, err := u.Read(buf)
		if err != nil {
			return
		}
		c.mu.Lock()
		got(buf[:n])
		c.mu.Unlock()
	}
}

// gapOver is the longest pause around a moment.
func gapOver(times []time.Time, at time.Time) time.Duration {
	for i := 1; i < len(times); i++ {
		if !times[i-1].After(at) && times[i].After(at) {
			return times[i].Sub(times[i-1])
		}
	}
	return time.Hour
}

// TestF9MediaNodeKilled: kill -9 of a media node with SRTP calls; another process takes over its address and its records. The phones keep
// their contexts: one SSRC, no packet that does not decrypt; theirs are opened though their rollover counter is not 0.
func TestF9MediaNodeKilled(t *testing.T) {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the store does not start")
	}
	host, peers, local := newHost(), newHost(), netip.MustParseAddr("127.0.0.1")
	ng := netip.AddrPortFrom(host, 2223)
	node := func(name string) *process {
		admin := freePort(t, local)
		return launch(t, name, edgeProgram.binary(t), "media", "--listen-ng", ng.String(), "--interface", "default/"+host.String(),
			"--store", ns.ClientURL(), "--admin", admin.String())
	}
	first := node("first media node")
	if err := first.says("admin port", 20*time.Second); err != nil {
		t.Fatal(err)
	}
	const calls = 100
	all := make([]*takeoverCall, calls)
	for i := range all {
		all[i] = new(takeoverCall)
		all[i].setUp(t, ng, peers, i)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, c := range all {
		c.talk(&wg, done)
	}
	time.Sleep(3 * time.Second)
	killed := time.Now()
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.done
	second := node("second media node")
	time.Sleep(4 * time.Second)
	close(done)
	wg.Wait()
	var gaps []time.Duration
	for i, c := range all {
		for side, times := range map[string][]time.Time{"phone": c.heard, "farm": c.farmHeard} {
			gap := gapOver(times, killed)
			gaps = append(gaps, gap)
			if gap > 2*time.Second {
				t.Errorf("call %d: the %s heard nothing for %v", i, side, gap)
			}
		}
		if len(c.ssrc) != 1 || c.undecrypted > 0 {
			t.Errorf("call %d: %d SSRCs, %d packets that do not decrypt", i, len(c.ssrc), c.undecrypted)
		}
	}
	slices.Sort(gaps)
	t.Logf("%d SRTP calls, kill -9, next process: media back after p50 %v, p99 %v, at most %v", calls, gaps[len(gaps)/2], gaps[len(gaps)*99/100], gaps[len(gaps)-1])
	if !strings.Contains(second.output(), "calls taken over") {
		t.Error("the second node does not say that it took calls over")
	}
}
