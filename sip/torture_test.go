package sip

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// torture tells what becomes of each request of RFC 4475: "" is forwarded, a code is answered. Responses are dropped, since their
// top Via is not ours.
var torture = map[string]string{
	"wsinv":   "403", // its preloaded Route is a stranger's; without it: TestTortureForward
	"intmeth": "", "esc01": "", "escnull": "", "esc02": "", "lwsdisp": "", "longreq": "", "dblreq": "", "semiuri": "", "transports": "",
	"mpart01":  "403",  // likewise
	"badinv01": "drop", // its top Via cannot be read, so there is nowhere to answer to
	"clerr":    "400", "ncl": "400", "scalar02": "400", "quotbal": "400", "ltgtruri": "400", "lwsruri": "400", "lwsstart": "400", "trws": "400",
	"escruri": "400", "baddate": "", "regbadct": "400", "badaspec": "400", "baddn": "400", "badvers": "505", "mismatch01": "400", "mismatch02": "400",
	"badbranch": "", "insuf": "400", "unkscm": "416", "novelsc": "416", "unksm2": "", "bext01": "420", "invut": "", "regaut01": "", "multi01": "400",
	"mcl01": "400", "zeromf": "483", "cparam01": "", "cparam02": "", "regescrt": "", "sdp01": "", "inv2543": "",
	"unreason": "drop", "noreason": "drop", "scalarlg": "drop", "bigcode": "drop", "bcast": "drop",
}

func TestTorture(t *testing.T) {
	files, _ := filepath.Glob("testdata/rfc4475/*.dat")
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".dat")
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		want, known := torture[name]
		if !known {
			t.Errorf("%s: no verdict", name)
			continue
		}
		r := newRig(t, Config{})
		out := r.putOn(0, 5, phone, string(b))
		switch {
		case want == "drop":
			if len(out) != 0 || len(r.drops()) == 0 {
				t.Errorf("%s: sent %v, counted %v", name, out, r.drops())
			}
		case want == "":
			if len(out) != 1 || out[0].to.Addr.String() != node1 {
				t.Errorf("%s: not forwarded: %v, drops %v", name, out, r.drops())
			}
		case len(out) != 1 || !strings.HasPrefix(out[0].text, "SIP/2.0 "+want+" "):
			t.Errorf("%s: want %s, got %v, drops %v", name, want, out, r.drops())
		}
	}
}

// TestTortureForward: the valid requests leave unchanged but for what a proxy adds; taking that off again gives the message back.
func TestTortureForward(t *testing.T) {
	for _, name := range []string{"wsinv", "intmeth", "esc01", "escnull", "esc02", "lwsdisp", "longreq", "dblreq", "semiuri", "transports", "mpart01"} {
		b, err := os.ReadFile("testdata/rfc4475/" + name + ".dat")
		if err != nil {
			t.Fatal(err)
		}
		in := string(b)
		if name == "wsinv" {
			in = strings.Replace(in, "Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n", "", 1)
		}
		if name == "mpart01" {
			in = strings.Replace(in, "Route: <sip:127.0.0.1:5080>\r\n", "", 1)
		}
		in = strings.Replace(in, " ;   tag    = 1918181833n", "", 1) // nor is it in a dialog of ours
		r := newRig(t, Config{})
		got := r.one(r.putOn(0, 5, phone, in), node1)
		m := parse(t, in)
		in = string(m.Bytes())
		fields, kept := parse(t, got).Fields(), ""
		at := int(fields[0].Start)
		kept = got[:at]
		for _, f := range fields {
			line := got[f.Start:f.End]
			at = int(f.End)
			if f.Kind == message.Internal || (f.Kind == message.RecordRoute || f.Kind == message.ViaField || f.Kind == message.Path) && strings.Contains(line, ";vb=") ||
				line == "Supported: path\r\n" {
				continue
			}
			kept += line
		}
		got = kept + got[at:]
		got = strings.Replace(got, "=5070;received=127.0.2.1", "", 1)
		got = strings.Replace(got, ";received=127.0.2.1", "", 1)
		f := m.First(message.MaxForwards)
		in = in[:f.Val] + strconv.Itoa(m.MaxForwards()-1) + in[f.ValEnd:]
		if got != in {
			t.Errorf("%s changed:\n%q\n%q", name, got, in)
		}
	}
}

// TestTortureResponses: the valid responses pass when our Via stands on top.
func TestTortureResponses(t *testing.T) {
	r := newRig(t, Config{})
	via := lines(r.one(r.put(phone, invite("")), node1), "Via")[0]
	for _, name := range []string{"unreason", "noreason"} {
		b, err := os.ReadFile("testdata/rfc4475/" + name + ".dat")
		if err != nil {
			t.Fatal(err)
		}
		start, rest, _ := strings.Cut(string(b), "\r\n")
		if got := r.one(r.putOn(0, 0, node1, start+"\r\nVia: "+via+"\r\n"+rest), phone); got != string(parse(t, string(b)).Bytes()) {
			t.Errorf("%s changed:\n%s", name, got)
		}
	}
}

// FuzzHandle: whatever comes, nobody crashes, and what leaves can be read.
func FuzzHandle(f *testing.F) {
	files, _ := filepath.Glob("testdata/rfc4475/*.dat")
	for _, name := range files {
		b, _ := os.ReadFile(name)
		f.Add(b, false)
	}
	r := newRig(&testing.T{}, Config{Media: &fakeMedia{}, Farms: farms(node1, node2)})
	req := r.putOn(0, 0, phone, r.text(invite(sdp)))
	f.Add([]byte(r.text(invite(sdp))), false)
	f.Add([]byte(answer(req[0].text, 200, "x", sdp)), true)
	f.Add([]byte(strings.Replace(r.text(invite("Route: "+lines(req[0].text, "Record-Route")[0]+"\n")), ">\r\nCall-ID", ">;tag=x\r\nCall-ID", 1)), true)
	again := new(message.Message)
	f.Fuzz(func(t *testing.T, b []byte, inside bool) {
		from := phone
		if inside {
			from = node1
		}
		r.sent = nil
		raw := append([]byte(nil), b...)
		r.p.Handle(&transport.Message{Bytes: raw, From: parseAddr(from), Listener: r.ls[0]})
		for _, q := range r.p.queues {
			for len(q.jobs) > 0 { // names are not asked for: a resolver is not what is tested
				<-q.jobs
				q.pending.Add(-1)
			}
		}
		for _, s := range r.sent {
			if fault := again.Parse([]byte(s.text)); fault != message.FaultNone && !strings.HasPrefix(s.text, "SIP/2.0 ") {
				t.Fatalf("%v leaves:\n%s\nwas:\n%s", fault, s.text, b)
			}
		}
	})
}
