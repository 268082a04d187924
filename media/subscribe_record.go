package media

import (
	"errors"
	"slices"
	"time"

	"rtcedge/media/ng"
)

// A subscription in a session record, and in a query.

type subscriptionRecord struct {
	Tag     string         `json:"tag"`
	Label   string         `json:"label,omitempty"`
	From    []string       `json:"from"`
	Dialog  dialogRecord   `json:"dialog"`
	Sources []copiedRecord `json:"sources"`
	Request ng.Request     `json:"request"`
	Answer  ng.Request     `json:"answer"`
}

// copiedRecord names a leg by its place among the call's dialogs.
type copiedRecord struct {
	Dialog int    `json:"dialog"`
	Stream int    `json:"stream"`
	Side   int    `json:"side"`
	Kind   string `json:"kind"`
}

func (sub *subscription) record(c *call) subscriptionRecord {
	rec := subscriptionRecord{Tag: sub.tag, Label: sub.label, From: sub.from, Dialog: sub.dialog.record(), Request: sub.request, Answer: sub.answer}
	for _, src := range sub.sources {
		r := copiedRecord{Dialog: -1, Side: src.side, Kind: src.kind}
		for i, d := range c.dialogs {
			if k := slices.Index(d.streams, src.stream); k >= 0 {
				r.Dialog, r.Stream = i, k
			}
		}
		rec.Sources = append(rec.Sources, r)
	}
	return rec
}

// restoreSubscription adds one to a call whose dialogs are there; whatever happens, the caller can release all.
func (e *Engine) restoreSubscription(c *call, rec *subscriptionRecord, age time.Duration) error {
	err := e.restoreDialog(c, &rec.Dialog, age)
	last := len(c.dialogs) - 1
	sub := &subscription{dialog: c.dialogs[last], tag: rec.Tag, label: rec.Label, from: rec.From, request: rec.Request, answer: rec.Answer}
	c.dialogs = c.dialogs[:last]
	c.subscriptions = append(c.subscriptions, sub)
	if err != nil {
		return err
	}
	if len(rec.Sources) != len(sub.dialog.streams) {
		return errors.New("a subscription with another number of sources than streams")
	}
	for _, r := range rec.Sources {
		if r.Dialog < 0 || r.Dialog >= len(c.dialogs) || r.Stream < 0 || r.Stream >= len(c.dialogs[r.Dialog].streams) || r.Side&^1 != 0 ||
			c.dialogs[r.Dialog].streams[r.Stream] == nil {
			sub.sources = nil
			return errors.New("a subscription to a party that is not in the record")
		}
		sub.sources = append(sub.sources, copied{stream: c.dialogs[r.Dialog].streams[r.Stream], side: r.Side, kind: r.Kind})
	}
	if sub.answer.Command != "" {
		sub.attach()
	}
	return nil
}

// info is the subscriber in a query; call.mu is held.
func (sub *subscription) info() ng.TagInfo {
	d := sub.dialog
	tag := ng.TagInfo{Tag: sub.tag, Label: sub.label, Created: d.parties[1].created, Subscriptions: sub.from}
	for i, s := range d.streams {
		if s != nil {
			tag.Medias = append(tag.Medias, s.info(1, d.offer, i))
		}
	}
	return tag
}
