package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such key")
	ErrExists   = errors.New("the key exists")
	ErrConflict = errors.New("the value has changed")
	ErrHeld     = errors.New("somebody else holds the lease")
	ErrFull     = errors.New("too many writes are waiting")
	ErrAway     = errors.New("the store does not answer")
	ErrClosed   = errors.New("the store is closed")
	ErrKey      = errors.New("the key cannot be stored")
)

// typed gives the library's errors the names that callers branch on.
func typed(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return ErrNotFound
	case errors.Is(err, ErrConflict), conflict(err):
		return ErrConflict
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse),
		errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrReconnectBufExceeded), unavailable(err):
		return fmt.Errorf("%w: %w", ErrAway, err)
	case errors.Is(err, jetstream.ErrInvalidKey):
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return err
}

func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// unavailable is what a cluster answers while it elects a leader or lacks nodes: the same question may be answered later.
func unavailable(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code >= http.StatusInternalServerError
}

// hopeless tells of a write that no repetition makes better.
func hopeless(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, ErrKey)
}
