//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// captureConfig is a Kamailio that only decodes HEP and says what it found: method or status, Call-ID, both addresses of the packet inside.
const captureConfig = `#!KAMAILIO
debug=2
log_stderror=yes
children=1
disable_tcp=yes
listen=udp:%s
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "db_text.so"
loadmodule "sipcapture.so"
modparam("sipcapture", "db_url", "text:///mnt/db")
modparam("sipcapture", "capture_on", 1)
modparam("sipcapture", "hep_capture_on", 1)
modparam("sipcapture", "raw_ipip_capture_on", 0)
request_route {
	xlog("L_NOTICE", "HEP>$rm $ci $si:$sp>$Ri:$Rp $ml\n");
	drop;
}
onreply_route {
	xlog("L_NOTICE", "HEP>$rs $ci $si:$sp>$Ri:$Rp $ml\n");
	drop;
}
`

// TestB12KamailioDecodesHEP: Kamailio's sipcapture module decodes what the edge sends of a request over UDP and of one over TLS, which it sees in
// clear text, on the legs of the phone and of the farm.
func TestB12KamailioDecodesHEP(t *testing.T) {
	dir := t.TempDir()
	collector := netip.AddrPortFrom(newHost(), 9060)
	config := captureConfig
	if found, _ := filepath.Glob("/usr/lib/*-linux-gnu"); len(found) > 0 {
		config = strings.Replace(config, "/usr/lib/x86_64-linux-gnu", found[0], 1)
	}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"kamailio.cfg": fmt.Sprintf(config, collector), "db/version": "table_name(string) table_version(int)\nsip_capture:5\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kamailio := launch(t, "kamailio", filepath.Join(root(t), "e2e", "peers.sh"), "run", "--bind", dir, "kamailio", "-DD", "-E", "-f", "/mnt/kamailio.cfg",
		"-m", "32", "-M", "8", "-w", "/tmp", "-Y", "/tmp")
	if err := kamailio.says("Listening on", 20*time.Second); err != nil {
		t.Fatal(err)
	}
	farm := newFakeFarm(t)
	host := newHost()
	edge, secure, admin := freePort(t, host), freePort(t, host), freePort(t, netip.MustParseAddr("127.0.0.1"))
	p := launch(t, "rtcedge sip", edgeProgram.binary(t), "sip", "--listen", "udp:"+edge.String(), "--listen", "tls:"+secure.String(), "--farm", "call=udp:"+farm.addr.String(),
		"--media", "none", "--hep", "udp:"+collector.String(), "--hep-id", "42", "--admin", admin.String(), "--drain-notice", "0s", "--drain-limit", "1s")
	listening(t, p, admin)

	seen := func(what, id string, from, to netip.AddrPort) {
		t.Helper()
		want := fmt.Sprintf("HEP>%s %s %s>%s ", what, id, from, to)
		if err := kamailio.says(want, 5*time.Second); err != nil {
			t.Errorf("%v", err)
		}
	}
	// Kamailio says that it listens a moment before its worker does: the first request is sent until one is seen.
	a := newAsker(t, edge)
	eventually(t, "the collector takes packets", 10*time.Second, func() bool {
		a.ask(request("OPTIONS", "sip:600@edge.example", "1001", "hep-first", a.addr), 200*time.Millisecond)
		return strings.Contains(kamailio.output(), "hep-first")
	})
	if answer, _ := a.ask(request("OPTIONS", "sip:600@edge.example", "1001", "hep-udp", a.addr), 2*time.Second); !strings.Contains(answer, " 200 ") {
		t.Fatalf("answer %q", answer)
	}
	seen("OPTIONS", "hep-udp", a.addr, edge)
	seen("OPTIONS", "hep-udp", edge, farm.addr)
	seen("200", "hep-udp", farm.addr, edge)
	seen("200", "hep-udp", edge, a.addr)

	c, err := tls.Dial("tcp", secure.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	phone := netip.MustParseAddrPort(c.LocalAddr().String())
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, strings.Replace(request("OPTIONS", "sip:600@edge.example", "1001", "hep-tls", phone), "SIP/2.0/UDP", "SIP/2.0/TLS", 1))
	b := make([]byte, 4096)
	if n, err := c.Read(b); err != nil || !strings.Contains(string(b[:n]), " 200 ") {
		t.Fatalf("over TLS: %v %q", err, b[:n])
	}
	seen("OPTIONS", "hep-tls", phone, secure)
	seen("OPTIONS", "hep-tls", edge, farm.addr)
	seen("200", "hep-tls", secure, phone)
	t.Logf("Kamailio decoded %d messages", strings.Count(kamailio.output(), "HEP>"))
}
