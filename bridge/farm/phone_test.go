package farm

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/bridge/mixer"
	"rtcedge/internal/testrun"
	"rtcedge/transcode/g711"
)

const patience = 10 * time.Second

// runFarm starts a farm on free ports and ends it with the test.
func runFarm(t *testing.T, cfg Config) *Farm {
	t.Helper()
	f, err := New(withARI(cfg))
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, f.Run)
	return f
}

// withARI fills in what a farm must have.
func withARI(cfg Config) Config {
	if cfg.Listen == nil {
		cfg.Listen = []string{"udp:127.0.0.1:0"}
	}
	if !cfg.ARI.IsValid() {
		cfg.ARI, cfg.ARIPassword = netip.MustParseAddrPort("127.0.0.1:0"), "pw"
	}
	return cfg
}

func sipAddr(t *testing.T, f *Farm) netip.AddrPort {
	t.Helper()
	return f.listeners[0].addr
}

// phone is a user agent as a stranger would write it: text over a UDP socket.
type phone struct {
	t    *testing.T
	user string
	farm netip.AddrPort
	sip  *net.UDPConn
	rtp  *net.UDPConn
	in   chan sipmsg.Message
	seq  uint32
}

func newPhone(t *testing.T, f *Farm, user string) *phone {
	t.Helper()
	open := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p := &phone{t: t, user: user, farm: sipAddr(t, f), sip: open(), rtp: open(), in: make(chan sipmsg.Message, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, err := p.sip.Read(buf)
			if err != nil {
				return
			}
			m, err := sipmsg.ParseMessage(slices.Clone(buf[:n]))
			if err != nil {
				t.Errorf("%s got a message that cannot be read: %v\n%s", user, err, buf[:n])
				continue
			}
			p.in <- m
		}
	}()
	t.Cleanup(func() {
		p.sip.Close()
		p.rtp.Close()
		<-done
	})
	return p
}

func (p *phone) addr() string { return p.sip.LocalAddr().String() }

// talk is a dialog as the phone sees it.
type talk struct {
	p              *phone
	callID         string
	from, to       string // with tags, as the phone writes them
	target         string
	routes         []string
	invite         *sipmsg.Request // of an incoming call
	branch         string          // of the last INVITE
	cseq, inviteNo uint32
	body           string // SDP of the far end
}

func (p *phone) write(s string) {
	if _, err := p.sip.WriteToUDPAddrPort([]byte(s), p.farm); err != nil {
		p.t.Fatal(err)
	}
}

func message(start string, headers []string, body string) string {
	if body != "" {
		headers = append(headers, "Content-Type: application/sdp")
	}
	headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	return start + "\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n" + body
}

// send writes a request in the dialog; method may name headers after line breaks.
func (d *talk) send(method, body string, extra ...string) {
	target := d.target
	if method != "ACK" && method != "CANCEL" {
		d.cseq++
		d.branch = "z9hG4bK" + sipmsg.GenerateTagN(12)
	}
	no := d.cseq
	if method == "INVITE" {
		d.inviteNo = no
	}
	branch := d.branch
	if method == "ACK" {
		no, branch = d.inviteNo, "z9hG4bK"+sipmsg.GenerateTagN(12)
	}
	headers := []string{
		"Via: SIP/2.0/UDP " + d.p.addr() + ";branch=" + branch,
		"Max-Forwards: 70",
		"From: " + d.from, "To: " + d.to, "Call-ID: " + d.callID,
		fmt.Sprintf("CSeq: %d %s", no, method),
		"Contact: <sip:" + d.p.user + "@" + d.p.addr() + ">",
	}
	for _, r := range d.routes {
		headers = append(headers, "Route: "+r)
	}
	d.p.write(message(method+" "+target+" SIP/2.0", append(headers, extra...), body))
}

// ackFailure acknowledges a final response that is none of success, with the INVITE's branch.
func (d *talk) ackFailure(res *sipmsg.Response) {
	d.p.write(message("ACK "+d.target+" SIP/2.0", []string{
		"Via: SIP/2.0/UDP " + d.p.addr() + ";branch=" + d.branch,
		"Max-Forwards: 70", "From: " + d.from, "To: " + res.To().Value(), "Call-ID: " + d.callID,
		fmt.Sprintf("CSeq: %d ACK", d.inviteNo),
	}, ""))
}

// dial sends an INVITE.
func (p *phone) dial(number, body string, extra ...string) *talk {
	uri := "sip:" + number
	if !strings.Contains(number, "@") {
		uri += "@127.0.0.1"
	}
	d := &talk{
		p: p, callID: sipmsg.GenerateTagN(16), from: "<sip:" + p.user + "@127.0.0.1>;tag=" + sipmsg.GenerateTagN(8),
		to: "<" + uri + ">", target: uri,
	}
	d.send("INVITE", body, extra...)
	return d
}

// response waits for the final (or, above 100, the given provisional) response to the last request of that method.
func (d *talk) response(method string, status int) *sipmsg.Response {
	d.p.t.Helper()
	res := d.p.expect(fmt.Sprintf("%d to %s", status, method), func(m sipmsg.Message) bool {
		r, ok := m.(*sipmsg.Response)
		return ok && r.CallID().Value() == d.callID && string(r.CSeq().MethodName) == method && r.StatusCode > 100 &&
			(!r.IsProvisional() || r.StatusCode == status)
	}).(*sipmsg.Response)
	if res.StatusCode != status {
		d.p.t.Fatalf("%s: %s is answered with %s, want %d", d.p.user, method, res.StartLine(), status)
	}
	return res
}

// answered waits for the 200 of the INVITE and acknowledges it.
func (d *talk) answered() *talk {
	d.p.t.Helper()
	res := d.response("INVITE", 200)
	d.to = res.To().Value()
	d.target = res.Contact().Address.String()
	d.body = string(res.Body())
	d.send("ACK", "")
	return d
}

// refused waits for a final failure and acknowledges it.
func (d *talk) refused(status int) *sipmsg.Response {
	d.p.t.Helper()
	res := d.response("INVITE", status)
	d.ackFailure(res)
	return res
}

// request waits for a request of that method.
func (p *phone) request(method string) *sipmsg.Request {
	p.t.Helper()
	return p.expect(method, func(m sipmsg.Message) bool {
		r, ok := m.(*sipmsg.Request)
		return ok && string(r.Method) == method
	}).(*sipmsg.Request)
}

// expect drops what comes until want says yes.
func (p *phone) expect(what string, want func(sipmsg.Message) bool) sipmsg.Message {
	p.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case m := <-p.in:
			if want(m) {
				return m
			}
		case <-limit:
			p.t.Fatalf("%s waited for %s in vain", p.user, what)
		}
	}
}

// reply answers a request.
func (p *phone) reply(req *sipmsg.Request, status int, toTag, body string, extra ...string) {
	headers := []string{}
	for _, name := range []string{"Via", "Record-Route", "From", "To", "Call-ID", "CSeq"} {
		for _, h := range req.GetHeaders(name) {
			v := h.Value()
			if name == "To" && toTag != "" && !strings.Contains(v, "tag=") {
				v += ";tag=" + toTag
			}
			headers = append(headers, name+": "+v)
		}
	}
	headers = append(headers, "Contact: <sip:"+p.user+"@"+p.addr()+">")
	p.write(message(fmt.Sprintf("SIP/2.0 %d Whatever", status), append(headers, extra...), body))
}

// ringing takes an incoming INVITE and rings.
func (p *phone) ringing() *talk {
	p.t.Helper()
	inv := p.request("INVITE")
	d := &talk{p: p, invite: inv, callID: inv.CallID().Value(), body: string(inv.Body())}
	tag := sipmsg.GenerateTagN(8)
	d.from, d.to = inv.To().Value()+";tag="+tag, inv.From().Value()
	d.target = inv.Contact().Address.String()
	p.reply(inv, 180, tag, "")
	return d
}

// accept answers an incoming call and waits for the ACK.
func (d *talk) accept() *talk {
	d.p.t.Helper()
	_, tag, _ := strings.Cut(d.from, ";tag=")
	d.p.reply(d.invite, 200, tag, d.p.sdp("sendrecv"))
	d.p.request("ACK")
	return d
}

// hangup sends BYE and waits for its 200.
func (d *talk) hangup() {
	d.p.t.Helper()
	d.send("BYE", "")
	d.response("BYE", 200)
}

// hungUp waits for a BYE and answers it.
func (d *talk) hungUp() {
	d.p.t.Helper()
	d.p.reply(d.p.request("BYE"), 200, "", "")
}

func (p *phone) sdp(direction string) string { return sdpFor(p.rtp, direction) }

func sdpFor(rtp *net.UDPConn, direction string) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=%s\r\n",
		rtp.LocalAddr().(*net.UDPAddr).Port, direction)
}

// register registers the phone and returns the response.
func (p *phone) register(expect int, extra ...string) *sipmsg.Response {
	p.t.Helper()
	if len(extra) == 0 {
		extra = []string{"Contact: <sip:" + p.user + "@" + p.addr() + ">", "Expires: 600"}
	}
	p.seq++
	callID := "reg-" + p.user + p.addr()
	p.write(message("REGISTER sip:127.0.0.1 SIP/2.0", append([]string{
		"Via: SIP/2.0/UDP " + p.addr() + ";branch=z9hG4bK" + sipmsg.GenerateTagN(12),
		"Max-Forwards: 70", "From: <sip:" + p.user + "@127.0.0.1>;tag=r", "To: <sip:" + p.user + "@127.0.0.1>",
		"Call-ID: " + callID, fmt.Sprintf("CSeq: %d REGISTER", p.seq),
	}, extra...), ""))
	res := p.expect("REGISTER's response", func(m sipmsg.Message) bool {
		r, ok := m.(*sipmsg.Response)
		return ok && r.CSeq().MethodName == sipmsg.REGISTER && r.CSeq().SeqNo == p.seq
	}).(*sipmsg.Response)
	if res.StatusCode != expect {
		p.t.Fatalf("REGISTER: %s, want %d", res.StartLine(), expect)
	}
	return res
}

// media is the far end's address in an SDP.
func media(t *testing.T, body string) netip.AddrPort {
	t.Helper()
	_, rest, ok := strings.Cut(body, "m=audio ")
	var port uint16
	if _, err := fmt.Sscanf(rest, "%d", &port); !ok || err != nil {
		t.Fatalf("no audio in\n%s", body)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

// direction is the direction of an SDP's audio.
func direction(body string) string {
	for _, d := range []string{"sendonly", "recvonly", "inactive"} {
		if strings.Contains(body, "a="+d) {
			return d
		}
	}
	return "sendrecv"
}

// voice is the media of a phone: it sends tones and records what comes.
type voice struct {
	rtp  *net.UDPConn
	to   netip.AddrPort
	ssrc uint32
	seq  uint16
	ts   uint32
	n    int

	mu       sync.Mutex
	pcm      []int16 // voice received
	packets  []rtpPacket
	received atomic.Int64
}

// listen records until the socket closes or the test ends.
func (p *phone) listen(body string) *voice {
	v := &voice{rtp: p.rtp, to: media(p.t, body), ssrc: 0x1000 + uint32(p.rtp.LocalAddr().(*net.UDPAddr).Port), seq: 1000, ts: 5000}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := p.rtp.Read(buf)
			if err != nil {
				return
			}
			pkt, ok := parseRTP(slices.Clone(buf[:n]))
			if !ok {
				continue
			}
			v.mu.Lock()
			v.packets = append(v.packets, pkt)
			if pkt.pt == ptPCMU {
				pcm := make([]int16, len(pkt.payload))
				g711.DecodeULaw(pcm, pkt.payload)
				v.pcm = append(v.pcm, pcm...)
			}
			v.mu.Unlock()
			v.received.Add(1)
		}
	})
	p.t.Cleanup(func() {
		p.rtp.Close()
		wg.Wait()
	})
	return v
}

func (v *voice) sendPacket(pt uint8, marker bool, payload []byte) {
	v.seq++
	b := append(appendRTP(nil, pt, marker, v.seq, v.ts, v.ssrc), payload...)
	_, _ = v.rtp.WriteToUDPAddrPort(b, v.to)
}

// sendTone sends one frame of a tone.
func (v *voice) sendTone(freq, amplitude float64) {
	var pcm mixer.Frame
	for i := range pcm {
		pcm[i] = int16(amplitude * math.Sin(2*math.Pi*freq*float64(v.n)/8000))
		v.n++
	}
	payload := make([]byte, len(pcm))
	g711.EncodeULaw(payload, pcm[:])
	v.ts += mixer.FrameSamples
	v.sendPacket(ptPCMU, v.seq == 1000, payload)
}

// forget drops what was recorded.
func (v *voice) forget() {
	v.mu.Lock()
	v.pcm, v.packets = nil, nil
	v.mu.Unlock()
}

func (v *voice) heard() []int16 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.pcm)
}

func (v *voice) got() []rtpPacket {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.packets)
}

// together lets all phones talk for some frames, each its own tone.
func together(frames int, freqs []float64, voices ...*voice) {
	ticker := time.NewTicker(frameTime)
	defer ticker.Stop()
	for range frames {
		for i, v := range voices {
			v.sendTone(freqs[i], 6000)
		}
		<-ticker.C
	}
}

// level is the power of one frequency in dB (Goertzel's algorithm), with a window against leakage.
func level(pcm []int16, freq float64) float64 {
	if len(pcm) == 0 {
		return -200
	}
	k := 2 * math.Cos(2*math.Pi*freq/8000)
	var s1, s2 float64
	for i, x := range pcm {
		w := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(len(pcm)))
		s1, s2 = float64(x)*w+k*s1-s2, s1
	}
	power := (s1*s1 + s2*s2 - k*s1*s2) / float64(len(pcm)) / float64(len(pcm))
	return 10 * math.Log10(power+1e-9)
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// newPhoneSocket is a bare UDP socket.
func newPhoneSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addrPort(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
