package bridge

import "testing"

// TestB32DialableContact: a contact as phones register it becomes a URI that Asterisk has a transport for.
func TestB32DialableContact(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:1001@10.0.0.1:5060":                          "sip:1001@10.0.0.1:5060",
		"sip:1001@10.0.0.1:5060;transport=tcp;ob":         "sip:1001@10.0.0.1:5060;transport=tcp;ob",
		"sip:k3j@qk2.invalid;transport=ws":                "sip:k3j@qk2.invalid",
		"sip:k3j;transport=ws@qk2.invalid;transport=WS":   "sip:k3j;transport=ws@qk2.invalid",
		"sip:10.0.0.1;ob;transport=wss;gr=urn:uuid:f81d4": "sip:10.0.0.1;ob;gr=urn:uuid:f81d4",
	} {
		if got := dialable(uri); got != want {
			t.Errorf("%s becomes %s, want %s", uri, got, want)
		}
	}
}
