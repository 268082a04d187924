package recovery

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Chosen by us.
const (
	probeEvery  = 150 * time.Millisecond // with the rule's 150 ms a killed node is noticed within 0.5 s
	probeWait   = 140 * time.Millisecond // who has not answered by then is silent so far; a node nearby answers in a few
	probeEnd    = 650 * time.Millisecond // an answer that comes so late is one: a machine that is busy is not dead
	glanceEvery = 50 * time.Millisecond  // a look at the process costs two reads of files
)

// Target is what of a node is looked at.
type Target struct {
	ARI      string         // http://IP:PORT
	User     string         // of ARI
	Password string         // of ARI
	SIP      netip.AddrPort // UDP address for OPTIONS; the zero value: not asked
	PIDFile  string         // of the process, if it runs on this machine; "": not looked at
}

// sipAt is a SIP address that can be asked.
type sipAt struct {
	network string // udp, tcp
	addr    netip.AddrPort
}

// sipTarget reads udp:IP:PORT or tcp:IP:PORT; nil if OPTIONS cannot be sent there.
func sipTarget(text string) *sipAt {
	network, addr, ok := strings.Cut(text, ":")
	if !ok || network != "udp" && network != "tcp" {
		return nil
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil
	}
	return &sipAt{network, at}
}

// glimpse is what a witness showed.
type glimpse struct {
	asked   time.Time
	witness Witness
	sign    Sign
}

// prober looks at one node. Looks may overlap; introduce and process belong to one goroutine.
type prober struct {
	target Target
	sip    atomic.Pointer[sipAt] // where OPTIONS go to, once it is known
	host   string                // IP:PORT of ARI
	client *http.Client
	pid    int // of the process while it lived
	stream stream
}

func newProber(t Target) (*prober, error) {
	host, ok := strings.CutPrefix(t.ARI, "http://")
	if !ok {
		return nil, fmt.Errorf("farm node %q: http://IP:PORT is needed", t.ARI)
	}
	host, _, _ = strings.Cut(host, "/")
	if _, _, err := net.SplitHostPort(host); err != nil {
		return nil, fmt.Errorf("farm node %q: %w", t.ARI, err)
	}
	p := &prober{target: t, host: host, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}, stream: newStream()}
	if t.SIP.IsValid() {
		p.sip.Store(&sipAt{"udp", t.SIP})
	}
	return p, nil
}

// look asks all witnesses at once and reports what each shows, first and later: silence after probeWait, and an answer as long as it comes until
// probeEnd. Looks overlap.
func (p *prober) look(ctx context.Context, report func(glimpse)) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, probeEnd)
	defer cancel()
	tell := func(sign Sign, of ...Witness) {
		for _, w := range of {
			report(glimpse{asked, w, sign})
		}
	}
	options := make(chan Sign, 1)
	go func() { options <- p.options(ctx) }()
	ari := make(chan [2]Sign, 1)
	go func() {
		if p.pong(ctx) {
			ari <- [2]Sign{Good, Good}
			return
		}
		host := p.connect(ctx)
		if host == Good {
			ari <- [2]Sign{host, p.ping(ctx)}
			return
		}
		ari <- [2]Sign{host, host}
	}()
	silent := time.NewTimer(probeWait)
	defer silent.Stop()
	for left := 2; left > 0; {
		select {
		case s := <-options:
			tell(s, Options)
			options = nil
			left--
		case s := <-ari:
			tell(s[0], Host)
			tell(s[1], ARI)
			ari = nil
			left--
		case <-silent.C:
			if options != nil {
				tell(Silent, Options)
			}
			if ari != nil {
				tell(Silent, ARI)
			}
		}
	}
}

// connect tells whether the node's kernel takes connections for ARI.
func (p *prober) connect(ctx context.Context) Sign {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", p.host)
	if err != nil {
		return signOf(err)
	}
	_ = c.Close() // it was the answer
	return Good
}

// ping asks the program. Any HTTP answer is life: a wrong password is a matter of the configuration.
func (p *prober) ping(ctx context.Context) Sign {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.host+"/ari/asterisk/ping", nil)
	if err != nil {
		return Unseen
	}
	req.SetBasicAuth(p.target.User, p.target.Password)
	res, err := p.client.Do(req)
	if err != nil {
		return signOf(err)
	}
	_ = res.Body.Close()
	return Good
}

// options sends OPTIONS and waits for any response to it (RFC 3261, section 11).
func (p *prober) options(ctx context.Context) Sign {
	to := p.sip.Load()
	if to == nil {
		return Unseen
	}
	conn, err := new(net.Dialer).DialContext(ctx, to.network, to.addr.String())
	if err != nil && to.network == "udp" {
		return Unseen // it was sent to nobody
	}
	if err != nil {
		return signOf(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var random [12]byte
	rand.Read(random[:])
	token := hex.EncodeToString(random[:])
	local := conn.LocalAddr().String()
	if _, err := fmt.Fprintf(conn, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/%s %s;rport;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\nFrom: <sip:sentinel@%s>;tag=%s\r\n"+
		"To: <sip:%s>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", to.addr, strings.ToUpper(to.network), local, token, local, token[:8], to.addr, token); err != nil {
		return signOf(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return signOf(err)
		}
		if bytes.HasPrefix(buf[:n], []byte("SIP/2.0 ")) && bytes.Contains(buf[:n], []byte(token)) {
			return Good
		}
	}
}

// process looks at the process whose id the node wrote. A file that is not there, or not readable, says nothing about a node that never had
// one; a process that was seen and is gone says all.
func (p *prober) process() Sign {
	if p.target.PIDFile == "" {
		return Unseen
	}
	pid := p.pid
	if b, err := os.ReadFile(p.target.PIDFile); err == nil {
		if n, err := strconv.Atoi(string(bytes.TrimSpace(b))); err == nil && n > 1 {
			pid = n
		}
	}
	if pid == 0 {
		return Unseen
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	switch state := processState(stat); {
	case err != nil && errors.Is(err, os.ErrNotExist), state == 'Z', state == 'X':
		if p.pid == pid {
			return Refused
		}
		return Unseen // the file is older than this process
	case err != nil:
		return Unseen
	case state == 'T':
		p.pid = pid
		return Silent
	}
	p.pid = pid
	return Good
}

// processState reads the state of proc(5), /proc/PID/stat: the letter behind the name, which may hold anything, brackets too.
func processState(stat []byte) byte {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 || i+2 >= len(stat) {
		return 0
	}
	return stat[i+2]
}

func signOf(err error) Sign {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		return Refused
	}
	return Silent
}
