package homer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rtcedge/internal/testrun"
	"rtcedge/recovery/hep"
)

func packet(method, callID string, at time.Time) hep.Packet {
	return hep.Packet{Source: netip.MustParseAddrPort("192.0.2.1:5060"), Destination: netip.MustParseAddrPort("[2001:db8::1]:5080"), Transport: 17, Protocol: hep.SIP,
		Time: at, CaptureID: 7, Node: []byte("edge"), Payload: []byte(method + " sip:x SIP/2.0\r\nCall-ID: " + callID + "\r\n\r\n")}
}

func messages(t *testing.T, from interface {
	Messages(context.Context, []string, time.Time) ([]Message, error)
}, ids ...string) []Message {
	t.Helper()
	m, err := from.Messages(context.Background(), ids, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestB53StoreKeepsCallsLongest(t *testing.T) {
	now := time.Unix(1000, 0)
	s := NewStore(StoreConfig{MaxBytes: 6000, MaxAge: time.Minute, MaxCall: time.Hour})
	up := []said{request("INVITE", "a", ""), response(200, "INVITE", "a", "b")}
	feed(s, now, "live", up...)
	feed(s, now, "ended", up...)
	feed(s, now, "ended", request("BYE", "a", "b"), response(200, "BYE", "a", "b"))
	for i := range 100 {
		s.add(packet("OPTIONS", fmt.Sprint("o", i), now), now)
	}
	st := s.Stats()
	if len(messages(t, s, "live")) != 2 || len(messages(t, s, "ended")) != 4 || st.Bytes > 6000 || st.Evicted[kindOther] == 0 {
		t.Fatalf("%+v", st)
	}
	for i := range 100 { // calls push out what ended, then the call that was silent for the longest time, whole
		feed(s, now, fmt.Sprint("c", i), up...)
	}
	if st = s.Stats(); len(messages(t, s, "ended")) != 0 || len(messages(t, s, "live")) != 0 || len(messages(t, s, "c99")) != 2 || st.Bytes > 6000 || st.Evicted[kindCall] == 0 {
		t.Fatalf("%+v", st)
	}
	s.add(packet("INVITE", "new", now), now.Add(2*time.Hour)) // by age
	if st = s.Stats(); st.Calls != 1 || st.Messages != 1 {
		t.Fatalf("%+v", st)
	}
}

func serveAPI(t *testing.T, s *Store) string {
	t.Helper()
	a, err := NewAPI(APIConfig{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Token: "secret", Store: s})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, a.Run)
	return "http://" + a.Addr().String()
}

// TestB53ClientReadsTheStoreAsAHomer: a message of this very moment is found (the window ends two seconds from now), in batches, by token and by account.
func TestB53ClientReadsTheStoreAsAHomer(t *testing.T) {
	s := NewStore(StoreConfig{})
	now := time.Now()
	var ids []string
	for i := range 5 {
		ids = append(ids, fmt.Sprint("c", i))
		s.Add(packet("INVITE", ids[i], now))
	}
	s.Add(packet("INVITE", "old", now.Add(-48*time.Hour)))
	url := serveAPI(t, s)
	for _, cfg := range []ClientConfig{{URL: url, Token: "secret", Batch: 2}, {URL: url, User: "admin", Password: "secret"}} {
		c, err := NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := messages(t, c, append(ids, "old", "none")...)
		want := messages(t, s, ids...)
		if len(got) != 5 {
			t.Fatalf("%d messages", len(got))
		}
		for i := range got {
			want[i].ID, want[i].Time = 0, want[i].Time.Truncate(time.Microsecond)
			got[i].Time = got[i].Time.In(want[i].Time.Location())
			if !got[i].Time.Equal(want[i].Time) || got[i].Raw != want[i].Raw || got[i].Source != want[i].Source || got[i].Destination != want[i].Destination ||
				got[i].CaptureID != 7 || got[i].Node != "edge" || got[i].CallID != want[i].CallID {
				t.Fatalf("got %+v\nwant %+v", got[i], want[i])
			}
		}
	}
	for _, cfg := range []ClientConfig{{URL: url, Token: "wrong"}, {URL: url, User: "admin", Password: "wrong"}} {
		c, err := NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Messages(context.Background(), ids, time.Time{}); !errors.Is(err, ErrToken) {
			t.Fatalf("wrong token: %v", err)
		}
	}
}

// TestB53SearchHasHomersShape checks what other programs rely on: 201, a 400 without token, rows without raw, the limit as an element.
func TestB53SearchHasHomersShape(t *testing.T) {
	s := NewStore(StoreConfig{})
	now := time.Now()
	for range 3 {
		s.Add(packet("INVITE", "c", now))
	}
	url := serveAPI(t, s)
	ask := func(token, profile string) (int, searchAnswer) {
		body := fmt.Sprintf(`{"timestamp":{"from":%d,"to":%d},"param":{"limit":1,"search":{%q:[{"name":"data_header.callid","value":"c","type":"string","hepid":1},{"name":"limit","value":"2"}]}}}`,
			now.Add(-time.Hour).UnixMilli(), now.Add(time.Hour).UnixMilli(), profile)
		req, err := http.NewRequest(http.MethodPost, url+"/api/v3/search/call/data", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Auth-Token", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var a searchAnswer
		_ = json.NewDecoder(resp.Body).Decode(&a)
		return resp.StatusCode, a
	}
	if code, a := ask("secret", "1_call"); code != 201 || a.Total != 2 || a.Data[0].Raw != "" || a.Data[0].Method != "INVITE" || !strings.HasPrefix(a.Data[0].Table, "hep_proto_1") {
		t.Errorf("%d %+v", code, a)
	}
	if code, _ := ask("", "1_call"); code != 400 {
		t.Errorf("no token: %d", code)
	}
	if code, _ := ask("secret", "2_call"); code != 400 {
		t.Errorf("unknown profile: %d", code)
	}
}
