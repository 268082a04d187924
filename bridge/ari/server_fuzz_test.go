package ari

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// FuzzRequest: whatever comes as query, body and path, the answer is a status and JSON, and nothing panics.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/ari/bridges/b/addChannel", "channel=a,b&mute=true", `{"channel":["a",1,{}],"variables":{"A":1}}`)
	f.Add("DELETE", "/ari/channels/1700000000.1", "reason=busy&reason_code=x", "")
	f.Add("PUT", "/ari/applications/rtcedge/eventFilter", "", `{"allowed":[{"type":"A"}],"disallowed":null}`)
	f.Add("POST", "/ari/channels/%2f%00", "%zz", `[`)
	s, err := New(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), User: "u", Password: "p", Routes: testRoutes(new([]string))})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	s.Subscribe("rtcedge", "channel:1")
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://h", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL.Path, r.URL.RawQuery = path, query
		w := httptest.NewRecorder()
		s.answer(w, r)
		if w.Code < 200 || w.Code > 599 || w.Code != 204 && w.Body.Len() > 0 && w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// FuzzSocketRequest: the same for REST over the event socket.
func FuzzSocketRequest(f *testing.F) {
	f.Add(`{"type":"RESTRequest","request_id":"1","method":"GET","uri":"channels","query_strings":[{"name":"a","value":"b"}]}`)
	f.Add(`{"type":"RESTRequest","method":"P OST","uri":"%%","message_body":"{"}`)
	f.Add(`[]`)
	s, err := New(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), User: "u", Password: "p", Routes: testRoutes(new([]string))})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, text string) {
		out := s.rest(context.Background(), []byte(text))
		var m struct {
			Type   string `json:"type"`
			Status int    `json:"status_code"`
		}
		if json.Unmarshal(out, &m) != nil || m.Type != "RESTResponse" || m.Status < 200 {
			t.Errorf("%s", out)
		}
	})
}
