package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Crash is what recovery reports of one, as /crashes of its admin port has it.
type Crash struct {
	Node       string    `json:"node"`
	Epoch      string    `json:"epoch"`
	Reason     string    `json:"reason"`
	Since      time.Time `json:"since"`
	Detected   time.Time `json:"detected"`
	Done       time.Time `json:"done"`
	Controller string    `json:"controller"`
	Legs       []struct {
		Call      string `json:"call"`
		Leg       string `json:"leg"`
		SIPCallID string `json:"sip_call_id"`
		Target    string `json:"target"`
		Result    string `json:"result"`
		Reason    string `json:"reason"`
		Steps     []struct {
			Name string    `json:"name"`
			At   time.Time `json:"at"`
		} `json:"steps"`
	} `json:"legs"`
}

// Crashes asks a controller for its report.
func (l *Lab) Crashes(controller int) ([]Crash, error) {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get("http://" + l.Controller(controller).String() + "/crashes")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var out []Crash
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("/crashes: %w", err)
	}
	return out, nil
}

// Losses are the legs that did not come back, with recovery's reasons.
func (l *Lab) Losses() []string {
	crashes, err := l.Crashes(0)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, c := range crashes {
		for _, leg := range c.Legs {
			if leg.Result != "recovered" {
				steps := ""
				for _, s := range leg.Steps {
					steps += fmt.Sprintf(" %s %d", s.Name, s.At.Sub(c.Since).Milliseconds())
				}
				out = append(out, fmt.Sprintf("%s: leg %s is %s: %s (%s)", c.Node, leg.Leg, leg.Result, leg.Reason, steps))
			}
		}
	}
	return out
}
