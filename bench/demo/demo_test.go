package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rtcedge/media/mediatest"
)

// TestJudgeConference shows that a phone that hears itself fails.
func TestJudgeConference(t *testing.T) {
	tones := [3]float64{433, 701, 1129}
	rep := mediatest.Report{Sent: 150, Received: 150, Rate: 8000, Recording: mediatest.Tone(701, toneLevel, 3*time.Second)(8000)}
	for i, v := range mediatest.Tone(1129, toneLevel, 3*time.Second)(8000) {
		rep.Recording[i] += v
	}
	if r := (row{}).judgeConference(rep, 3*time.Second, tones, 0); r.verdict != pass || r.snr < minApart {
		t.Errorf("%+v", r)
	}
	if r := (row{}).judgeConference(rep, 3*time.Second, tones, 1); r.verdict != fail {
		t.Errorf("a phone that hears itself: %+v", r)
	}
}

// TestJudgeSpeech shows which recordings fail.
func TestJudgeSpeech(t *testing.T) {
	audio := mediatest.Speech(2 * time.Second)
	rep := mediatest.Report{Sent: 100, Received: 100, Rate: 8000, Recording: audio(8000)}
	same := mediatest.Compare(audio(8000), rep.Recording, 8000)
	if r := (row{}).judgeSpeech(rep, same, 60); r.verdict != pass {
		t.Errorf("the original: %+v", r)
	}
	if r := (row{}).judgeSpeech(rep, mediatest.Compare(reversed(audio)(8000), rep.Recording, 8000), minUser); r.verdict != fail {
		t.Errorf("another voice: %+v", r)
	}
	for name, rep := range map[string]mediatest.Report{
		"half is missing": {Sent: 100, Received: 50},
		"broken tags":     {Sent: 100, Received: 100, Refused: 1},
		"loss":            {Sent: 100, Received: 95, Lost: 5},
	} {
		var r row
		r.count(rep)
		if r = r.judgeSpeech(rep, same, 0); r.verdict != fail {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestFarmCodec(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode([]callInfo{
			{CallID: "other", Legs: []legInfo{{Side: "priv", Codec: "opus"}}},
			{CallID: "mine", Legs: []legInfo{{Side: "pub", Codec: "opus"}, {Side: "priv", Codec: "PCMU"}}},
		})
	}))
	defer srv.Close()
	e := &edge{admins: []string{strings.TrimPrefix(srv.URL, "http://")}}
	if got, err := e.farmCodec(context.Background(), "mine"); err != nil || got != "PCMU" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := e.farmCodec(context.Background(), "absent"); err == nil {
		t.Error("a call that is not listed has a codec")
	}
	if got, err := (&edge{}).farmCodec(context.Background(), "mine"); err != nil || got != "" {
		t.Errorf("without an admin port: %q, %v", got, err)
	}
}

func TestFindEdge(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "up.json")
	opusOff := false
	data, _ := json.Marshal(upState{PID: os.Getpid(), SIP: "127.0.0.1:5060", Admin: "127.0.0.1:8080", Opus: &opusOff,
		Accounts: []account{{"1001", "a"}, {"1002", "b"}}})
	if err := os.WriteFile(state, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e, err := findEdge(context.Background(), options{state: state}, &out)
	if err != nil || e.sip.Port() != 5060 || len(e.accounts) != 2 || e.opus || e.own != nil {
		t.Errorf("running edge: %+v, %v", e, err)
	}
	if _, err := findEdge(context.Background(), options{state: filepath.Join(dir, "none"), program: filepath.Join(dir, "rtcedge")}, &out); err == nil ||
		!strings.Contains(err.Error(), "make build") {
		t.Errorf("no edge and no program: %v", err)
	}
	if _, err := findEdge(context.Background(), options{edge: "127.0.0.1:5060"}, &out); err == nil {
		t.Error("an edge without accounts")
	}
	e, err = findEdge(context.Background(), options{edge: "127.0.0.1:5060", user: "1", password: "p", accounts: []string{"2:q:r"}}, &out)
	if err != nil || len(e.accounts) != 2 || e.accounts[1] != (account{"2", "q:r"}) {
		t.Errorf("named edge: %+v, %v", e, err)
	}
}

func TestTable(t *testing.T) {
	rows := []row{
		{call: "1003 -> 600", transport: "udp", codec: "PCMU", farm: "PCMU", setup: 3 * time.Millisecond, sent: 200, returned: 199, loss: 0.5,
			roundTrip: 21 * time.Millisecond, snr: 36.5},
		row{call: "1003 -> 600", transport: "tcp", codec: "opus", srtp: true}.skipped("no libopus"),
		row{call: "1001 -> 1002", transport: "udp", codec: "PCMA"}.failed("invite: 503 Service Unavailable"),
	}
	var out bytes.Buffer
	printTable(&out, rows)
	for _, want := range []string{"21.0", "36.5    PASS", "SKIP: no libopus", "FAIL: invite: 503"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if count(rows, fail) != 1 || count(rows, skip) != 1 {
		t.Error("rows are counted wrong")
	}
}
