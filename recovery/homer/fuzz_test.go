package homer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// FuzzAnswer: what a HOMER, or somebody in its place, answers becomes messages with an address and a text, or none.
func FuzzAnswer(f *testing.F) {
	good, err := json.Marshal(toRow(Message{ID: 1, CallID: "a@b", Raw: "BYE sip:x SIP/2.0\r\n\r\n", Time: time.Unix(1000, 5000),
		Source: netip.MustParseAddrPort("192.0.2.1:5060"), Destination: netip.MustParseAddrPort("[2001:db8::1]:5080"), Transport: 17, CaptureID: 7}))
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []string{string(good), `{}`, `{"srcIp":"x","srcPort":1e9}`, `{"srcPort":"5060","micro_ts":-1}`} {
		f.Add(fmt.Sprintf(`{"data":{"messages":[%s]},"total":1}`, r))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var a transactionAnswer
		if json.Unmarshal([]byte(text), &a) != nil {
			return
		}
		for _, r := range a.Data.Messages {
			m, ok := r.message()
			if !ok {
				continue
			}
			if m.CallID == "" || m.Raw == "" || !m.Source.IsValid() || !m.Destination.IsValid() {
				t.Fatalf("%+v", m)
			}
			again := toRow(m)
			if back, ok := again.message(); !ok || back.Source != m.Source || back.Destination != m.Destination || back.Raw != m.Raw || back.CallID != m.CallID {
				t.Fatalf("%+v comes back as %+v", m, back)
			}
		}
	})
}

// FuzzAPI: whatever is posted gets an answer that is HOMER's, and nobody without the token gets a message.
func FuzzAPI(f *testing.F) {
	s := NewStore(StoreConfig{})
	s.Add(packet("INVITE", "a@b", time.Now()))
	a := &API{cfg: APIConfig{Token: "secret", Store: s}, bearer: "of the log-in"}
	h := a.handler()
	for _, body := range []string{`{"param":{"search":{"1_call":{"callid":["a@b"]}}}}`, `{"param":{"search":{"1_call":[{"name":"data_header.callid","value":"a@b"}]}}}`,
		`{"username":"admin","password":"secret"}`, `{"timestamp":{"from":-1,"to":9223372036854775807}}`, `[`, ``} {
		for path := range uint8(3) {
			f.Add(path, true, body)
			f.Add(path, false, body)
		}
	}
	f.Fuzz(func(t *testing.T, path uint8, token bool, body string) {
		at := []string{"/api/v3/auth", "/api/v3/call/transaction", "/api/v3/search/call/data"}[path%3]
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(body))
		if token {
			req.Header.Set("Auth-Token", "secret")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if code := w.Code; code != http.StatusCreated && (code < 400 || code > 413) {
			t.Fatalf("%s answers %d", at, code)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s answers %q", at, w.Body.Bytes())
		}
		if !token && strings.Contains(w.Body.String(), "INVITE") {
			t.Fatalf("%s without a token: %s", at, w.Body.Bytes())
		}
	})
}
