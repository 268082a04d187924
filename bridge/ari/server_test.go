package ari

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeFarm answers with fixed resources and records the hang-ups.
type fakeFarm struct{ hungUp []int }

func (*fakeFarm) Info() AsteriskInfo {
	return AsteriskInfo{System: SystemInfo{Version: "rtcedge", EntityID: "node1"}}
}

func (*fakeFarm) Channels() []Channel {
	return []Channel{{
		ID: "1700000000.1", ProtocolID: "abc@host", Name: "PJSIP/1001-00000001", State: StateUp,
		Caller:       CallerID{Name: "Alice", Number: "1001"},
		Dialplan:     DialplanCEP{Context: "default", Exten: "600", Priority: 1, AppName: "Echo"},
		CreationTime: Time{time.Date(2026, 11, 22, 21, 45, 11, 123e6, time.UTC)},
		Language:     "en",
	}}
}

func (*fakeFarm) Bridges() []Bridge {
	return []Bridge{{ID: "b1", Technology: TechnologySoftmix, BridgeType: "mixing", Channels: []string{"1700000000.1"}}}
}

func (*fakeFarm) Endpoints() []Endpoint {
	return []Endpoint{{Technology: "PJSIP", Resource: "1001", State: EndpointOnline, ChannelIDs: []string{}}}
}

func (f *fakeFarm) Hangup(id string, cause int) bool {
	f.hungUp = append(f.hungUp, cause)
	return id == "1700000000.1"
}

func start(t *testing.T, farm Farm) string {
	t.Helper()
	s, err := New(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), User: "bridge", Password: "secret", Farm: farm})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return "http://" + s.Addr().String()
}

func ask(t *testing.T, method, url, password string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth("bridge", password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body), res.Header
}

// TestB41ReadAgain: channels and bridges can be read in Asterisk's shape, which is what repairs a lost event stream.
func TestB41ReadAgain(t *testing.T) {
	farm := new(fakeFarm)
	base := start(t, farm)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)

	const channel = `{"id":"1700000000.1","protocol_id":"abc@host","name":"PJSIP/1001-00000001","state":"Up",` +
		`"caller":{"name":"Alice","number":"1001"},"connected":{"name":"","number":""},"accountcode":"",` +
		`"dialplan":{"context":"default","exten":"600","priority":1,"app_name":"Echo","app_data":""},` +
		`"creationtime":"2026-11-22T21:45:11.123+0000","language":"en"}`
	tests := []struct {
		method, path, password string
		status                 int
		want                   string // the whole body; "" skips
	}{
		{"GET", "/ari/channels", "secret", 200, "[" + channel + "]"},
		{"GET", "/ari/channels/1700000000.1", "secret", 200, channel},
		{"GET", "/ari/channels/none", "secret", 404, `{"message":"Channel not found"}`},
		{"GET", "/ari/bridges/none", "secret", 404, `{"message":"Bridge not found"}`},
		{"GET", "/ari/bridges/b1", "secret", 200, ""},
		{"GET", "/ari/bridges", "secret", 200, ""},
		{"GET", "/ari/endpoints", "secret", 200, `[{"technology":"PJSIP","resource":"1001","state":"online","channel_ids":[]}]`},
		{"GET", "/ari/asterisk/info", "secret", 200, ""},
		{"GET", "/ari/nothing", "secret", 404, `{"message":"Resource not found"}`},
		{"POST", "/ari/bridges", "secret", 405, `{"message":"Invalid method"}`},
		{"DELETE", "/ari/channels/1700000000.1?reason_code=17", "secret", 204, ""},
		{"DELETE", "/ari/channels/1700000000.1?reason=no_answer", "secret", 204, ""},
		{"DELETE", "/ari/channels/1700000000.1?reason=tired", "secret", 400, `{"message":"Invalid Hangup Reason"}`},
		{"DELETE", "/ari/channels/1700000000.1?reason_code=900", "secret", 400, `{"message":"Invalid Hangup Reason"}`},
		{"DELETE", "/ari/channels/none", "secret", 404, `{"message":"Channel not found"}`},
		{"GET", "/ari/channels", "", 401, `{"message":"Authentication required"}`},
		{"GET", "/ari/channels", "wrong", 401, `{"message":"Authentication required"}`},
		{"GET", "/ari/nothing", "", 401, `{"message":"Authentication required"}`},
	}
	for _, tt := range tests {
		status, body, header := ask(t, tt.method, base+tt.path, tt.password)
		if status != tt.status || tt.want != "" && body != tt.want {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, status, body, tt.status, tt.want)
		}
		if status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s %s: no Basic challenge", tt.method, tt.path)
		}
		if status != 204 && header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: Content-Type %q", tt.method, tt.path, header.Get("Content-Type"))
		}
	}
	if diff := cmp.Diff([]int{17, 19, 16}, farm.hungUp); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
}

// TestTimeRoundTrip: times are read as they are written.
func TestTimeRoundTrip(t *testing.T) {
	want := Time{time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 3600))}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Time
	if err := json.Unmarshal(b, &got); err != nil || !got.Equal(want.Time) {
		t.Fatalf("%s read as %v (%v)", b, got, err)
	}
}

// TestBadConfig: each mistake is named.
func TestBadConfig(t *testing.T) {
	good := Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), User: "u", Password: "p", Farm: new(fakeFarm)}
	for name, breakIt := range map[string]func(*Config){
		"listen":   func(c *Config) { c.Listen = netip.AddrPort{} },
		"password": func(c *Config) { c.Password = "" },
		"farm":     func(c *Config) { c.Farm = nil },
	} {
		c := good
		breakIt(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v does not name it", name, err)
		}
	}
	s, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	taken := good
	taken.Listen = s.Addr()
	if _, err := New(taken); err == nil || !strings.Contains(err.Error(), s.Addr().String()) {
		t.Errorf("port in use: %v does not name %v", err, s.Addr())
	}
}
