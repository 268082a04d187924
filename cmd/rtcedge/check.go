package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"rtcedge/internal/config"
)

// runCheck reads a file as its role would, and starts nothing. A file without the key "role" is read as the role that knows most
// of its keys.
func runCheck(e *env) error {
	var path string
	s := config.New("check", func(string) string { return "" })
	s.String(&path, "file", "", "FILE", "configuration file; --config does the same")
	args := e.args
	for i, a := range args { // --config names what is to be checked, not the knobs of check itself
		if a == "--config" || strings.HasPrefix(a, "--config=") {
			args = append([]string(nil), args...)
			args[i] = "--file" + strings.TrimPrefix(a, "--config")
		}
	}
	if err := usage(s.Parse(args, e.out)); err != nil {
		return err
	}
	if path == "" {
		return usage(errors.New("check: no file (allowed: --config FILE)"))
	}
	keys, role, err := config.Keys(path)
	if err != nil {
		return usage(err)
	}
	roles := checkers()
	if role == "" {
		role = bestRole(roles, keys)
	}
	for _, r := range roles {
		if r.name != role {
			continue
		}
		inner := *e
		inner.args = []string{"--config", path}
		if err := r.parse(&inner); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s: a good configuration of role %s\n", path, role)
		return nil
	}
	return usage(fmt.Errorf("%s: role: %q (allowed: up, sip, media, farm, bridge, recovery)", path, role))
}

type checker struct {
	name  string
	parse func(*env) error
}

func checkers() []checker {
	return []checker{
		{"up", func(e *env) error { _, err := parseUp(e); return err }},
		{"sip", func(e *env) error { _, err := parseSIP(e); return err }},
		{"media", func(e *env) error { _, err := parseMedia(e); return err }},
		{"bridge", func(e *env) error { _, err := parseBridge(e); return err }},
		{"farm", func(e *env) error { _, err := parseFarmRole(e); return err }},
		{"recovery", func(e *env) error { _, err := parseRecovery(e); return err }},
	}
}

// bestRole is the first role whose help lists the most of the keys.
func bestRole(roles []checker, keys []string) string {
	best, most := roles[0].name, -1
	for _, r := range roles {
		var help strings.Builder
		_ = r.parse(&env{args: []string{"--help"}, out: &help, err: io.Discard, getenv: func(string) string { return "" }})
		known := 0
		for _, k := range keys {
			if strings.Contains(help.String(), "  --"+k+" ") {
				known++
			}
		}
		if known > most {
			best, most = r.name, known
		}
	}
	return best
}
