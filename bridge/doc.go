// Package bridge is the bridge box of the picture: one control of calls and conferences over the farms, whatever they are made of. It
// speaks ARI (package ari) to each node, keeps what it knows in records of the store, and has one HTTP API.
//
// It is not in the media path and not in the SIP path: it tells farm nodes what to do with their channels.
//
// An event runs in these steps:
//
//  1. The node's stream (ari.Stream) hands it over in order; a gap is an event of its own.
//  2. The channel or bridge in it leads to the call; an unknown channel with StasisStart makes a new one.
//  3. The call's own goroutine takes it from a bounded queue. Nobody else touches its record.
//  4. A pure function (machine.go and its neighbours) gets record and event and returns the actions; the record is changed.
//  5. The record goes to the store by compare-and-set, the actions go to the node. A failed action is the next event.
//
// After a gap, and when another process takes a node over, channels and bridges are read, compared with the records and the difference is
// put in as events (resync.go), so that there is one way for both.
package bridge
