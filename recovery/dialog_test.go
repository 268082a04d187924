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
// (another farm node's; own2 by its own capture), < or > (far end's side). $N and $P are the node's and the far end's name-addr; From and To follow from WHERE where they are not written.
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
		fromPhone, via := true, "127.0.0.1"
		switch w[1] {
		case "in":
			m.Source, m.Destination = edgeAddr, node
		case "out":
			m.Source, m.Destination, fromPhone = node, edgeAddr, false
		case "in2":
			m.Source, m.Destination = edgeAddr, firstAddr
		case "out2":
			m.Source, m.Destination, fromPhone = firstAddr, edgeAddr, false
		case "own2": // as an Asterisk on the loopback captures itself
			m.Source, m.Destination, fromPhone, via = netip.MustParseAddrPort("127.0.0.1:5080"), edgeAddr, false, firstAddr.String()
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
		m.Raw = fmt.Sprintf("%s\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK1\r\nFrom: %s\r\nTo: %s\r\nCall-ID: c1@example\r\nCSeq: %s\r\n%sContent-Length: %d\r\n\r\n%s",
			start, via, from, to, cseq, head.String(), len(body), body)
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

// TestB48Truncated cuts every message of every play at every seventh byte, beginning at another one each: what is between node and edge is then a refusal, or makes no difference.
func TestB48Truncated(t *testing.T) {
	files, err := filepath.Glob("testdata/b4*.txt")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		for n, p := range loadPlays(t, file) {
			full, fullErr := Rebuild(p.ev)
			for i, m := range p.ev.Messages {
				for cut := (n + i) % 7; cut < len(m.Raw); cut += 7 {
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
