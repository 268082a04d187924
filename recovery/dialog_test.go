package recovery

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the plays' endings anew; read the diff")

var (
	nodeAddr  = netip.MustParseAddrPort("127.0.0.11:5080")
	edgeAddr  = netip.MustParseAddrPort("127.0.0.1:5069")
	firstAddr = netip.MustParseAddrPort("127.0.0.14:5080") // of another farm node
	phoneAddr = netip.MustParseAddrPort("192.0.2.7:5060")
)

// sipPlay is one scenario: lines of `TIME WHERE START | Header: value`, then ---- and what Rebuild says. WHERE is in or out (node's side), in2 or out2
// (another farm node's), < or > (far end's side). $N and $P are the node's and the far end's name-addr; From and To follow from WHERE where they are not written.
type sipPlay struct {
	name, text, want string
	ev               Evidence
}

func loadPlays(t testing.TB, file string) []sipPlay {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var plays []sipPlay
	for part := range strings.SplitSeq("\n"+string(b), "\n== ") {
		name, rest, ok := strings.Cut(part, "\n")
		if !ok || strings.TrimSpace(part) == "" || strings.HasPrefix(part, "\n#") {
			continue
		}
		text, want, _ := strings.Cut(rest, "\n----\n")
		plays = append(plays, sipPlay{name, text, strings.TrimSpace(want), parsePlay(t, text)})
	}
	return plays
}

func parsePlay(t testing.TB, text string) Evidence {
	t.Helper()
	ev := Evidence{CallID: "c1@example", Node: []netip.AddrPort{nodeAddr}, Farm: []netip.AddrPort{firstAddr}}
	node := nodeAddr
	vars := map[string]string{"N": "<sip:600@example.com>;tag=node", "P": "<sip:1001@example.com>;tag=phone"}
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		switch word, value, _ := strings.Cut(line, " "); word {
		case "lossy":
			ev.Lossy = true
			continue
		case "record": // what the call's record says: ROLE, and the URI that the node called
			ev.Role, ev.URI, _ = strings.Cut(value, " ")
			continue
		case "node": // another address than nodeAddr
			node = netip.MustParseAddrPort(value)
			ev.Node = []netip.AddrPort{node}
			continue
		}
		if name, value, ok := strings.Cut(line, " = "); ok && len(name) == 1 {
			vars[name] = value
			continue
		}
		parts := strings.Split(line, " | ")
		w := strings.Fields(parts[0])
		seconds, err := strconv.ParseFloat(w[0], 64)
		if err != nil || len(w) < 4 {
			t.Fatalf("play line %q", line)
		}
		m := Message{Time: time.Unix(1_800_000_000, 0).UTC().Add(time.Duration(seconds * 1e9)).Round(time.Millisecond)}
		fromPhone := true
		switch w[1] {
		case "in":
			m.Source, m.Destination = edgeAddr, node
		case "out":
			m.Source, m.Destination, fromPhone = node, edgeAddr, false
		case "in2":
			m.Source, m.Destination = edgeAddr, firstAddr
		case "out2":
			m.Source, m.Destination, fromPhone = firstAddr, edgeAddr, false
		case "<":
			m.Source, m.Destination = phoneAddr, edgeAddr
		case ">":
			m.Source, m.Destination, fromPhone = edgeAddr, phoneAddr, false
		}
		start, cseq := w[2]+" sip:x@example.com SIP/2.0", w[3]+" "+w[2]
		if _, err := strconv.Atoi(w[2]); err == nil {
			start, cseq, fromPhone = "SIP/2.0 "+w[2]+" Text", w[3]+" "+w[4], !fromPhone
		}
		from, to := vars["N"], vars["P"]
		if fromPhone {
			from, to = to, from
		}
		var head strings.Builder
		body := ""
		for _, h := range parts[1:] {
			for name, value := range vars {
				h = strings.ReplaceAll(h, "$"+name, value)
			}
			switch name, value, _ := strings.Cut(h, ": "); name {
			case "From":
				from = value
			case "To":
				to = value
			case "o":
				body = "v=0\r\no=- " + value + " IN IP4 127.0.0.11\r\ns=-\r\nt=0 0\r\n"
				head.WriteString("Content-Type: application/sdp\r\n")
			default:
				head.WriteString(h + "\r\n")
			}
		}
		m.Raw = fmt.Sprintf("%s\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: %s\r\nTo: %s\r\nCall-ID: c1@example\r\nCSeq: %s\r\n%sContent-Length: %d\r\n\r\n%s",
			start, from, to, cseq, head.String(), len(body), body)
		ev.Messages = append(ev.Messages, m)
	}
	return ev
}

func describe(d Dialog, err error) string {
	if r := (*Refusal)(nil); errors.As(err, &r) {
		return "refused: " + r.Error()
	}
	var sb strings.Builder
	for _, p := range []struct {
		who string
		p   Party
	}{{"local ", d.Local}, {"remote", d.Remote}} {
		fmt.Fprintf(&sb, "%s [%s] <%s> tag=%s\n", p.who, p.p.Display, p.p.URI, p.p.Tag)
	}
	fmt.Fprintf(&sb, "role %s  cseq %d  remote cseq %d%s\ntarget %s\n", d.Role, d.CSeq, d.RemoteCSeq, map[bool]string{true: "  pending"}[d.Pending], d.Target)
	for _, r := range d.Routes {
		fmt.Fprintf(&sb, "route %s\n", r)
	}
	if d.SDPSession != 0 {
		fmt.Fprintf(&sb, "sdp %d %d\n", d.SDPSession, d.SDPVersion)
	}
	return strings.TrimSpace(sb.String())
}

func testPlays(t *testing.T, file string) {
	plays := loadPlays(t, file)
	if len(plays) == 0 {
		t.Fatal("no plays")
	}
	var out strings.Builder
	for _, p := range plays {
		got := describe(Rebuild(p.ev))
		fmt.Fprintf(&out, "== %s\n%s\n----\n%s\n\n", p.name, p.text, got)
		t.Run(p.name, func(t *testing.T) {
			if !*update && got != p.want {
				t.Errorf("got\n%s\nwant\n%s", got, p.want)
			}
			scrambled(t, p)
		})
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.TrimSuffix(out.String(), "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// scrambled wants the same from any order of arrival and with every message captured twice, once with a clock of milliseconds as Asterisk's.
func scrambled(t *testing.T, p sipPlay) {
	t.Helper()
	want := describe(Rebuild(p.ev))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		ev := p.ev
		ev.Messages = append([]Message(nil), p.ev.Messages...)
		for _, m := range p.ev.Messages {
			if rng.IntN(2) == 0 {
				m.Time = m.Time.Add(time.Duration(rng.IntN(400)) * time.Microsecond)
				ev.Messages = append(ev.Messages, m)
			}
		}
		rng.Shuffle(len(ev.Messages), func(i, j int) { ev.Messages[i], ev.Messages[j] = ev.Messages[j], ev.Messages[i] })
		if got := describe(Rebuild(ev)); got != want {
			t.Fatalf("scrambled: got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestB46OnlyConfirmedDialogs(t *testing.T) { testPlays(t, "testdata/b46.txt") }

func TestB47LocalAndRemoteByAddressAndTags(t *testing.T) { testPlays(t, "testdata/b47.txt") }

func TestB48RightInAllCases(t *testing.T) { testPlays(t, "testdata/b48.txt") }

// TestF34ForgedMessages: what a stranger can bring into the capture makes a refusal, or no difference; it never leads a dialog to him.
func TestF34ForgedMessages(t *testing.T) {
	testPlays(t, "testdata/f34.txt")
	for _, p := range loadPlays(t, "testdata/f34.txt") {
		if d, err := Rebuild(p.ev); err == nil && strings.Contains(describe(d, err), "203.0.113.9") {
			t.Errorf("%s: the dialog leads to the stranger", p.name)
		}
	}
}

// TestF3AnyMoment: the node that takes a dialog over dies after each message of its exchange, whether the record has moved to it or not. The next one
// goes on with a number that nobody used, at the far end's newest address.
func TestF3AnyMoment(t *testing.T) {
	exchange := []string{
		"10 out2 INVITE %d | Contact: <sip:127.0.0.14:5080> | o: 11 12", "10.1 in2 100 %d INVITE", "10.2 in2 200 %d INVITE | Contact: <sip:1001@192.0.2.8:5060>",
		"10.3 out2 ACK %d", "11 in2 INFO 77", "11.1 out2 200 77 INFO", "12 out2 OPTIONS %d", "12.1 in2 200 %d OPTIONS",
	}
	for _, file := range []string{"confirmed, the node was called", "confirmed, the node called"} {
		before := playOf(t, "testdata/b46.txt", file)
		was, err := Rebuild(before)
		if err != nil {
			t.Fatal(err)
		}
		vars := "N = <" + was.Local.URI + ">;tag=node\nP = <" + was.Remote.URI + ">;tag=phone\n"
		for upTo := range len(exchange) + 1 {
			text, used := vars, was.CSeq-1
			for i, line := range exchange[:upTo] {
				cseq := was.CSeq
				if i >= 6 {
					cseq++
				}
				if strings.Contains(line, "%d") {
					line, used = fmt.Sprintf(line, cseq), cseq
				}
				text += line + "\n"
			}
			for _, moved := range []bool{false, true} {
				ev := before
				ev.Messages = append(slices.Clone(before.Messages), parsePlay(t, text).Messages...)
				if moved {
					ev.Node, ev.Farm = []netip.AddrPort{firstAddr}, []netip.AddrPort{nodeAddr}
				}
				d, err := Rebuild(ev)
				if moved && upTo == 0 {
					if err == nil {
						t.Errorf("%s: the new node never spoke, and has the dialog", file)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s, %d messages, moved %v: %v", file, upTo, moved, err)
					continue
				}
				if d.CSeq != used+1 || d.Local != was.Local || d.Remote != was.Remote || !reflect.DeepEqual(d.Routes, was.Routes) || d.Role != was.Role {
					t.Errorf("%s, %d messages, moved %v: CSeq %d after %d\n%s", file, upTo, moved, d.CSeq, used, describe(d, nil))
				}
				if pending := upTo == 1 || upTo == 2; d.Pending != pending {
					t.Errorf("%s, %d messages: pending %v", file, upTo, d.Pending)
				}
				if want := "sip:1001@192.0.2.8:5060"; upTo >= 3 && d.Target != want {
					t.Errorf("%s, %d messages: target %s, want %s", file, upTo, d.Target, want)
				}
			}
		}
	}
}

// TestF3HomerAloneAgainAndAgain: a call dies with one node after the other, and only a capture that may lose messages knows it. Each recovery leaves
// numbers out, and one that was tried before some more; no number and no version of the SDP is used twice.
func TestF3HomerAloneAgainAndAgain(t *testing.T) {
	for _, name := range []string{"confirmed, the node was called", "confirmed, the node called"} {
		ev := playOf(t, "testdata/b46.txt", name)
		ev.Lossy = true
		was, err := Rebuild(ev)
		if err != nil {
			t.Fatal(err)
		}
		vars := "N = <" + was.Local.URI + ">;tag=node\nP = <" + was.Remote.URI + ">;tag=phone\n"
		next := was
		for crash := range 6 {
			dir, contact := "", fmt.Sprintf("sip:1001@192.0.2.%d:5060", 10+crash)
			ev.Node, ev.Farm = []netip.AddrPort{nodeAddr}, []netip.AddrPort{firstAddr}
			if crash%2 == 0 {
				dir = "2"
				ev.Node, ev.Farm = ev.Farm, ev.Node
			}
			at, cseq := 10*(crash+1), next.CSeq+uint32(crash) // leg.go adds the leg's generation
			ev.Messages = append(ev.Messages, parsePlay(t, vars+fmt.Sprintf("%d out%s INVITE %d | o: %d %d\n%d.1 in%s 200 %d INVITE | Contact: <%s>\n%d.2 out%s ACK %d\n%d out%s INFO %d\n%d.1 in%s 200 %d INFO\n",
				at, dir, cseq, next.SDPSession, next.SDPVersion, at, dir, cseq, contact, at, dir, cseq, at+1, dir, cseq+1, at+1, dir, cseq+1)).Messages...)
			d, err := Rebuild(ev)
			if err != nil {
				t.Fatalf("%s, crash %d: %v", name, crash+2, err)
			}
			if d.CSeq <= cseq+1 || d.SDPSession != next.SDPSession || d.SDPVersion <= next.SDPVersion || d.Target != contact || d.Local != was.Local || d.Remote != was.Remote || d.Role != was.Role {
				t.Fatalf("%s, crash %d: after %d\n%s", name, crash+2, cseq+1, describe(d, nil))
			}
			next = d
		}
	}
}

// TestB48Truncated cuts every message of every play at every byte: what is between node and edge is then a refusal, or makes no difference.
func TestB48Truncated(t *testing.T) {
	files, err := filepath.Glob("testdata/b4*.txt")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for _, p := range loadPlays(t, file) {
			full, fullErr := Rebuild(p.ev)
			for i, m := range p.ev.Messages {
				for cut := 0; cut < len(m.Raw); cut += 3 {
					ev := p.ev
					ev.Messages = append([]Message(nil), p.ev.Messages...)
					ev.Messages[i].Raw = m.Raw[:cut]
					d, err := Rebuild(ev)
					if err == nil && (fullErr != nil || !reflect.DeepEqual(d, full)) {
						t.Fatalf("%s: message %d cut at %d gives\n%s\nwhole it gives\n%s", p.name, i, cut, describe(d, err), describe(full, fullErr))
					}
				}
			}
		}
	}
}

// FuzzB48Captures drops, doubles, shuffles and cuts: never another dialog than the one that the messages which are left can tell.
func FuzzB48Captures(f *testing.F) {
	files, _ := filepath.Glob("testdata/b4*.txt")
	var plays []sipPlay
	for _, file := range files {
		plays = append(plays, loadPlays(f, file)...)
	}
	for i := range plays {
		f.Add(uint16(i), uint64(i), uint8(0), uint8(3), uint8(3))
		f.Add(uint16(i), uint64(i)*7, uint8(150), uint8(0), uint8(0))
	}
	f.Fuzz(func(t *testing.T, which uint16, seed uint64, lose, double, cut uint8) {
		p := plays[int(which)%len(plays)]
		rng := rand.New(rand.NewPCG(seed, 9))
		var whole, all []Message // what is left: uncut, and with copies that are cut
		for _, m := range p.ev.Messages {
			if uint8(rng.IntN(255)) < lose {
				continue
			}
			whole, all = append(whole, m), append(all, m)
			if uint8(rng.IntN(255)) < double {
				all = append(all, m)
			}
			if uint8(rng.IntN(255)) < cut {
				m.Raw = m.Raw[:rng.IntN(len(m.Raw))]
				all = append(all, m)
			}
		}
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		ev := p.ev
		ev.Messages, ev.Lossy = all, lose > 0 || p.ev.Lossy
		d, err := Rebuild(ev)
		judge(t, p, whole, d, err, lose > 0)
	})
}

// judge compares what was made of the messages that are left of a play with the whole of it. It reads them by itself, and knows nothing of how Rebuild does.
func judge(t *testing.T, p sipPlay, left []Message, d Dialog, err error, lost bool) {
	t.Helper()
	if err != nil {
		return
	}
	wrong := func(what string, got, want any) {
		t.Helper()
		var text strings.Builder
		for _, m := range left {
			start, _, _ := strings.Cut(m.Raw, "\r\n")
			fmt.Fprintf(&text, "  %v %s\n", m.Time.Format("05.000"), start)
		}
		t.Fatalf("%s: %s is %v, want %v\n%s\nof\n%s", p.name, what, got, want, describe(d, nil), text.String())
	}
	full, fullErr := Rebuild(p.ev)
	if r := (*Refusal)(nil); errors.As(fullErr, &r) {
		switch r.Reason {
		case ReasonEnded: // none of the BYE and its answer is left
			if n := len(read2(left, func(f fields) bool { return f.cseqMethod == "BYE" })); n == 0 && lost {
				return
			}
		case ReasonHole, ReasonConflict, ReasonAmbiguous, ReasonCSeq: // what contradicts is not left
			if lost {
				return
			}
		}
		wrong("the whole play's end", "a dialog", fullErr)
	}
	if lost && strings.HasPrefix(p.name, "forked") && d.Remote.Tag != full.Remote.Tag {
		return // where one 2xx and the BYE to the other are lost nothing tells; the far end then answers 481, which closes the leg
	}
	if d.Local != full.Local || d.Remote != full.Remote || d.CallID != full.CallID || d.Role != full.Role || !reflect.DeepEqual(d.Routes, full.Routes) {
		wrong("who and where", describe(d, nil), describe(full, nil))
	}
	if !lost {
		if !reflect.DeepEqual(d, full) {
			wrong("the dialog", describe(d, nil), describe(full, nil))
		}
		return
	}
	next := full
	if p.ev.Lossy { // what was used, without the distance
		next.CSeq, next.SDPVersion = next.CSeq-lossyCSeq, next.SDPVersion-lossySDP
	}
	if d.CSeq < next.CSeq || d.RemoteCSeq > next.RemoteCSeq {
		wrong("CSeq", d.CSeq, next.CSeq)
	}
	if d.SDPSession == next.SDPSession && d.SDPVersion < next.SDPVersion {
		wrong("the SDP version", d.SDPVersion, next.SDPVersion)
	}
	if want := newestContact(p, left, full); d.Target != want {
		wrong("the target", d.Target, want)
	}
}

func read2(list []Message, match func(fields) bool) (out []fields) {
	for _, m := range list {
		if f, err := parse(m.Raw); err == nil && match(f) {
			out = append(out, f)
		}
	}
	return out
}

// newestContact is the far end's newest Contact of which any message is left: that of its INVITEs and UPDATEs which the play has accepted, and of its 2xx to
// those of the node.
func newestContact(p sipPlay, left []Message, full Dialog) string {
	type key struct {
		cseq   uint32
		method string
		tag    string
	}
	is := func(f fields) (key, bool) {
		return key{f.cseq, f.cseqMethod, f.from.tag}, f.cseqMethod == "INVITE" || f.cseqMethod == "UPDATE"
	}
	accepted, seen := map[key]bool{}, map[key]bool{}
	read2(p.ev.Messages, func(f fields) bool {
		k, ok := is(f)
		if ok && f.status/100 == 2 && (f.to.tag == full.Remote.Tag || f.to.tag == full.Local.Tag) {
			accepted[k] = true
		}
		return false
	})
	read2(left, func(f fields) bool {
		if k, ok := is(f); ok && (f.method != "" || f.status/100 == 2) {
			seen[k] = true
		}
		return false
	})
	var theirs, ours struct { // in either direction the numbers are the order, between the two it is the time
		cseq    uint32
		contact string
		at      time.Time
	}
	for _, m := range p.ev.Messages {
		f, err := parse(m.Raw)
		k, ok := is(f)
		if err != nil || !ok || m.Source == phoneAddr || m.Destination == phoneAddr || !accepted[k] || f.contact == "" || !seen[k] {
			continue
		}
		newest := &ours
		switch {
		case f.method != "" && f.from.tag == full.Remote.Tag && (f.to.tag != "" || sameRoutes(f.routes, full.Routes)):
			newest = &theirs
		case f.status/100 != 2 || f.from.tag != full.Local.Tag || f.to.tag != full.Remote.Tag:
			continue
		}
		if newest.contact == "" || f.cseq > newest.cseq {
			newest.cseq, newest.contact, newest.at = f.cseq, f.contact, m.Time
		}
	}
	if theirs.contact == "" || ours.contact != "" && ours.at.After(theirs.at) {
		return ours.contact
	}
	return theirs.contact
}

// TestB48Parse: what is refused because two readers could take it in two ways, and what is not.
func TestB48Parse(t *testing.T) {
	head := "INVITE sip:x SIP/2.0\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n"
	for add, want := range map[string]error{
		"": nil, "Contact: \r\n": nil, "Record-Route:\r\n": nil, "Contact: *\r\n": nil, "Content-Type: \r\n": nil, "X-Any:\r\n": nil, "Contact: <sip:a@b>\r\nm: <sip:c@d>\r\n": nil,
		"Call-ID: i\r\n": errTwice, "i: j\r\n": errTwice, "f: <sip:a@b>\r\n": errTwice, "t: <sip:a@b>\r\n": errTwice, "CSeq: 1 INVITE\r\n": errTwice,
		"Content-Type: a\r\nc: b\r\n": errTwice, "l: 0\r\nContent-Length: 0\r\n": errTwice,
		"Contact: x\r\n": errField, "no colon\r\n": errField, "Content-Length: x\r\n": errField, "Content-Length: 5\r\n": errCut,
	} {
		if _, err := parse(head + add + "\r\nabc"); !errors.Is(err, want) || err != nil && want == nil {
			t.Errorf("%q: %v, want %v", add, err, want)
		}
	}
	for _, cut := range []string{"From: <sip:a@b>;tag=1\r\n", "To: <sip:c@d>\r\n", "Call-ID: i\r\n", "CSeq: 1 INVITE\r\n"} {
		if _, err := parse(strings.Replace(head, cut, "", 1) + "\r\n"); !errors.Is(err, errMissing) {
			t.Errorf("without %q: %v", cut, err)
		}
	}
}

// FuzzParse wants no panic, and of what is read that it can stand in a variable of the channel.
func FuzzParse(f *testing.F) {
	for _, p := range loadPlays(f, "testdata/b48.txt") {
		for _, m := range p.ev.Messages {
			f.Add(m.Raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw string) {
		m, err := parse(raw)
		if err != nil {
			return
		}
		for _, text := range []string{m.from.uri, m.to.uri, m.from.tag, m.to.tag, m.from.display, m.to.display, m.contact} {
			if control(text) {
				t.Fatalf("control character in %q", text)
			}
		}
	})
}

// BenchmarkRebuild is what a dialog takes whose messages were captured on both sides of the edge, with a farm of four.
func BenchmarkRebuild(b *testing.B) {
	var ev Evidence
	for _, p := range loadPlays(b, "testdata/b48.txt") {
		if p.name == "re-INVITE, INFO, UPDATE and OPTIONS of the far end, the node called" {
			ev = p.ev
		}
	}
	for _, m := range ev.Messages {
		m.Source, m.Destination = phoneAddr, edgeAddr
		ev.Messages = append(ev.Messages, m)
	}
	for n := range byte(2) {
		ev.Farm = append(ev.Farm, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 20 + n}), 5080))
	}
	b.ReportMetric(float64(len(ev.Messages)), "messages")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Rebuild(ev); err != nil {
			b.Fatal(err)
		}
	}
}
