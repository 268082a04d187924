package recovery

import (
	"testing"

	"rtcedge/bridge"
)

// TestF1EndpointOfAnyTransport: Asterisk makes no channel for a URI whose transport it does not have, as ws; the re-INVITE's own URI stays whole.
func TestF1EndpointOfAnyTransport(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:a3@127.0.0.1:5060;transport=ws":       "PJSIP/edge/sip:a3@127.0.0.1:5060",
		"sips:a3@[2001:db8::1]:5061;transport=tls": "PJSIP/edge/sips:a3@[2001:db8::1]:5061",
		"sip:a;x=1@h.invalid;transport=tcp?p=1":    "PJSIP/edge/sip:a;x=1@h.invalid",
		"sip:h.invalid;lr":                         "PJSIP/edge/sip:h.invalid",
		"sip:a@h.invalid":                          "PJSIP/edge/sip:a@h.invalid",
		"tel:+49301234;phone-context=x":            "PJSIP/edge/tel:+49301234",
	} {
		vars := map[string]string{"PJSIP_RECOVERY_REQUEST_URI": uri}
		c := channelFor(&bridge.Call{ID: "c"}, &bridge.Leg{ID: "l"}, Rebuilt{RequestURI: uri, Variables: vars}, 1)
		if c.Endpoint != want || c.Variables["PJSIP_RECOVERY_REQUEST_URI"] != uri {
			t.Errorf("%s: endpoint %s, want %s; variable %s", uri, c.Endpoint, want, c.Variables["PJSIP_RECOVERY_REQUEST_URI"])
		}
	}
}
