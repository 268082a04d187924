package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String declares a free text knob. unit names what it is (FILE, NAME).
func (s *Set) String(v *string, name, def, unit, help string) {
	*v = def
	s.add(name, unit, help, &stringKnob{v})
}

type stringKnob struct{ v *string }

func (k *stringKnob) set(t string) error { *k.v = t; return nil }
func (k *stringKnob) reset()             { *k.v = "" }
func (k *stringKnob) String() string     { return *k.v }
func (k *stringKnob) allowed() string    { return "any text" }

// Enum declares a knob that takes one of the words.
func (s *Set) Enum(v *string, name, def, help string, words ...string) {
	*v = def
	s.add(name, strings.Join(words, "|"), help, &enumKnob{v, words})
}

type enumKnob struct {
	v     *string
	words []string
}

func (k *enumKnob) set(t string) error {
	if !slices.Contains(k.words, t) {
		return errors.New("not one of the words")
	}
	*k.v = t
	return nil
}
func (k *enumKnob) reset()          {}
func (k *enumKnob) String() string  { return *k.v }
func (k *enumKnob) allowed() string { return strings.Join(k.words, ", ") }

// Bool declares a switch; the bare flag means true.
func (s *Set) Bool(v *bool, name string, def bool, help string) {
	*v = def
	s.add(name, "", help, &boolKnob{v})
}

type boolKnob struct{ v *bool }

func (k *boolKnob) set(t string) error {
	b, err := strconv.ParseBool(t)
	if err != nil {
		return errors.New("not true or false")
	}
	*k.v = b
	return nil
}
func (k *boolKnob) reset()          {}
func (k *boolKnob) String() string  { return strconv.FormatBool(*k.v) }
func (k *boolKnob) allowed() string { return "true, false" }

// Int declares a whole number between min and max.
func (s *Set) Int(v *int, name string, def, min, max int, unit, help string) {
	*v = def
	s.add(name, unit, help, &intKnob{v, min, max})
}

type intKnob struct {
	v        *int
	min, max int
}

func (k *intKnob) set(t string) error {
	n, err := strconv.Atoi(t)
	if err != nil {
		return errors.New("not a whole number")
	}
	if n < k.min || n > k.max {
		return errors.New("out of range")
	}
	*k.v = n
	return nil
}
func (k *intKnob) reset()          {}
func (k *intKnob) String() string  { return strconv.Itoa(*k.v) }
func (k *intKnob) allowed() string { return fmt.Sprintf("%d to %d", k.min, k.max) }

// Duration declares a time of at least min. A plain number is seconds, as rtpengine's flags have it.
func (s *Set) Duration(v *time.Duration, name string, def, min time.Duration, help string) {
	*v = def
	s.add(name, "SECONDS|DURATION", help, &durationKnob{v, min})
}

type durationKnob struct {
	v   *time.Duration
	min time.Duration
}

func (k *durationKnob) set(t string) error {
	d, err := time.ParseDuration(t)
	if n, perr := strconv.ParseFloat(t, 64); perr == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil {
		return errors.New("not a time")
	}
	if d < k.min {
		return errors.New("too short")
	}
	*k.v = d
	return nil
}
func (k *durationKnob) reset()         {}
func (k *durationKnob) String() string { return k.v.String() }
func (k *durationKnob) allowed() string {
	return fmt.Sprintf("seconds like 60, or 500ms, 60s, 1h; at least %s", k.min)
}

// IP declares an address without port.
func (s *Set) IP(v *netip.Addr, name string, def netip.Addr, help string) {
	*v = def
	s.add(name, "IP", help, &ipKnob{v})
}

type ipKnob struct{ v *netip.Addr }

func (k *ipKnob) set(t string) error {
	a, err := netip.ParseAddr(t)
	if err != nil {
		return errors.New("not an IP address")
	}
	*k.v = a
	return nil
}
func (k *ipKnob) reset() {}
func (k *ipKnob) String() string {
	if !k.v.IsValid() {
		return ""
	}
	return k.v.String()
}
func (k *ipKnob) allowed() string { return "an IPv4 or IPv6 address like 192.0.2.1 or 2001:db8::1" }

// Addr declares IP:PORT; the zero value (no default) or "off" turns off what it stands for.
func (s *Set) Addr(v *netip.AddrPort, name string, def netip.AddrPort, help string) {
	*v = def
	s.add(name, "IP:PORT", help, &addrKnob{v})
}

type addrKnob struct{ v *netip.AddrPort }

func (k *addrKnob) set(t string) error {
	if t == "off" {
		*k.v = netip.AddrPort{}
		return nil
	}
	a, err := netip.ParseAddrPort(t)
	if err != nil {
		return errors.New("not an IP address with a port")
	}
	*k.v = a
	return nil
}
func (k *addrKnob) reset() {}
func (k *addrKnob) String() string {
	if !k.v.IsValid() {
		return ""
	}
	return k.v.String()
}
func (k *addrKnob) allowed() string { return "IP:PORT like 127.0.0.1:8080 or [::1]:8080, or off" }

// List declares a repeatable knob. check judges one item and allowed says what it takes.
func (s *Set) List(v *[]string, name string, def []string, unit, help, allowed string, check func(string) error) {
	*v = slices.Clone(def)
	s.add(name, unit, help, &listKnob{v: v, check: check, what: allowed})
}

type listKnob struct {
	v     *[]string
	check func(string) error
	what  string
}

func (k *listKnob) set(t string) error {
	if err := k.check(t); err != nil {
		return err
	}
	*k.v = append(*k.v, t)
	return nil
}
func (k *listKnob) reset()          { *k.v = nil }
func (k *listKnob) String() string  { return strings.Join(*k.v, " ") }
func (k *listKnob) allowed() string { return k.what }
