//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// phone is one run of baresip: it places a call, sends a tone, and records what comes back.
type phone struct {
	server    netip.AddrPort // registrar and proxy, or the called program itself
	transport string         // udp, tcp, tls
	user      string
	password  string
	register  bool
	codec     codec
	srtp      string // baresip's mediaenc: "", "srtp", "srtp-mand", "dtls_srtp"
	ice       bool
	seconds   float64
}

// codec is what baresip needs to be told about one.
type codec struct {
	name   string // as in SDP
	spec   string // as in audio_codecs=
	module string
	rate   int // of the sound file that feeds it
}

var (
	pcmu = codec{"PCMU", "pcmu/8000/1", "g711", 8000}
	pcma = codec{"PCMA", "pcma/8000/1", "g711", 8000}
	g722 = codec{"G722", "g722/16000/1", "g722", 16000}
	opus = codec{"opus", "opus/48000/2", "opus", 48000}
)

const baresipModules = "/usr/lib/baresip/modules"

// A baresipFolder is what baresip -f reads. What it hears is recorded in the folder out.
type baresipFolder struct {
	dir               string
	host              netip.Addr
	in, out           string // the sound it plays, the folder of what it heard
	hangUpAfter       int    // seconds without an answer
	account, contacts string
	modules, apps     []string
	more              string
}

func (f baresipFolder) write(t *testing.T) {
	t.Helper()
	config := fmt.Sprintf(`poll_method epoll
net_interface %[1]s
sip_listen %[1]s:5060
call_local_timeout %[5]d
audio_source aufile,%[2]s
audio_player none
audio_alert none
audio_buffer 20-160
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
rtp_ports 34000-34999
jitter_buffer_delay 1-10
snd_path %[3]s
module_path %[4]s
`, f.host, f.in, f.out, baresipModules, f.hangUpAfter) + f.more
	for _, m := range f.modules {
		config += "module " + m + ".so\n"
	}
	config += "module_tmp account.so\n"
	for _, m := range f.apps {
		config += "module_app " + m + ".so\n"
	}
	if err := os.Mkdir(f.out, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"config": config, "accounts": f.account + "\n", "contacts": f.contacts} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// call runs baresip until its sound file has been played, which ends the call with a BYE, and returns what it heard.
// There is no player: the recorder is a filter ahead of it, and a player's clock would only add its own faults.
func (ph phone) call(t *testing.T, number string, during func()) (recording, *process) {
	t.Helper()
	program := need(t, "baresip")
	host, dir := newHost(), t.TempDir()
	in, out := filepath.Join(dir, "in.wav"), filepath.Join(dir, "heard")
	if err := writeTone(in, ph.codec.rate, toneHz, ph.seconds); err != nil {
		t.Fatal(err)
	}
	modules := []string{ph.codec.module, "sndfile", "aufile"}
	account := fmt.Sprintf("<sip:%s@%s;transport=%s>;audio_codecs=%s;regint=0", ph.user, ph.server, ph.transport, ph.codec.spec)
	if ph.register {
		account = strings.Replace(account, "regint=0", "regint=60", 1)
	}
	if ph.password != "" {
		account += ";auth_pass=" + ph.password
	}
	if ph.srtp != "" {
		if modules = append(modules, "srtp"); ph.srtp == "dtls_srtp" {
			modules[len(modules)-1] = ph.srtp
		}
		account += ";mediaenc=" + ph.srtp
	}
	if ph.ice {
		modules = append(modules, "ice")
		account += ";medianat=ice"
	}
	baresipFolder{
		dir: dir, host: host, in: in, out: out, hangUpAfter: 20, account: account, contacts: "\n", modules: modules, apps: []string{"menu"},
		more: "opus_stereo no\nopus_sprop_stereo no\nopus_application voip\n",
	}.write(t)
	p := launch(t, "baresip", program, "-4", "-f", dir, "-e", "/dial sip:"+number+"@"+ph.server.String())
	if err := p.says("Call established", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		time.Sleep(time.Second) // of media, so that there is something to be seen
		during()
	}
	if err := p.says("terminated (duration", time.Duration(ph.seconds*float64(time.Second))+10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(out, "*-dec.wav"))
	if err != nil || len(files) != 1 {
		t.Fatalf("baresip recorded %v, %v", files, err)
	}
	heard, err := readWAV(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return heard, p
}

// echoed judges the tone that came back and fails below the bound.
func echoed(t *testing.T, what string, heard recording, minSNR float64) {
	t.Helper()
	q, err := heard.judge(toneHz)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %s", what, q)
	if q.snr < minSNR {
		t.Errorf("%s: SNR %.1f dB, want at least %.0f", what, q.snr, minSNR)
	}
	if q.whole < 0.9 {
		t.Errorf("%s: only %.0f %% of the audio is whole, want 90 %%", what, 100*q.whole)
	}
	if q.level < -12 || q.level > -6 {
		t.Errorf("%s: the tone came back at %.1f dBFS, it left at -9", what, q.level)
	}
}

// TestPeersByThemselves calls Asterisk's Echo without an edge in between: what the peers and the measuring are worth.
func TestPeersByThemselves(t *testing.T) {
	a := startAsterisk(t, "ulaw,alaw,g722,opus")
	for _, tc := range []struct {
		codec  codec
		minSNR float64
	}{{pcmu, 35}, {pcma, 35}, {g722, 30}, {opus, 20}} {
		t.Run(tc.codec.name, func(t *testing.T) {
			t.Parallel()
			ph := phone{server: a.SIP, transport: "udp", user: "1001", codec: tc.codec, seconds: 4}
			heard, _ := ph.call(t, "600", nil)
			echoed(t, tc.codec.name, heard, tc.minSNR)
		})
	}
}
