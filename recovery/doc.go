// Package recovery brings calls back when a farm node dies: it notices, finds the calls and their dialogs, and lets a healthy node go on inside
// them. What it does looks to sip and media like an ordinary re-INVITE.
//
//  1. sentinel.go looks at each node several times a second (probe.go); detect.go decides, purely, when it is dead.
//  2. crash.go writes the crash by compare-and-set: of several controllers one recovers.
//
// RFC 3261 (section 11: OPTIONS; section 12: dialogs).
package recovery
