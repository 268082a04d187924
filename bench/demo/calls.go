package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// farmLeg is the side of a call that the farm sees, in the admin port's words.
const farmLeg = "priv"

// legInfo is one side of a call as the admin port's /calls lists it.
type legInfo struct {
	Side  string `json:"side"`
	Codec string `json:"codec"`
}

type callInfo struct {
	CallID string    `json:"call_id"`
	Legs   []legInfo `json:"legs"`
}

// farmCodec asks the admin ports which codec the farm sees in a call.
func (e *edge) farmCodec(ctx context.Context, callID string) (string, error) {
	if len(e.admins) == 0 {
		return "", nil
	}
	for _, admin := range e.admins {
		calls, err := listCalls(ctx, admin)
		if err != nil {
			return "", err
		}
		for _, c := range calls {
			if c.CallID != callID {
				continue
			}
			for i, l := range c.Legs {
				// With one media interface for both sides no leg is named; the phones of this demo call, so theirs is the first.
				if l.Side == farmLeg || l.Side == "" && i == 1 {
					return l.Codec, nil
				}
			}
		}
	}
	return "", fmt.Errorf("the admin port does not list the call's %s leg", farmLeg)
}

func listCalls(ctx context.Context, admin string) ([]callInfo, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/calls", nil)
	if err != nil {
		return nil, fmt.Errorf("admin port: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("admin port: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("admin port: /calls: %s", resp.Status)
	}
	var calls []callInfo
	if err := json.NewDecoder(resp.Body).Decode(&calls); err != nil {
		return nil, fmt.Errorf("admin port: /calls: %w", err)
	}
	return calls, nil
}
