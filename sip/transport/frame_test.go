package transport

import (
	"runtime"
	"strings"
	"testing"
)

// cutAll runs a framer over b that arrives in steps, and returns the messages and how it ended.
func cutAll(b []byte, step, limit int) (messages []string, pings int, end frameKind) {
	f := framer{max: limit}
	start := 0
	for have := min(step, len(b)); ; have = min(have+step, len(b)) {
		for {
			n, kind := f.next(b[start:have])
			switch kind {
			case frameMore:
			case frameMessage:
				messages = append(messages, string(b[start:start+n]))
			case framePing:
				pings++
			case frameBlank:
			default:
				return messages, pings, kind
			}
			start += n
			if kind == frameMore {
				break
			}
		}
		if have == len(b) {
			return messages, pings, frameMore
		}
	}
}

func TestFramer(t *testing.T) {
	head := "BYE sip:a@b SIP/2.0\r\n"
	for _, test := range []struct {
		name, in string
		want     []string
		pings    int
	}{
		{name: "plain", in: message(1, 3), want: []string{message(1, 3)}},
		{name: "two and a part", in: message(1, 3) + message(2, 0) + "INVI", want: []string{message(1, 3), message(2, 0)}},
		{name: "ping", in: "\r\n\r\n" + message(1, 0) + "\r\n\r\n", want: []string{message(1, 0)}, pings: 2},
		{name: "no ping", in: "\r\n" + message(1, 0) + "\r\n" + message(2, 0), want: []string{message(1, 0), message(2, 0)}},
		{name: "bare LF", in: "BYE sip:a@b SIP/2.0\nl:2\n\nabBYE", want: []string{"BYE sip:a@b SIP/2.0\nl:2\n\nab"}},
		{name: "compact, spaces, case", in: head + "L \t:\t 2 \r\n\r\nab", want: []string{head + "L \t:\t 2 \r\n\r\nab"}},
		{name: "folded", in: head + "CONTENT-length:\r\n  2\r\n\r\nab", want: []string{head + "CONTENT-length:\r\n  2\r\n\r\nab"}},
		{name: "fold of another field", in: head + "Subject: x\r\n Content-Length: 99\r\nl: 0\r\n\r\n", want: []string{head + "Subject: x\r\n Content-Length: 99\r\nl: 0\r\n\r\n"}},
		{name: "twice the same", in: head + "l: 1\r\nContent-Length: 1\r\n\r\na", want: []string{head + "l: 1\r\nContent-Length: 1\r\n\r\na"}},
		{name: "name that begins alike", in: head + "Content-Length-X: 9\r\nl: 0\r\n\r\n", want: []string{head + "Content-Length-X: 9\r\nl: 0\r\n\r\n"}},
	} {
		for _, step := range []int{1, 3, 1 << 20} {
			got, pings, end := cutAll([]byte(test.in), step, 1000)
			if strings.Join(got, "|") != strings.Join(test.want, "|") || pings != test.pings || end != frameMore {
				t.Errorf("%s, step %d: %q, %d pings, %v", test.name, step, got, pings, end)
			}
		}
	}
}

// FuzzFramer: however a stream is split, it is cut alike; a message is never longer than the limit, and nothing is lost.
func FuzzFramer(f *testing.F) {
	f.Add([]byte(message(1, 3)+"\r\n\r\n"+message(2, 0)), 7)
	f.Add([]byte("A\nl:\n 1\n\nx\n\nB\nl : 0\n\n"), 1)
	f.Add([]byte("A\r\nContent-Length: 5\r\n 6\r\n\r\n"), 2)
	f.Add([]byte("A\r\nl: 3\r\nl: 4\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if len(b) > 4096 {
			return
		}
		const limit = 600
		// A run of line ends is one ping at once, and one per pair when it arrives in pieces.
		one, p1, e1 := cutAll(b, max(1, step&0xff), limit)
		all, p2, e2 := cutAll(b, len(b)+1, limit)
		if strings.Join(one, "|") != strings.Join(all, "|") || p1 < p2 || (p1 > 0) != (p2 > 0) {
			t.Fatalf("in steps %q %d, at once %q %d", one, p1, all, p2)
		}
		// Cut at once, a stream may be refused later: what was left behind its last line was not looked at.
		if e1 != e2 && e1 != frameOversize && e2 != frameOversize {
			t.Fatalf("in steps %v, at once %v", e1, e2)
		}
		at := 0
		for _, m := range all {
			i := strings.Index(string(b[at:]), m)
			if i < 0 || len(m) > limit || strings.Trim(string(b[at:at+i]), "\r\n") != "" {
				t.Fatalf("%q is not what was sent", m)
			}
			at += i + len(m)
		}
	})
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

func BenchmarkFramer(b *testing.B) {
	m := []byte(message(1, 600))
	f := framer{max: 1 << 16}
	b.ReportAllocs()
	for b.Loop() {
		if n, _ := f.next(m); n != len(m) {
			b.Fatal(n)
		}
	}
}
