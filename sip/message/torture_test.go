package message

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// torture tells what each message of RFC 4475 is to a proxy. FaultNone with a comment is a message that only a user
// agent could object to.
var torture = map[string]Fault{
	// 3.1.1 valid
	"wsinv": FaultNone, "intmeth": FaultNone, "esc01": FaultNone, "escnull": FaultNone, "esc02": FaultNone,
	"lwsdisp": FaultNone, "longreq": FaultNone, "dblreq": FaultNone, "semiuri": FaultNone, "transports": FaultNone,
	"mpart01": FaultNone, "unreason": FaultNone, "noreason": FaultNone,
	// 3.1.2 invalid
	"badinv01": FaultVia, "clerr": FaultLength, "ncl": FaultLength, "scalar02": FaultCSeq, "scalarlg": FaultCSeq,
	"quotbal": FaultAddress, "ltgtruri": FaultStartLine, "lwsruri": FaultStartLine, "lwsstart": FaultStartLine,
	"trws": FaultStartLine, "escruri": FaultURI,
	"baddate":  FaultNone, // a proxy reads no Date
	"regbadct": FaultAddress, "badaspec": FaultAddress, "baddn": FaultUnfinished, "badvers": FaultVersion,
	"mismatch01": FaultCSeq, "mismatch02": FaultCSeq, "bigcode": FaultStatus,
	// 3.2 and 3.3
	"badbranch": FaultNone, // the branch falls back to RFC 2543's
	"insuf":     FaultMissing, "unkscm": FaultScheme, "novelsc": FaultScheme,
	"unksm2":   FaultNone, // unknown schemes in From, To and Contact
	"bext01":   FaultNone, // 420, by the proxy
	"invut":    FaultNone,
	"regaut01": FaultNone, // challenged anew
	"multi01":  FaultDuplicate, "mcl01": FaultDuplicate,
	"bcast":    FaultNone, // dropped: its top Via is not ours
	"zeromf":   FaultNone, // 483, by the proxy
	"cparam01": FaultNone, "cparam02": FaultNone, "regescrt": FaultNone, "sdp01": FaultNone, "inv2543": FaultNone,
}

func readTorture(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/rfc4475/*.dat")
	if err != nil || len(files) != 49 && len(files) != 48 {
		t.Fatalf("torture files: %d, %v", len(files), err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".dat")] = b
	}
	return out
}

func TestTorture(t *testing.T) {
	var m Message
	for name, b := range readTorture(t) {
		want, known := torture[name]
		if !known {
			t.Errorf("%s: no verdict", name)
		}
		if got := m.Parse(b); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if want != FaultNone && m.Request() && m.Method() != Ack && want != FaultVia && !m.Answerable() {
			t.Errorf("%s: cannot be answered", name)
		}
	}
}

func TestTortureValues(t *testing.T) {
	all := readTorture(t)
	var m Message
	m.Parse(all["wsinv"])
	if got := string(m.FromTag()) + " " + string(m.ToTag()); got != "98asjd8 1918181833n" {
		t.Errorf("wsinv tags %q", got)
	}
	if m.MaxForwards() != 68 || m.CSeq() != 9 || m.Via().Port != 0 || string(m.Via().Host) != "192.0.2.2" {
		t.Errorf("wsinv: Max-Forwards %d, CSeq %d, Via %s", m.MaxForwards(), m.CSeq(), m.Via().SentBy)
	}
	if m.Count(ViaField) != 2 || m.Count(Route) != 1 {
		t.Errorf("wsinv: %d Via, %d Route", m.Count(ViaField), m.Count(Route))
	}
	m.Parse(all["dblreq"])
	if m.Method() != Register || len(m.Bytes()) >= len(all["dblreq"]) || len(m.Body()) != 0 {
		t.Errorf("dblreq: the second request is still there")
	}
	m.Parse(all["longreq"])
	if m.Count(ViaField) != 34 {
		t.Errorf("longreq: %d Via", m.Count(ViaField))
	}
	m.Parse(all["semiuri"])
	if got := string(m.Target().User); got != "user;par=u%40example.net" {
		t.Errorf("semiuri: user %q", got)
	}
	m.Parse(all["noreason"])
	if m.Request() || m.Status() != 100 {
		t.Errorf("noreason: status %d", m.Status())
	}
}
