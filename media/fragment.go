package media

import (
	"errors"
	"strings"

	"rtcedge/media/ng"
)

// takeFragment is an offer or answer with the flag fragment: candidates that a party has found since (RFC 8840). A lite agent of ours does not
// need them, as it answers whoever has the password; a full one checks them. The other party's way is ours, which it knows already: it is
// told that no more candidates come.
func (e *Engine) takeFragment(req *ng.Request) (*ng.Response, error) {
	resp, err := e.withCall(req, func(c *call) error {
		tag := req.FromTag
		if req.Command == ng.CmdAnswer {
			tag = req.ToTag
		}
		d, side := c.find(tag, "")
		if d == nil {
			return errors.New("fragment: no party with this tag")
		}
		mid, ufrag := "", ""
		for line := range strings.Lines(string(req.SDP)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch name {
			case "a=mid":
				mid = value
			case "a=ice-ufrag":
				ufrag = value
			case "a=candidate":
				d.addCandidate(side, mid, ufrag, value)
			}
		}
		return nil
	})
	if err == nil {
		resp.SDP = []byte("a=end-of-candidates\r\n")
	}
	return resp, err
}

// addCandidate gives a candidate of RTP to the full agents that check this party; those of another generation are not for them.
func (d *dialog) addCandidate(side int, mid, ufrag, candidate string) {
	if f := strings.Fields(candidate); len(f) < 8 || f[1] != "1" {
		return
	}
	for _, s := range d.streams {
		if s == nil {
			continue
		}
		l := &s.legs[side]
		if l.ice.full == nil || mid != "" && l.far.mid != "" && mid != l.far.mid || ufrag != "" && ufrag != l.ice.far.ufrag {
			continue
		}
		l.ice.full.Add(candidate)
	}
}
