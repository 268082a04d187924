// Package store is the one place of shared state: calls, conferences, flow positions, crash events, leases and media records, as JSON
// values under keys, on NATS JetStream. `up` runs the server inside the process; several machines share an external cluster.
//
// It knows nothing of what it keeps, and it is not on the way of a packet or of a message: the edge forwards while it is away.
//
//  1. New checks the Config. Run starts the embedded server, if there is one, connects and keeps connected.
//  2. A Bucket is a JetStream key-value bucket of history 1, of three copies in a cluster. Get, Put, Create, Update (compare-and-set), Delete,
//     List, Modify (a loop of compare-and-set) wait for the server; their context bounds how long. What could not be sent is never sent later.
//     How compare-and-set holds on a cluster: swap.go.
//  3. PutLater and DeleteLater return at once. A few goroutines write what they left, per key the newest value only, and go on trying while
//     the store is away. That is what lets calls go on (F12). The queue is bounded by keys and by bytes; a value that the server will never
//     take is dropped and counted, and holds up no other.
//  4. Watch sends what is there, an Entry without a key, and then every change, also across a lost connection.
//  5. A Lease is an entry that its holder writes again three times per ttl. Who wants it takes it over when he has seen the same revision for
//     longer than the ttl by his own monotonic clock, so that no two machines need the same time (F17), and when the bucket took writes in
//     all that time, so that a cluster without a leader changes no holder (F12).
//  6. When Run's context ends, what PutLater left is written, for a second at most, and everything is closed.
//
// Who may speak to it: over the network the embedded server asks for Config.Token; an external one for the account of its URL, by TLS where that is
// tls://. A server that refuses is one that is away: the Logger tells of it, and the store goes on trying. Who gets in all the same reads nothing and is not
// believed, where there is a Config.Key (seal.go).
//
// Keys are free text: bytes that NATS does not allow are escaped as =XX. An escaped key has 1024 bytes at most (ErrKey).
package store
