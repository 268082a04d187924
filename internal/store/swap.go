package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Fixed by the server: how a bucket lies in its stream (nats.go, jetstream/kv.go).
const (
	subjectOf   = "$KV.%s.%s"
	streamOf    = "KV_%s"
	headerOp    = "KV-Operation"
	opPurge     = "PURGE"
	opDelete    = "DEL"
	headerClear = "Nats-Rollup"
	clearKey    = "sub"
)

// swap writes a value if the key's revision is still rev, by the expected sequence that the server checks, and by an id of the message.
//
// The id is what makes it one step in a cluster. The leader of a stream checks the sequence when a message comes, not when the cluster has agreed on
// it, so that of two messages for one revision, close together, both pass (nats-server 2.9, Debian's: one in three of what two processes write as fast as
// they can). Of two messages with one id the second is a duplicate, also while the first is on its way. A message that is lost there, with a leader that
// comes back, stands in the way of the next one until sameWithin is over; nobody waits for the answer to one that long.
func (b *Bucket) swap(ctx context.Context, key string, value []byte, rev uint64, header nats.Header) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, swapWait)
	defer cancel()
	wire := escape(key)
	if header == nil {
		value = b.s.seal.close(b, key, value)
	}
	msg := &nats.Msg{Subject: fmt.Sprintf(subjectOf, b.name, wire), Data: value, Header: header}
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(rev)}
	if rev > 0 { // the first write of a key is checked again by the cluster
		opts = append(opts, jetstream.WithMsgID(fmt.Sprintf("%s@%d", wire, rev)))
	}
	ack, err := b.s.js.PublishMsg(ctx, msg, opts...)
	if err != nil {
		return 0, typed(err)
	}
	if ack.Duplicate {
		return 0, ErrConflict
	}
	return ack.Sequence, nil
}

// purge is the header of a message that deletes a key.
func purge() nats.Header {
	return nats.Header{headerOp: {opPurge}, headerClear: {clearKey}}
}

// mark is the revision of the mark of a deleted key, or of what is forged, or ErrConflict if the key is there.
func (b *Bucket) mark(ctx context.Context, key string) (uint64, error) {
	stream, err := b.s.js.Stream(ctx, fmt.Sprintf(streamOf, b.name))
	if err != nil {
		return 0, typed(err)
	}
	last, err := stream.GetLastMsgForSubject(ctx, fmt.Sprintf(subjectOf, b.name, escape(key)))
	if errors.Is(err, jetstream.ErrMsgNotFound) { // the mark was swept away in between
		return 0, ErrConflict
	}
	if err != nil {
		return 0, typed(err)
	}
	if op := last.Header.Get(headerOp); op != opPurge && op != opDelete {
		if _, there := b.s.seal.open(b, key, last.Data); there {
			return 0, ErrConflict
		}
	}
	return last.Sequence, nil
}
