package recovery

import (
	"context"
	"encoding/json"
	"fmt"

	"rtcedge/bridge"
	"rtcedge/internal/store"
)

// book is the bucket of crashes. What was not written with the site's key is not there (internal/store): nobody tells of a crash, so that calls are moved,
// or hides one behind a record that says that it is over (F34).
type book struct{ *store.Bucket }

func readCrash(key string, value []byte) (c Crash, err error) {
	if err := json.Unmarshal(value, &c); err != nil {
		return c, fmt.Errorf("crash %s: %w", key, err)
	}
	c.ID = key
	return c, nil
}

func (b book) read(ctx context.Context, key string) (c Crash, err error) {
	e, err := b.Get(ctx, key)
	if err != nil {
		return c, err
	}
	return readCrash(key, e.Value)
}

// all are the records with their keys.
func (b book) all(ctx context.Context) (list []Crash, keys []string, err error) {
	entries, err := b.List(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		c, err := readCrash(e.Key, e.Value)
		if err != nil {
			return nil, nil, err
		}
		list, keys = append(list, c), append(keys, e.Key)
	}
	return list, keys, nil
}

// of are the crashes of a node.
func (b book) of(ctx context.Context, node bridge.NodeID) ([]Crash, error) {
	entries, err := b.List(ctx, string(node)+".")
	if err != nil {
		return nil, err
	}
	var out []Crash
	for _, e := range entries {
		c, err := readCrash(e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		if c.Node == node {
			out = append(out, c)
		}
	}
	return out, nil
}

// change reads a record, or begins one (there is false), has it changed, and writes it, again if somebody was faster. A change that returns false leaves
// everything as it is.
func (b book) change(ctx context.Context, key string, f func(c *Crash, there bool) bool) error {
	return b.Modify(ctx, key, func(old []byte) ([]byte, error) {
		var c Crash
		if old != nil {
			var err error
			if c, err = readCrash(key, old); err != nil {
				return nil, err
			}
		}
		if !f(&c, old != nil) {
			return old, nil
		}
		c.ID, c.Steps, c.Legs = "", nil, nil // its key says the one, the others have a bucket of their own
		return json.Marshal(c)
	})
}
