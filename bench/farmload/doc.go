// Command farmload measures calls and conferences on real Asterisk farms behind the edge: bench/farms.sh, bench/FARMS.md.
//
//  1. It starts store, farms, edge, media and two bridge processes as an operator does (system.go).
//  2. Calls: 20 a second, each of two phones that talk for three seconds; the time from INVITE to 180 (calls.go).
//  3. Third: two talk, a third one is added by the API; the longest silence that the first two heard (third.go).
//  4. Kill: 50 calls, kill -9 of the bridge that controls them; what is lost, and when the other one has control (kill.go).
//  5. Conference: 100 participants on one conference node, each with a tone of its own, all of them looked for in what each one hears
//     (conference.go); processor time of every process. Then the node drains and the conference moves to another one (move.go).
//
// The phones are one SIP user agent for those who call and one for those who are called, and a UDP socket for the media of each leg (leg.go).
package main
