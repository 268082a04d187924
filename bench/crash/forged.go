package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"rtcedge/bench/lab"
	"rtcedge/bench/rawphone"
	"rtcedge/e2e/farms"
	"rtcedge/internal/store"
	"rtcedge/recovery/hep"
)

const captureKey = "what only the edge knows"

// guarded gives the capture a key, as an operator does whose capture can be reached by strangers.
func guarded(c *lab.Config) (func(), error) {
	c.Recovery = append(c.Recovery, "--capture-key", captureKey)
	c.Edge = append(c.Edge, "--hep-key", captureKey)
	return func() {}, nil
}

// thief is somebody who knows every Call-ID, tag, number and address, and has neither the edge's signatures nor the capture's key.
type thief struct {
	sip, rtp    *net.UDPConn
	heard, rang atomic.Int64 // packets of ours that came to it
	answers     atomic.Int64 // refusals of the edge, which are no catch
}

func newThief(ctx context.Context, host netip.Addr) (*thief, error) {
	t := &thief{}
	for _, c := range []**net.UDPConn{&t.sip, &t.rtp} {
		var err error
		if *c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0))); err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = (*c).Close() })
	}
	go read(t.sip, func(b []byte) {
		if strings.HasPrefix(string(b), "SIP/2.0 ") && !strings.HasPrefix(string(b), "SIP/2.0 2") {
			t.answers.Add(1)
			return
		}
		t.rang.Add(1)
	})
	go read(t.rtp, func([]byte) { t.heard.Add(1) })
	return t, nil
}

func read(c *net.UDPConn, got func([]byte)) {
	buf := make([]byte, 65536)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		got(buf[:n])
	}
}

// sdp wants the media at the thief.
func (t *thief) sdp() string {
	a := t.rtp.LocalAddr().(*net.UDPAddr).AddrPort()
	return fmt.Sprintf("v=0\r\no=- 9 9 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\na=sendrecv\r\n", a.Addr(), a.Addr(), a.Port())
}

// request is a request inside of a phone's dialog, with the thief's addresses. route is what it claims as Route.
func (t *thief) request(d *rawphone.Dialog, method, route string, cseq uint32, body string) string {
	at := t.sip.LocalAddr().(*net.UDPAddr).AddrPort()
	s := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%d%d;rport\r\nMax-Forwards: 70\r\n", method, d.Target, at, method, cseq, time.Now().UnixNano())
	if route != "" {
		s += "Route: " + route + "\r\n"
	}
	s += fmt.Sprintf("From: %s;tag=%s\r\nTo: %s;tag=%s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:thief@%s>\r\n", d.Local, d.LocalTag, d.Remote, d.RemoteTag, d.CallID, cseq, method, at)
	if body != "" {
		s += "Content-Type: application/sdp\r\n"
	}
	return s + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// forged is F34.
func forged(ctx context.Context, l *bench) error {
	pairs, err := l.Pairs(ctx, min(l.cfg.calls, 20))
	if err != nil {
		return err
	}
	t, err := newThief(ctx, netip.MustParseAddr("127.66.0.1"))
	if err != nil {
		return err
	}
	l.Mark()
	edge := net.UDPAddrFromAddrPort(l.SIP())
	requests, packets := 0, 0
	for _, p := range l.Legs {
		d := p.Dialog()
		for i, route := range []string{"", "<sip:" + l.SIP().String() + ";lr>", "<sip:" + l.SIP().String() + ";lr;vb=AAAAAAAAAAAAAAAAAAAAAA>", "<sip:" + l.Internal().String() + ";lr>"} {
			for _, method := range []string{"INVITE", "UPDATE", "BYE", "REFER"} {
				body := ""
				if method == "INVITE" || method == "UPDATE" {
					body = t.sdp()
				}
				_, _ = t.sip.WriteToUDP([]byte(t.request(d, method, route, d.CSeq+uint32(10+i), body)), edge)
				requests++
				if requests%50 == 0 {
					lab.Sleep(ctx, 20*time.Millisecond)
				}
			}
		}
		n, err := l.forgeHEP(ctx, t, d)
		if err != nil {
			return err
		}
		packets += n
	}
	tried, refused, err := l.forgeCrashes(ctx)
	if err != nil {
		return err
	}
	records, calls, err := l.forgeRecords(ctx)
	if err != nil {
		return err
	}
	lab.Sleep(ctx, 2*time.Second)
	rejected, err := metric(l.Controller(0), "capture_rejected")
	if err != nil {
		return err
	}
	l.Printf("%d forged re-INVITEs, UPDATEs, BYEs and REFERs: %d refused, calls disturbed: %v", requests, t.answers.Load(), l.Undisturbed() != nil)
	unbelieved, err := metric(l.Controller(0), "store_forged")
	if err != nil {
		return err
	}
	l.Printf("%d forged HEP packets: capture rejected %.0f", packets, rejected)
	l.Printf("%d forged crash events to the admin port, the API and the store: refused %d", tried, refused)
	l.Printf("%d forged crash records by somebody who got into the store: not believed %.0f", records, unbelieved)
	err = l.Undisturbed()
	if rejected < float64(packets)*.9 { // the kernel may drop some of a burst
		err = errors.Join(err, fmt.Errorf("the capture rejected %.0f of %d forged packets", rejected, packets))
	}
	if tried != refused {
		err = errors.Join(err, fmt.Errorf("%d of %d forged crash events were refused", refused, tried))
	}
	if unbelieved < float64(records) {
		err = errors.Join(err, fmt.Errorf("%.0f of %d forged crash records were not believed", unbelieved, records))
	}
	if err != nil {
		return err
	}
	// What was forged may wait in a capture: a real crash must bring every call to its own phone.
	_, legs, at, err := l.killed("call", l.Legs)
	if err != nil {
		return err
	}
	o, err := l.settle(ctx, legs, at, 20*time.Second)
	if err != nil {
		return err
	}
	l.Printf("at the thief: %d SIP messages that are no refusals, %d RTP packets", t.rang.Load(), t.heard.Load())
	if unbelieved, err = metric(l.Controller(0), "store_forged"); err != nil || unbelieved < float64(records+calls) {
		return fmt.Errorf("%.0f of %d forged crashes and calls were not believed: %w", unbelieved, records+calls, err)
	}
	l.Printf("and %d forged calls that would have had every dialog recovered into them: not believed", calls)
	if err := l.judge(o, f1); err != nil {
		return err
	}
	if t.rang.Load()+t.heard.Load() > 0 {
		return errors.New("the thief caught something")
	}
	return l.FarewellBoth(ctx, pairs)
}

// forgeHEP tells the capture that the phone has moved to the thief, and that it has hung up: without a key, and with a wrong one.
func (l *bench) forgeHEP(ctx context.Context, t *thief, d *rawphone.Dialog) (sent int, err error) {
	c, err := net.Dial("udp", netip.AddrPortFrom(l.Inside, 9060).String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for _, key := range []string{"", "guess"} {
		for _, n := range l.Farm("call") {
			for _, text := range []string{t.request(d, "INVITE", "", d.CSeq+5, t.sdp()), t.request(d, "BYE", "", d.CSeq+6, "")} {
				b, fault := hep.Append(nil, hep.Packet{Source: l.Internal(), Destination: n.SIP, Transport: 17, Protocol: hep.SIP, Time: time.Now(), CaptureID: 2001,
					AuthKey: []byte(key), CorrelationID: []byte(d.CallID), Payload: []byte(text)})
				if fault != hep.FaultNone {
					return sent, fmt.Errorf("HEP: %v", fault)
				}
				if _, err := c.Write(b); err != nil {
					return sent, err
				}
				if sent++; sent%4 == 0 {
					lab.Sleep(ctx, time.Millisecond)
				}
			}
		}
	}
	return sent, nil
}

// forgeCrashes tries what a stranger may take for a way to report a crash: requests to the admin port and the API, and the store without its token. tried and
// refused count them.
func (l *bench) forgeCrashes(ctx context.Context) (tried, refused int, err error) {
	for _, at := range []string{l.Controller(0).String(), l.API().String()} {
		for _, path := range []string{"/crashes", "/crash", "/farm/fence", "/v1/crashes"} {
			for _, method := range []string{http.MethodPost, http.MethodPut} {
				req, err := http.NewRequestWithContext(ctx, method, "http://"+at+path+"?node="+l.Farm("call")[0].SIP.String(), strings.NewReader(`{"node":"call1","reason":"forged"}`))
				if err != nil {
					return tried, refused, err
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					return tried, refused, err
				}
				_ = res.Body.Close()
				tried++
				if res.StatusCode >= 400 {
					refused++
				}
			}
		}
	}
	for _, token := range []string{"", "guess"} {
		tried++
		if c, err := nats.Connect("nats://"+l.StoreAddr().String(), nats.Token(token)); err == nil {
			c.Close()
		} else if errors.Is(err, nats.ErrAuthorization) {
			refused++
		}
	}
	return tried, refused, nil
}

// forgeRecords writes crashes of every node into the store as somebody does who got in there, and does not have the secret: plain ones, ones with a seal of
// another key, and one that says of a node of the calls that its crash is over; and calls of his own on each node, to which he says that every phone's dialog
// belongs. It returns how many of each.
func (l *bench) forgeRecords(ctx context.Context) (written, calls int, err error) {
	st, err := store.New(store.Config{URL: "nats://" + l.StoreAddr().String(), Token: l.StoreToken()})
	if err != nil {
		return 0, 0, err
	}
	life, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- st.Run(life) }()
	defer func() { end(); err = errors.Join(err, <-done) }()
	b, err := st.Bucket(ctx, "crashes")
	if err != nil {
		return 0, 0, err
	}
	for _, n := range append(l.Farm("call"), &farms.Node{ID: "call9"}) {
		for _, over := range []bool{false, true} {
			epoch := rand.Text()
			record := map[string]any{"node": n.ID, "epoch": epoch, "sip": "udp:" + n.SIP.String(), "controller": "evil", "reason": "forged"}
			if over {
				record["closed"] = time.Now()
			}
			plain, err := json.Marshal(record)
			if err != nil {
				return written, calls, err
			}
			for _, value := range [][]byte{plain, fmt.Appendf(nil, `{"seal":"%064x","crash":%s}`, written, plain)} {
				if _, err := b.Put(ctx, fmt.Sprintf("%s.%s~%d", n.ID, epoch, written), value); err != nil {
					return written, calls, err
				}
				written++
			}
		}
	}
	b, err = st.Bucket(ctx, "calls")
	if err != nil {
		return written, 0, err
	}
	for _, n := range l.Farm("call") {
		var legs []map[string]any
		for i, p := range l.Legs {
			legs = append(legs, map[string]any{"id": fmt.Sprint("evil.", i), "node": n.ID, "sip_call_id": p.Dialog().CallID, "role": "in", "state": "up", "answered": time.Now()})
		}
		value, err := json.Marshal(map[string]any{"id": "evil" + n.ID, "node": n.ID, "created": time.Now(), "legs": legs})
		if err != nil {
			return written, calls, err
		}
		if _, err := b.Put(ctx, "evil"+n.ID, value); err != nil {
			return written, calls, err
		}
		calls++
	}
	return written, calls, nil
}

// metric sums a family of an admin port.
func metric(admin netip.AddrPort, family string) (sum float64, err error) {
	res, err := http.Get("http://" + admin.String() + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	for _, line := range strings.Split(string(b), "\n") {
		if !strings.HasPrefix(line, "rtcedge_"+family) {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v); err == nil {
			sum += v
		}
	}
	return sum, err
}
