package recovery

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

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
		// Where nothing of one dialog and not the BYE of the other is left nothing tells; the far end then answers 481, which closes the leg.
		if n := len(read2(left, func(f fields) bool { return f.to.tag == full.Remote.Tag && f.status/100 != 1 || f.cseqMethod == "BYE" })); n == 0 {
			return
		}
		wrong("of the forked dialogs that with the tag", d.Remote.Tag, full.Remote.Tag)
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
