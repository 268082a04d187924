package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"rtcedge/internal/store"
)

// Flow is what a number does: a list of actions.
type Flow struct {
	Number  string       `json:"number" yaml:"number"`
	Actions []FlowAction `json:"actions" yaml:"actions"`
}

// flowBook is the flows by number: those of the store, and those of files below them.
type flowBook struct {
	mu    sync.RWMutex
	files map[string][]FlowAction
	store map[string][]FlowAction
}

func newFlowBook(files []Flow) *flowBook {
	b := &flowBook{files: map[string][]FlowAction{}, store: map[string][]FlowAction{}}
	for _, f := range files {
		b.files[f.Number] = f.Actions
	}
	return b
}

func (b *flowBook) get(number string) []FlowAction {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if f, ok := b.store[number]; ok {
		return f
	}
	return b.files[number]
}

func (b *flowBook) set(number string, actions []FlowAction) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if actions == nil {
		delete(b.store, number)
		return
	}
	b.store[number] = actions
}

func (b *flowBook) list() []Flow {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := []Flow{}
	for n, a := range b.files {
		if _, hidden := b.store[n]; !hidden {
			out = append(out, Flow{n, a})
		}
	}
	for n, a := range b.store {
		out = append(out, Flow{n, a})
	}
	slices.SortFunc(out, func(x, y Flow) int { return strings.Compare(x.Number, y.Number) })
	return out
}

// watch keeps the flows of the store: every process has those that were posted to any.
func (b *flowBook) watch(ctx context.Context, bucket *store.Bucket, log *slog.Logger) {
	for ctx.Err() == nil {
		entries, err := bucket.Watch(ctx, "")
		if err != nil {
			log.Warn("watch flows", "error", err)
			pause(ctx, time.Second)
			continue
		}
		for e := range entries {
			if e.Key == "" {
				continue
			}
			var f Flow
			if e.Deleted || json.Unmarshal(e.Value, &f) != nil {
				b.set(e.Key, nil)
				continue
			}
			b.set(e.Key, f.Actions)
		}
	}
}

// needs lists, for each action, the fields that it must have.
func needs() map[string][]string {
	return map[string][]string{
		"answer": nil, "play": {"media"}, "say-tones": {"text"}, "digits": nil, "connect": {"to"}, "conference_join": {"name"},
		"record": nil, "transfer": {"to"}, "set": {"name"}, "branch": {"if"}, "hangup": nil,
	}
}

func (a *FlowAction) has(field string) bool {
	switch field {
	case "media":
		return len(a.Media) > 0
	case "text":
		return a.Text != ""
	case "to":
		return a.To != ""
	case "name":
		return a.Name != ""
	case "if":
		return a.If != ""
	}
	return false
}

// check tells what is wrong with an action.
func (a *FlowAction) check(labels map[string]bool) error {
	fields, known := needs()[a.Do]
	if !known {
		var names []string
		for name := range needs() {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("do: unknown action %q (allowed: %s)", a.Do, strings.Join(names, ", "))
	}
	for _, f := range fields {
		if !a.has(f) {
			return fmt.Errorf("%s: %s is missing (allowed: any text)", a.Do, f)
		}
	}
	for _, m := range a.Media {
		if kind, name, ok := strings.Cut(m, ":"); !ok || name == "" || (kind != "sound" && kind != "recording" && kind != "tone") {
			return fmt.Errorf("%s: media %q (allowed: sound:NAME, recording:NAME, tone:NAME)", a.Do, m)
		}
	}
	for _, label := range []string{a.Goto, a.Else} {
		if label != "" && !labels[label] {
			return fmt.Errorf("%s: no action has the label %q (allowed: a label of this flow)", a.Do, label)
		}
	}
	switch {
	case a.Do == "say-tones" && strings.Trim(a.Text, "0123456789*#${}abcdefghijklmnopqrstuvwxyz_") != "":
		return fmt.Errorf("say-tones: text %q (allowed: 0-9 * # and ${variables})", a.Text)
	case a.Max < 0 || a.Max > 64:
		return fmt.Errorf("%s: max %d (allowed: 0 to 64)", a.Do, a.Max)
	case a.Timeout < 0 || a.Timeout > 3600 || a.Seconds < 0 || a.Seconds > 86400:
		return fmt.Errorf("%s: timeout %v, seconds %v (allowed: 0 to 3600, 0 to 86400)", a.Do, a.Timeout, a.Seconds)
	case a.Cause < 0 || a.Cause > 127:
		return fmt.Errorf("%s: cause %d (allowed: 0 to 127, of Q.850)", a.Do, a.Cause)
	}
	return nil
}

// maxActions bounds a flow: its record holds all of it.
const maxActions = 200

// Check tells the first thing that is wrong; where names the action.
func (f *Flow) Check() error {
	return f.check(func(i int) string { return fmt.Sprintf("action %d", i+1) })
}

func (f *Flow) check(where func(int) string) error {
	if f.Number == "" {
		return fmt.Errorf("number is missing (allowed: what is dialled)")
	}
	if len(f.Actions) == 0 || len(f.Actions) > maxActions {
		return fmt.Errorf("number %s: %d actions (allowed: 1 to %d)", f.Number, len(f.Actions), maxActions)
	}
	labels := map[string]bool{}
	for _, a := range f.Actions {
		labels[a.Label] = a.Label != ""
	}
	for i := range f.Actions {
		if err := f.Actions[i].check(labels); err != nil {
			return fmt.Errorf("number %s, %s: %w", f.Number, where(i), err)
		}
	}
	return nil
}

// ParseFlows reads flows from YAML or JSON: a list of {number, actions}. An error names line and action.
func ParseFlows(name string, text []byte) ([]Flow, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%s: not a list (allowed: a list of {number, actions})", name)
	}
	var flows []Flow
	for _, item := range root.Content[0].Content {
		var f Flow
		if err := unknownKeys(name, item, "number", "actions"); err != nil {
			return nil, err
		}
		lines := actionLines(item)
		for _, a := range lines {
			if err := unknownKeys(name, a, "do", "label", "media", "text", "max", "end", "timeout", "into", "to", "name", "value", "if", "goto", "else", "seconds", "stop", "cause", "moderator"); err != nil {
				return nil, err
			}
		}
		if err := item.Decode(&f); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, item.Line, err)
		}
		if err := f.check(func(i int) string { return fmt.Sprintf("%s:%d: action %d", name, lines[i].Line, i+1) }); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, item.Line, err)
		}
		flows = append(flows, f)
	}
	return flows, nil
}

func actionLines(item *yaml.Node) []*yaml.Node {
	for i := 0; i+1 < len(item.Content); i += 2 {
		if item.Content[i].Value == "actions" {
			return item.Content[i+1].Content
		}
	}
	return nil
}

func unknownKeys(name string, n *yaml.Node, allowed ...string) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: not a mapping (allowed: %s)", name, n.Line, strings.Join(allowed, ", "))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; !slices.Contains(allowed, k.Value) {
			return fmt.Errorf("%s:%d: unknown key %q (allowed: %s)", name, k.Line, k.Value, strings.Join(allowed, ", "))
		}
	}
	return nil
}
