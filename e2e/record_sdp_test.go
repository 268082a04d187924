//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
	"rtcedge/sip/siptest"
)

// TestRecordSDP takes offers and answers from the real peers, as they come, for the golden tests of media, which then need no peer (B17, B20). Without
// -update nothing is written: what the peers say today must have the media lines, but for their ports, of what they said when it was recorded.
//
//	go test -tags 'nolibopusfile e2e' -run TestRecordSDP -update ./e2e && go test -run TestGolden -update ./media
func TestRecordSDP(t *testing.T) {
	dir := filepath.Join(root(t), "media", "testdata", "recorded")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	keep := func(t *testing.T, name string, body []byte) {
		t.Helper()
		if !strings.HasPrefix(string(body), "v=0") {
			t.Fatalf("%s: %q", name, body)
		}
		file := filepath.Join(dir, name+".sdp")
		if !*update {
			recorded, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if was, is := linesOfMedia(recorded), linesOfMedia(body); !slices.Equal(was, is) {
				t.Errorf("%s has the media lines %q, recorded are %q", name, is, was)
			}
			return
		}
		if err := os.WriteFile(file, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	record := recorder(t)
	plain := offerOf(netip.MustParseAddrPort("127.0.0.9:4000"), "0 8 9 101", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16")

	for name, settings := range map[string]string{
		"baresip": ";audio_codecs=opus/48000/2,g722/16000/1,pcmu/8000/1,pcma/8000/1", "baresip-sdes": ";audio_codecs=pcmu/8000/1;mediaenc=srtp-mand",
		"baresip-dtls-ice": ";audio_codecs=opus/48000/2,pcmu/8000/1;mediaenc=dtls_srtp;medianat=ice",
	} {
		t.Run(name, func(t *testing.T) {
			at := startBaresip(t, settings, record.ua.Local())
			keep(t, name+"-offer", record.offer(t))
			if name == "baresip" {
				keep(t, name+"-answer", record.answer(t, "sip:1001@"+at.String(), plain))
			}
		})
	}
	var asteriskOffer, asteriskAnswer []byte
	t.Run("asterisk22", func(t *testing.T) {
		a := startAsterisk(t, "opus,g722,ulaw,alaw")
		asteriskAnswer = record.answer(t, "sip:600@"+a.SIP.String(), plain)
		keep(t, "asterisk22-answer", asteriskAnswer)
		asteriskOffer = record.answer(t, "sip:600@"+a.SIP.String(), nil) // to an INVITE without one Asterisk offers (RFC 3261 section 13.2.1)
		keep(t, "asterisk22-offer", asteriskOffer)
	})
	var chromium map[string]string
	t.Run("chromium", func(t *testing.T) {
		chromium = chromiumSDP(t)
		for name, body := range chromium {
			keep(t, "chromium-"+name, []byte(body))
		}
	})
	t.Run("rtpengine26", func(t *testing.T) {
		engine := startRTPEngine(t, newHost(), newHost())
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(engine.ng))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &controller{conn: conn}
		ask := func(req ng.Request) []byte {
			t.Helper()
			resp, _ := c.must(t, &req)
			if resp.Result != ng.ResultOK {
				t.Fatalf("%s: %s", req.Command, resp.ErrorReason)
			}
			return resp.SDP
		}
		in := ng.Request{Command: ng.CmdOffer, CallID: "in", FromTag: "a", SDP: []byte(chromium["offer"]), Transport: "RTP/AVP", ICE: "remove", RTCPMux: []string{"demux"},
			Direction: [2]string{"pub", "priv"}, Replace: []string{"origin", "session-connection"},
			Codec: ng.Codec{Mask: []string{"all"}, Transcode: []string{"PCMU", "telephone-event"}}}
		keep(t, "rtpengine26-offer-of-chromium", ask(in))
		keep(t, "rtpengine26-answer-to-chromium", ask(ng.Request{Command: ng.CmdAnswer, CallID: "in", FromTag: "a", ToTag: "b", SDP: asteriskAnswer,
			Replace: []string{"origin", "session-connection"}}))
		out := ng.Request{Command: ng.CmdOffer, CallID: "out", FromTag: "a", SDP: asteriskOffer, Transport: "UDP/TLS/RTP/SAVPF", ICE: "force", RTCPMux: []string{"require"},
			Direction: [2]string{"priv", "pub"}, Replace: []string{"origin", "session-connection"}, Flags: []string{"generate-mid"}}
		keep(t, "rtpengine26-offer-of-asterisk", ask(out))
		keep(t, "rtpengine26-answer-to-asterisk", ask(ng.Request{Command: ng.CmdAnswer, CallID: "out", FromTag: "a", ToTag: "b", SDP: []byte(chromium["answer"]),
			Replace: []string{"origin", "session-connection"}}))
	})
	if !*update {
		return
	}
	peers := filepath.Join(root(t), "e2e", "peers.sh")
	versions := strings.Join([]string{peerVersion(t, peers, "run", "asterisk", "-V"), peerVersion(t, peers, "run", "rtpengine", "--version"),
		peerVersion(t, "chromium", "--version"), peerVersion(t, "dpkg-query", "-W", "baresip-core")}, "\n") + "\n"
	text := "SDP as the real peers wrote it, recorded by TestRecordSDP of e2e (go test -tags 'nolibopusfile e2e' -run TestRecordSDP -update ./e2e)\non " +
		time.Now().UTC().Format(time.DateOnly) + ". Nothing in the files is edited. The answers of rtpengine were made from the offers and answers beside them.\n\n" + versions
	if err := os.WriteFile(filepath.Join(dir, "SOURCES.txt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

var (
	mediaPort   = regexp.MustCompile(`^(m=\w+ )\d+`)
	videoCodecs = regexp.MustCompile(`^(m=video \S+ \S+) .*`)
)

// linesOfMedia are the m= lines without their ports, and without the numbers of video codecs: which of those Chromium has is the machine's affair.
func linesOfMedia(body []byte) (out []string) {
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "m=") {
			out = append(out, videoCodecs.ReplaceAllString(mediaPort.ReplaceAllString(strings.TrimRight(line, "\r\n"), "${1}*"), "$1"))
		}
	}
	return out
}

// peerVersion is the last line that a program says of itself.
func peerVersion(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// sdpRecorder is a phone that notes what it is offered and answered.
type sdpRecorder struct {
	ua     *siptest.UA
	offers chan []byte
}

func recorder(t *testing.T) *sdpRecorder {
	t.Helper()
	r := &sdpRecorder{offers: make(chan []byte, 8)}
	var err error
	r.ua, err = siptest.New(siptest.Config{User: "rec", Local: netip.AddrPortFrom(newHost(), 5060), OnCall: func(_ context.Context, in *siptest.Incoming) {
		r.offers <- in.Offer()
		_ = in.Reject(486, "Busy Here") // it was heard, that is all
	}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, "recorder", r.ua.Run)
	return r
}

func (r *sdpRecorder) offer(t *testing.T) []byte {
	t.Helper()
	select {
	case b := <-r.offers:
		return b
	case <-time.After(20 * time.Second):
		t.Fatal("no offer came")
	}
	return nil
}

func (r *sdpRecorder) answer(t *testing.T, target string, offer []byte) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	call, err := r.ua.Invite(ctx, target, offer, siptest.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = call.Hangup(ctx) }() // the answer is here
	return call.RemoteSDP()
}

// startBaresip runs a baresip that calls the target and answers whoever calls it.
func startBaresip(t *testing.T, settings string, target netip.AddrPort) netip.AddrPort {
	t.Helper()
	program, host, dir := need(t, "baresip"), newHost(), t.TempDir()
	if err := writeTone(filepath.Join(dir, "in.wav"), 8000, toneHz, 5); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("poll_method epoll\nnet_interface %[1]s\nsip_listen %[1]s:5060\naudio_source aufile,%[2]s\naudio_player none\naudio_alert none\n"+
		"rtp_ports 34000-34999\nmodule_path %[3]s\n", host, filepath.Join(dir, "in.wav"), baresipModules)
	for _, m := range []string{"opus", "g722", "g711", "aufile", "srtp", "dtls_srtp", "ice"} {
		config += "module " + m + ".so\n"
	}
	config += "module_tmp account.so\nmodule_app menu.so\n"
	account := "<sip:1001@" + target.String() + ">;regint=0;answermode=auto" + settings + "\n"
	for name, text := range map[string]string{"config": config, "accounts": account, "contacts": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	launch(t, "baresip", program, "-4", "-f", dir, "-e", "/dial sip:rec@"+target.String())
	return netip.AddrPortFrom(host, 5060)
}

// chromiumSDP lets a headless Chromium make an offer of audio, one of audio and video, and the answer to the first.
func chromiumSDP(t *testing.T) map[string]string {
	t.Helper()
	const page = `<!doctype html><script type="module">
const made = async (video) => {
  const pc = new RTCPeerConnection();
  const media = await navigator.mediaDevices.getUserMedia({audio: true, video});
  media.getTracks().forEach((track) => pc.addTrack(track, media));
  return pc;
};
const gathered = (pc) => new Promise((done) => {
  if (pc.iceGatheringState === "complete") done();
  pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && done();
});
const post = (name, text) => fetch("/sdp/" + name, {method: "POST", body: text});
try {
  const a = await made(false), b = await made(false), c = await made(true);
  await a.setLocalDescription(await a.createOffer());
  await gathered(a);
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(await b.createAnswer());
  await gathered(b);
  await c.setLocalDescription(await c.createOffer());
  await gathered(c);
  await post("offer", a.localDescription.sdp);
  await post("answer", b.localDescription.sdp);
  await post("video-offer", c.localDescription.sdp);
} catch (e) { await post("error", String(e)); }
</script>`
	got := make(chan [2]string, 4)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page)
	})
	mux.HandleFunc("POST /sdp/{name}", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		got <- [2]string{r.PathValue("name"), string(b)}
	})
	openPage(t, mux)
	bodies := map[string]string{}
	for range 3 {
		select {
		case b := <-got:
			if b[0] == "error" {
				t.Fatal(b[1])
			}
			bodies[b[0]] = b[1]
		case <-time.After(60 * time.Second):
			t.Fatal("the page says nothing in 60 s")
		}
	}
	return bodies
}
