package media

import (
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"rtcedge/media/ng"
)

// said is an XML-RPC request as a controller reads it.
type said struct {
	Method string   `xml:"methodName"`
	Params []string `xml:"params>param>value>string"`
	path   string
}

// controller answers callbacks by the function and passes on what it was told.
func controller(t *testing.T, answer func(n int) (status int, body string)) (base string, told chan said) {
	t.Helper()
	told = make(chan said, 100)
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		one := said{path: r.URL.Path}
		if err := xml.Unmarshal(b, &one); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "text/xml" {
			t.Errorf("%s %s: %v", r.Method, b, err)
		}
		n++
		status, body := answer(n)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		told <- one
	}))
	t.Cleanup(s.Close)
	return s.URL, told
}

const (
	heardIt = `<?xml version="1.0"?><methodResponse><params><param><value><string>ok</string></value></param></params></methodResponse>`
	faulty  = `<?xml version="1.0"?><methodResponse><fault><value><struct><member><name>faultString</name><value><string>%s</string></value></member></struct></value></fault></methodResponse>`
)

// next is what the controller hears next.
func next(t *testing.T, told chan said) said {
	t.Helper()
	select {
	case one := <-told:
		return one
	case <-time.After(10 * time.Second):
		t.Fatal("the controller was told nothing")
	}
	return said{}
}

// TestB22TimeoutCallback: of a call that timed out, and of no other, the controller is told in each of rtpengine's three forms.
func TestB22TimeoutCallback(t *testing.T) {
	const odd = `c<&>"@host`
	for format, want := range map[TeardownFormat][]string{
		TeardownSEMS:     {"di sbc postControlCmd a teardown", "di sbc postControlCmd b teardown"},
		TeardownCallID:   {"teardown " + odd},
		TeardownKamailio: {"dlg.terminate_dlg " + odd + " a b"},
	} {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			base, told := controller(t, func(int) (int, string) { return 200, heardIt })
			r := newRig(t, Config{TeardownURL: base + "/RPC", TeardownFormat: format})
			a, b := newPeer(t, 1), newPeer(t, 2)
			r.connect(relayed("deleted", "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
			r.must(ng.Request{Command: ng.CmdDelete, CallID: "deleted"})
			r.connect(relayed(odd, "a", a.body("RTP/AVP", "0")), a, b, b.body("RTP/AVP", "0"))
			r.clock.advance(61 * time.Second)
			r.sweep(r.clock.now())
			var got []string
			for range want {
				one := next(t, told)
				if one.path != "/RPC" {
					t.Errorf("path %q", one.path)
				}
				got = append(got, strings.Join(append([]string{one.Method}, one.Params...), " "))
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			waitFor(t, "the answers", func() bool { return r.Stats().Teardowns["ok"] == uint64(len(want)) })
			r.stop()
			if st := r.Stats(); len(told) != 0 || st.Teardowns["ok"] != uint64(len(want)) || st.Teardowns["failed"]+st.Teardowns["lost"] != 0 {
				t.Errorf("%d more were told; %v", len(told), st.Teardowns)
			}
		})
	}
}

// TestB22TimeoutCallbackAddress: %% is the address of xmlrpc-callback, else that of the first request, also after another node took over.
func TestB22TimeoutCallbackAddress(t *testing.T) {
	base, told := controller(t, func(int) (int, string) { return 200, heardIt })
	_, port, _ := strings.Cut(strings.TrimPrefix(base, "http://"), ":")
	cfg := Config{TeardownURL: "http://%%:" + port, TeardownFormat: TeardownCallID}
	r := newRig(t, cfg)
	a, b := newPeer(t, 1), newPeer(t, 2)
	elsewhere := netip.MustParseAddr("127.0.0.99") // nobody listens there
	offer := func(id string, source, named netip.Addr) {
		t.Helper()
		req := relayed(id, "a", a.body("RTP/AVP", "0"))
		req.Source, req.XMLRPCCallback = source, named
		r.must(req)
		answer := answered(id, "a", "b", b.body("RTP/AVP", "0"))
		answer.Source = elsewhere // another node of the proxy answers: the first one has the call
		r.must(answer)
	}
	offer("asked", loopback, netip.Addr{})
	offer("named", elsewhere, netip.MustParseAddr("::ffff:127.0.0.1"))
	offer("here", netip.Addr{}, netip.Addr{}) // of a controller in the same process; only the answer came from elsewhere
	offer("moved", loopback, netip.Addr{})
	record, err := r.Export("moved")
	if err != nil {
		t.Fatal(err)
	}
	r.must(ng.Request{Command: ng.CmdDelete, CallID: "moved"})
	r.must(ng.Request{Command: ng.CmdDelete, CallID: "here"})
	r.clock.advance(61 * time.Second)
	r.sweep(r.clock.now())
	got := []string{next(t, told).Params[0], next(t, told).Params[0]}
	if slices.Sort(got); !slices.Equal(got, []string{"asked", "named"}) {
		t.Errorf("%q", got)
	}
	r.stop()
	second := newRig(t, cfg)
	if err := second.Restore(record); err != nil {
		t.Fatal(err)
	}
	second.clock.advance(61 * time.Second)
	second.sweep(second.clock.now())
	if one := next(t, told); one.Params[0] != "moved" {
		t.Errorf("%+v", one)
	}
}

// TestB22TimeoutCallbackTries: an error is no end, a dialog that is gone is none either, four failures are; and what cannot be a URL is refused.
func TestB22TimeoutCallbackTries(t *testing.T) {
	answers := []struct {
		status int
		body   string
	}{
		{500, ""}, {200, "nonsense"}, {200, fmt.Sprintf(faulty, "busy")}, {200, heardIt}, // the first call
		{200, fmt.Sprintf(faulty, "Dialog not found")}, // the second
		{503, ""}, {503, ""}, {503, ""}, {503, ""}, {200, heardIt}, // the third, and nothing behind it
	}
	base, told := controller(t, func(n int) (int, string) { return answers[n-1].status, answers[n-1].body })
	w, err := newTeardowns(base, TeardownCallID, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.pause = 0
	for i, tries := range []int{4, 1, 4} {
		w.make(t.Context(), teardown{callID: fmt.Sprint(i), url: base, body: methodCall("teardown", fmt.Sprint(i))})
		for range tries {
			if one := next(t, told); one.Params[0] != fmt.Sprint(i) {
				t.Errorf("%+v, want call %d", one, i)
			}
		}
	}
	if len(told) != 0 || w.sent.Load() != 2 || w.failed.Load() != 1 {
		t.Errorf("%d more told, %d ok, %d failed", len(told), w.sent.Load(), w.failed.Load())
	}
	for _, bad := range []Config{{TeardownURL: "127.0.0.1:80"}, {TeardownURL: "ftp://%%/"}, {TeardownURL: "http://%%:80/", TeardownFormat: 3}} {
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), "teardown") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
