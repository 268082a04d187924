package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// RoleKey is the key by which a file may say for which role it is.
const RoleKey = "role"

// ReadFile takes the values of a YAML file. Lists are YAML lists; a knob of the form NAME=VALUE,... may be a mapping.
func (s *Set) ReadFile(path string) error {
	pairs, err := readPairs(path)
	if err != nil {
		return err
	}
	s.file = path
	for _, p := range pairs {
		where := fmt.Sprintf("%s:%d: %s", path, p.line, p.key)
		if p.key == RoleKey {
			if p.texts[0] != s.role {
				return fmt.Errorf("%s: %q: the file is read by role %s (allowed: %s)", where, p.texts[0], s.role, s.role)
			}
			continue
		}
		e := s.lookup(p.key)
		if e == nil {
			return fmt.Errorf("%s: unknown key%s (allowed: %s)", where, s.nearest(p.key), strings.Join(s.Names(), ", "))
		}
		if err := e.take(p.texts, where); err != nil {
			return err
		}
	}
	return nil
}

// Names lists the knobs in the order of their declaration.
func (s *Set) Names() []string {
	names := make([]string, len(s.entries))
	for i, e := range s.entries {
		names[i] = e.name
	}
	return names
}

func (s *Set) nearest(key string) string {
	best, dist := "", 3
	for _, e := range s.entries {
		if d := editDistance(key, e.name); d < dist {
			best, dist = e.name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q", best)
}

// Keys reads the keys of a file and the role it names ("" if none).
func Keys(path string) (keys []string, role string, err error) {
	pairs, err := readPairs(path)
	if err != nil {
		return nil, "", err
	}
	for _, p := range pairs {
		if p.key == RoleKey {
			role = p.texts[0]
			continue
		}
		keys = append(keys, p.key)
	}
	return keys, role, nil
}

type pair struct {
	key   string
	texts []string
	line  int
}

func readPairs(path string) ([]pair, error) {
	data, err := readAll(path)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w (allowed: YAML with one `key: value` a line)", path, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: not a mapping (allowed: `key: value` lines)", path, top.Line)
	}
	var pairs []pair
	for i := 0; i+1 < len(top.Content); i += 2 {
		k, v := top.Content[i], top.Content[i+1]
		if j := slices.IndexFunc(pairs, func(p pair) bool { return p.key == k.Value }); j >= 0 {
			return nil, fmt.Errorf("%s:%d: %s: stands already in line %d (allowed: once)", path, k.Line, k.Value, pairs[j].line)
		}
		texts, err := texts(v)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", path, v.Line, k.Value, err)
		}
		pairs = append(pairs, pair{key: k.Value, texts: texts, line: k.Line})
	}
	return pairs, nil
}

// texts flattens a YAML value to what would be typed for the flag.
func texts(v *yaml.Node) ([]string, error) {
	switch v.Kind {
	case yaml.ScalarNode:
		return []string{v.Value}, nil
	case yaml.SequenceNode:
		out := make([]string, 0, len(v.Content))
		for _, item := range v.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: nested value (allowed: a list of plain values)", item.Line)
			}
			out = append(out, item.Value)
		}
		return out, nil
	case yaml.MappingNode:
		var out []string
		for i := 0; i+1 < len(v.Content); i += 2 {
			inner, err := texts(v.Content[i+1])
			if err != nil {
				return nil, err
			}
			out = append(out, v.Content[i].Value+"="+strings.Join(inner, ","))
		}
		return out, nil
	}
	return nil, fmt.Errorf("unsupported YAML (allowed: a value, a list, or NAME: VALUE lines)")
}

// editDistance is Levenshtein's, for "did you mean".
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
