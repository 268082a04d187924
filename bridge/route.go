package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Target is an address that a leg is placed to. Route is the Path of a registration (RFC 3327 5.3).
type Target struct {
	URI   string `json:"uri"`
	Route string `json:"route,omitempty"`
}

// Destination is where a number leads.
type Destination struct {
	Local      string   // ProgramEcho, ProgramMusic, ProgramFlow or "conference": it ends here
	Conference string   // its name
	Targets    []Target // they ring together
	Cause      int      // why there are none
	Stay       bool
}

const localConference = "conference"

// Contact is where a user is registered.
type Contact struct {
	URI  string // the address in REGISTER's Contact
	Path string // header field values, comma separated; "" if there was none
}

// ErrAbsent is a Directory's word for a user who is known and registered nowhere: 480 and not 404.
var ErrAbsent = errors.New("the user is not registered")

// Directory knows where users are: the registrar farm.
type Directory interface {
	Contacts(ctx context.Context, user string) ([]Contact, error)
}

// Numbers says what numbers are. The zero value is the embedded farm's plan.
type Numbers struct {
	Echo        string   // default 600
	Music       string   // default 601
	Conferences []string // prefixes of four digit numbers, default 7
	Provider    string   // SIP URI with {number} for numbers that are no user; "" refuses them
}

func (n *Numbers) fill() {
	if n.Echo == "" {
		n.Echo = "600"
	}
	if n.Music == "" {
		n.Music = "601"
	}
	if n.Conferences == nil {
		n.Conferences = []string{"7"}
	}
}

// local tells numbers that end on the farm itself; it needs no look-up.
func (n *Numbers) local(number string) (Destination, bool) {
	if name, is := strings.CutPrefix(number, "conference:"); is {
		return Destination{Local: localConference, Conference: name}, true
	}
	switch number {
	case n.Echo:
		return Destination{Local: ProgramEcho}, true
	case n.Music:
		return Destination{Local: ProgramMusic}, true
	}
	for _, prefix := range n.Conferences {
		if len(number) == 4 && strings.HasPrefix(number, prefix) {
			return Destination{Local: localConference, Conference: number}, true
		}
	}
	return Destination{}, false
}

// resolve asks for a number. sip: URIs are taken as they are: only the API and flows can give them.
func (b *Bridge) resolve(ctx context.Context, number string) (Destination, error) {
	if strings.HasPrefix(number, "sip:") || strings.HasPrefix(number, "sips:") {
		return Destination{Targets: []Target{{URI: number}}}, nil
	}
	if d, ok := b.cfg.Numbers.local(number); ok {
		return d, nil
	}
	if b.flows.get(number) != nil {
		return Destination{Local: ProgramFlow}, nil
	}
	if b.cfg.Directory != nil {
		contacts, err := b.cfg.Directory.Contacts(ctx, number)
		if errors.Is(err, ErrAbsent) {
			return Destination{Cause: causeAbsent}, nil
		}
		if err != nil {
			return Destination{Cause: causeFailure}, fmt.Errorf("contacts of %s: %w", number, err)
		}
		var d Destination
		for _, c := range contacts {
			d.Targets = append(d.Targets, Target{URI: c.URI, Route: c.Path})
		}
		if len(d.Targets) > 0 {
			return d, nil
		}
	}
	if b.cfg.Numbers.Provider != "" && isNumber(number) {
		return Destination{Targets: []Target{{URI: strings.ReplaceAll(b.cfg.Numbers.Provider, "{number}", number)}}}, nil
	}
	return Destination{Cause: causeUnallocated}, nil
}

// isNumber keeps what a stranger dialled from becoming part of a URI.
func isNumber(s string) bool {
	for i, r := range s {
		if (r < '0' || r > '9') && (r != '+' || i != 0) {
			return false
		}
	}
	return s != ""
}
