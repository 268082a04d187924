package homer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// post asks the API as a HOMER's client does.
func post(t *testing.T, url, token, path, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Auth-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&a)
	return resp.StatusCode, a
}

// searchFor makes a search of NAME VALUE pairs.
func searchFor(profile, orlogic string, terms ...string) string {
	var list []string
	for i := 0; i < len(terms); i += 2 {
		list = append(list, fmt.Sprintf(`{"name":%q,"value":%q,"type":"string","hepid":1}`, terms[i], terms[i+1]))
	}
	now := time.Now()
	return fmt.Sprintf(`{"timestamp":{"from":%d,"to":%d},"param":{"limit":1,"orlogic":%s,"search":{%q:[%s]}}}`,
		now.Add(-time.Hour).UnixMilli(), now.Add(time.Hour).UnixMilli(), orlogic, profile, strings.Join(list, ","))
}

// TestB53SearchHasHomersShape checks what other programs rely on: 201, a 400 without token, rows without raw, the limit as an element.
func TestB53SearchHasHomersShape(t *testing.T) {
	s := NewStore(StoreConfig{})
	for range 3 {
		s.Add(packet("INVITE", "c", time.Now()))
	}
	url := serveAPI(t, s)
	ask := func(token, profile string) (int, map[string]any) {
		return post(t, url, token, "/api/v3/search/call/data", searchFor(profile, "false", "data_header.callid", "c", "limit", "2"))
	}
	code, a := ask("secret", "1_call")
	list, _ := a["data"].([]any)
	if code != 201 || a["total"] != 2.0 || len(list) != 2 {
		t.Fatalf("%d %v", code, a)
	}
	first := list[0].(map[string]any)
	if _, raw := first["raw"]; raw || first["method"] != "INVITE" || first["table"] != "hep_proto_1_call" || first["aliasSrc"] != "192.0.2.1:5060" || first["uuid"] != first["id"] {
		t.Errorf("%v", first)
	}
	if code, _ := ask("", "1_call"); code != 400 {
		t.Errorf("no token: %d", code)
	}
	if code, _ := ask("secret", "2_call"); code != 400 {
		t.Errorf("unknown profile: %d", code)
	}
}

const message = "INVITE sip:600;isub=1@Example.com:5061;lr?x=y SIP/2.0\r\nVia: x\r\nf: \"A <b>\" <sip:1001:pw@[2001:db8::1]:5060;p=1>;tag=phone\r\n" +
	"To: tel:+4930123;phone-context=x\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nUser-Agent: Phone 1.0\r\n\r\n"

// TestB53RowsHaveHomersColumns: all that homer-app answers to a transaction, by name, with what the message says.
func TestB53RowsHaveHomersColumns(t *testing.T) {
	s := NewStore(StoreConfig{})
	now := time.UnixMicro(time.Now().UnixMicro())
	for _, raw := range []string{message, strings.Replace(message, "INVITE sip:600;isub=1@Example.com:5061;lr?x=y SIP/2.0", "SIP/2.0 486 Busy", 1)} {
		p := packet("INVITE", "c", now)
		p.Payload = []byte(raw)
		s.Add(p)
	}
	code, a := post(t, serveAPI(t, s), "secret", "/api/v3/call/transaction",
		fmt.Sprintf(`{"timestamp":{"from":%d,"to":%d},"param":{"search":{"1_call":{"callid":["c"]}}}}`, now.UnixMilli(), now.UnixMilli()))
	if code != 201 || a["total"] != 2.0 {
		t.Fatalf("%d %v", code, a)
	}
	list := a["data"].(map[string]any)["messages"].([]any)
	want := map[string]any{"callid": "c", "sid": "c", "correlation_id": "c", "raw": message, "method": "INVITE", "cseq": "1 INVITE", "from_tag": "phone", "to_tag": "",
		"from_user": "1001", "to_user": "+4930123", "ruri_user": "600;isub=1", "ruri_domain": "Example.com", "from_domain": "[2001:db8::1]", "to_domain": "", "user_agent": "Phone 1.0",
		"srcIp": "192.0.2.1", "srcPort": 5060.0, "dstIp": "2001:db8::1", "dstPort": 5080.0, "protocol": 17.0, "protocolFamily": 2.0, "payloadType": 1.0, "captureId": "7",
		"create_date": float64(now.UnixMilli()), "create_ts": float64(now.UnixMilli()), "micro_ts": float64(now.UnixMicro()), "timeSeconds": float64(now.Unix()),
		"timeUseconds": float64(now.UnixMicro() % 1e6), "id": 1.0, "node": "edge", "dbnode": "local", "profile": "1_call"}
	got := list[0].(map[string]any)
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d columns, want %d: %v", len(got), len(want), got)
	}
	if r := list[1].(map[string]any); r["method"] != "486" || r["ruri_user"] != "" || r["ruri_domain"] != "" || r["from_user"] != "1001" {
		t.Errorf("of a response: %v", r)
	}
}

// TestB53SearchByFields: what HOMER's form has, alone and together; a name that is not known is refused with those that are.
func TestB53SearchByFields(t *testing.T) {
	s := NewStore(StoreConfig{})
	for i := range 200 { // more than are read at once
		p := packet("INVITE", fmt.Sprint("c", i), time.Now())
		p.Payload = fmt.Appendf(nil, "INVITE sip:600@example.com SIP/2.0\r\nFrom: <sip:%d@example.com>;tag=a\r\nTo: <sip:600@example.com>\r\nCall-ID: c%d\r\nCSeq: 1 INVITE\r\n\r\n", 1000+i%10, i)
		s.Add(p)
	}
	s.Add(packet("OPTIONS", "ping", time.Now()))
	s.Add(packet("INVITE", "before", time.Now().Add(-2*time.Hour)))
	url := serveAPI(t, s)
	for _, tt := range []struct {
		orlogic string
		terms   []string
		want    int
	}{
		{"false", []string{"data_header.from_user", "1003"}, 20},
		{"false", []string{"data_header.from_user", "1003;1004"}, 40},
		{"false", []string{"data_header.from_user", "!=1003", "data_header.ruri_user", "600"}, 180},
		{"false", []string{"data_header.from_user", "10%3", "data_header.to_user", "6%"}, 20},
		{"false", []string{"data_header.from_user", "1003", "sid", "c3;c4"}, 1},
		{"true", []string{"data_header.from_user", "1003", "data_header.method", "OPTIONS"}, 21},
		{"true", []string{"data_header.callid", "c5", "data_header.method", "OPTIONS"}, 2},
		{"false", []string{"data_header.method", "OPTIONS"}, 1},
		{"false", []string{"data_header.from_user", "", "protocol_header.srcIp", "192.0.2.1"}, 200}, // the default limit
		{"false", []string{"protocol_header.dstPort", "5080", "limit", "1000"}, 201},
		{"false", []string{"data_header.from_user", "nobody"}, 0},
	} {
		code, a := post(t, url, "secret", "/api/v3/search/call/data", searchFor("1_call", tt.orlogic, tt.terms...))
		if list, _ := a["data"].([]any); code != 201 || len(list) != tt.want {
			t.Errorf("%v: %d, %d rows, want %d", tt.terms, code, len(list), tt.want)
		}
	}
	code, a := post(t, url, "secret", "/api/v3/search/call/data", searchFor("1_call", "false", "smartinput", "x"))
	if text, _ := a["message"].(string); code != 400 || !strings.Contains(text, "smartinput") || !strings.Contains(text, "from_user") {
		t.Errorf("smartinput: %d %v", code, a)
	}
}

func TestLike(t *testing.T) {
	for _, pattern := range []string{"abcabc", "%", "a%", "%c", "a%c", "a%b%c", "%bca%", "abc%abc", "a%%c"} {
		if !like("abcabc", pattern) {
			t.Errorf("%s does not match", pattern)
		}
	}
	for _, pattern := range []string{"", "abc", "b%", "%b", "abca%cabc", "a%x%c", "A%"} {
		if like("abcabc", pattern) {
			t.Errorf("%s matches", pattern)
		}
	}
	if !like("", "%") {
		t.Error("% is nothing, too")
	}
}
