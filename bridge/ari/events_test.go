package ari

import (
	"encoding/json"
	"testing"
)

// TestEventTypes parses an event of each type and prints it again: what comes in as that type must not be an UnknownEvent.
func TestEventTypes(t *testing.T) {
	for _, in := range []string{
		`{"type":"StasisStart","timestamp":"2026-11-26T06:30:01.123+0000","args":["in","1002"],"channel":{"id":"call1-1.1","protocol_id":"a@b","name":"PJSIP/edge-1","state":"Ring","caller":{"name":"","number":"1001"},"creationtime":"2026-11-26T06:30:01.120+0000"},"asterisk_id":"call1","application":"rtcedge"}`,
		`{"type":"ChannelTransfer","application":"rtcedge","asterisk_id":"call1","timestamp":"2026-11-26T06:30:01.123+0000","refer_to":{"requested_destination":{"destination":"1003"}},"referred_by":{"source_channel":{"id":"x"}}}`,
		`{"type":"ChannelDestroyed","cause":17,"cause_txt":"User busy","channel":{"id":"x"},"timestamp":"2026-11-26T06:30:01.123+0000","asterisk_id":"call1","application":"rtcedge"}`,
	} {
		ev, err := ParseEvent([]byte(in))
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		if _, unknown := ev.(*UnknownEvent); unknown {
			t.Errorf("%s: not known", in)
		}
		if ev.Head().AsteriskID != "call1" || ev.Head().Timestamp.Year() != 2026 {
			t.Errorf("head %+v", ev.Head())
		}
		if _, err := json.Marshal(ev); err != nil {
			t.Error(err)
		}
	}
	ev, err := ParseEvent([]byte(`{"type":"TextMessageReceived","application":"rtcedge"}`))
	if _, unknown := ev.(*UnknownEvent); err != nil || !unknown {
		t.Errorf("a type of later: %T, %v", ev, err)
	}
	for _, bad := range []string{``, `{}`, `[]`, `{"type":"StasisStart","args":7}`} {
		if ev, err := ParseEvent([]byte(bad)); err == nil {
			t.Errorf("%q gave %+v", bad, ev)
		}
	}
}

// FuzzParseEvent: a farm is trusted, its link is not.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"type":"StasisStart","args":["in"],"channel":{"id":"1"}}`))
	f.Add([]byte(`{"type":"Dial","peer":{"id":"1"},"timestamp":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := ParseEvent(b)
		if err == nil && ev.Head().Type == "" {
			t.Fatal("an event without a type")
		}
	})
}
