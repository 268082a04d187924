package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// ErrHelp is returned by Parse when the arguments ask for help, which has then been printed.
var ErrHelp = pflag.ErrHelp

// A knob checks and stores one value given as text.
type knob interface {
	set(text string) error // may be called several times for a list; the first call of a source replaces the default
	reset()                // forget what a weaker source stored
	String() string        // the current value, as it would be typed
	allowed() string       // completes "allowed: ..."
}

type entry struct {
	name, unit, help string
	def              string
	knob             knob
}

// Set is the knobs of one role. The zero value is not usable: call New.
type Set struct {
	role    string
	entries []*entry
	getenv  func(string) string
	file    string
}

// New returns an empty set for a role. Environment look-ups go through getenv (os.Getenv).
func New(role string, getenv func(string) string) *Set {
	return &Set{role: role, getenv: getenv}
}

func (s *Set) add(name, unit, help string, k knob) {
	s.entries = append(s.entries, &entry{name: name, unit: unit, help: help, def: k.String(), knob: k})
}

func (s *Set) lookup(name string) *entry {
	for _, e := range s.entries {
		if e.name == name {
			return e
		}
	}
	return nil
}

// Parse takes args (without the role's name), the file and the environment. Help goes to out.
func (s *Set) Parse(args []string, out io.Writer) error {
	flags := pflag.NewFlagSet(s.role, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	texts := map[string]*[]string{}
	for _, e := range s.entries {
		texts[e.name] = new([]string)
		flags.Var(&raw{texts[e.name]}, e.name, e.help)
		if _, is := e.knob.(*boolKnob); is {
			flags.Lookup(e.name).NoOptDefVal = "true"
		}
	}
	path := flags.String("config", "", "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			s.Help(out)
			return ErrHelp
		}
		return fmt.Errorf("%s: %w (allowed: the flags of `rtcedge %s --help`)", s.role, err, s.role)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: argument %q: allowed: flags only, see `rtcedge %s --help`", s.role, flags.Arg(0), s.role)
	}
	if *path == "" {
		*path = s.getenv("RTCEDGE_CONFIG")
	}
	if *path != "" {
		if err := s.ReadFile(*path); err != nil {
			return err
		}
	}
	if err := s.readEnv(); err != nil {
		return err
	}
	for _, e := range s.entries {
		if t := *texts[e.name]; flags.Changed(e.name) {
			if err := e.take(t, "--"+e.name); err != nil {
				return fmt.Errorf("%s: %w", s.role, err)
			}
		}
	}
	return nil
}

// raw collects a flag's texts: they are checked after the weaker sources, by the knob itself.
type raw struct{ texts *[]string }

func (r *raw) String() string        { return "" }
func (r *raw) Type() string          { return "value" }
func (r *raw) Set(text string) error { *r.texts = append(*r.texts, text); return nil }

func (s *Set) readEnv() error {
	for _, e := range s.entries {
		name := envName(e.name)
		text := s.getenv(name)
		if text == "" {
			continue
		}
		texts := []string{text}
		if _, is := e.knob.(*listKnob); is {
			texts = strings.Fields(text)
		}
		if err := e.take(texts, name); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	return nil
}

func envName(knob string) string {
	return "RTCEDGE_" + strings.ToUpper(strings.ReplaceAll(knob, "-", "_"))
}

func (e *entry) take(texts []string, where string) error {
	e.knob.reset()
	for _, t := range texts {
		if err := e.knob.set(t); err != nil {
			return fmt.Errorf("%s: %q: %w (allowed: %s)", where, t, err, e.knob.allowed())
		}
	}
	return nil
}

// Help prints every knob with unit and default, as the flag and as the key of the file.
func (s *Set) Help(out io.Writer) {
	fmt.Fprintf(out, "usage: rtcedge %s [flags]\n\nEvery flag is also a key of the --config file and a variable (--listen-ip: listen-ip, RTCEDGE_LISTEN_IP);\n"+
		"flags win over the environment, that over the file.\n\n", s.role)
	fmt.Fprintf(out, "  --config FILE\n        YAML file with the keys below\n")
	for _, e := range s.entries {
		fmt.Fprintf(out, "  --%s %s", e.name, e.unit)
		if _, is := e.knob.(*listKnob); is {
			fmt.Fprint(out, " (repeatable)")
		}
		fmt.Fprintf(out, "\n        %s", e.help)
		if e.def != "" {
			fmt.Fprintf(out, " (default %s)", e.def)
		}
		fmt.Fprintln(out)
	}
}

func readAll(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w (allowed: a readable YAML file)", err)
	}
	return data, nil
}
