// Package aritest drives an ARI node, real or embedded, through one scenario and writes down what came of it: each command
// with its status, the keys of its answer or its error message, and the events in their order with their keys. Two nodes
// behave alike if the transcripts are equal. asterisk.txt was recorded from a real Asterisk 22 with our configuration
// (go test -tags e2e -run TestARIScenario ./e2e -update).
//
// A run goes in these steps: the event socket is opened, a phone calls in by the address that the node takes for the edge,
// the commands of scenario.go are sent one after the other, and after each the events that it must bring are awaited.
package aritest
