package bridge

import (
	"encoding/json"
	"testing"
)

// FuzzParseFlows: whatever a file or the API's body holds, a flow that is taken passes its own check and runs without a panic, and ends.
func FuzzParseFlows(f *testing.F) {
	f.Add([]byte("- number: '1'\n  actions: [{do: answer}, {do: digits, max: 1}, {do: branch, if: x, goto: l}, {do: hangup, label: l}]"))
	f.Add([]byte(`[{"number":"8","actions":[{"do":"say-tones","text":"${a}5*"},{"do":"set","name":"a","value":"1"},{"do":"record","seconds":1e9}]}]`))
	f.Add([]byte("- &a\n  number: *a"))
	f.Add([]byte("[{number: 1, actions: [{do: connect, to: '${'}]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		flows, err := ParseFlows("f", text)
		if err != nil {
			return
		}
		for _, flow := range flows {
			if err := flow.Check(); err != nil {
				t.Fatalf("taken, and refused by its own check: %v", err)
			}
			body, err := json.Marshal(flow)
			var again Flow
			if err != nil || json.Unmarshal(body, &again) != nil || again.Check() != nil {
				t.Fatalf("does not survive the store: %v", err)
			}
			p := newPlay(t, Call{Program: ProgramFlow, Flow: &FlowState{Name: flow.Number, Actions: flow.Actions}})
			p.m.input(in("a"))
			for range 3 * len(flow.Actions) { // keys, the ends of sounds, and time go on
				if p.m.ended || p.m.call.Flow == nil {
					break
				}
				p.m.digit("a", "1")
				p.m.flowTimer()
			}
		}
	})
}
