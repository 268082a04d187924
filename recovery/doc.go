// Package recovery brings calls back when a farm node dies: it notices, finds the calls and their dialogs, and lets a healthy node go on inside
// them. What it does looks to sip and media like an ordinary re-INVITE.
//
//  1. sentinel.go looks at each node several times a second (probe.go) and who answers there (identity.go); detect.go decides, purely, when it is dead.
//  2. recover.go takes the crash's lease: of several controllers one recovers, and another one goes on where it falls silent. crash.go writes the
//     crash by compare-and-set. fence.go keeps the dead node out at the edges, and lets it in again when it is rid of what others took (back.go).
//  3. rescue.go follows the calls' records (lookup.go): a leg whose record says that it is on the dead node is brought back, whenever that shows.
//  4. A History rebuilds their dialogs from what was captured: collect.go asks the capture, dialog.go makes a dialog of the messages of a Call-ID
//     purely, or a refusal with its reason: evidence.go reads them (sipfields.go), dialog_begin.go finds who called and what was confirmed,
//     dialog_state.go how far the two have counted and where the far end is now.
//  5. soothe.go: media joins the two of a call directly, and gives others comfort noise, until their farm sides speak again.
//  6. channel.go chooses a healthy node by rendezvous hashing and says what it is asked for: a channel with PJSIP_RECOVERY_* variables, whose INVITE
//     goes out inside the old dialog.
//  7. leg.go writes the claim (claim.go) before each INVITE, so that a dialog never gets two at a time from anybody; waits until the bridge role has
//     the channel in its place (it writes that into the call's record), tries again where that can help, and gives the leg up where it cannot.
//  8. report.go keeps every step with its time, result and reason, meter.go times them; query.go reads the reports, forget.go removes old ones.
//
// RFC 3261 (section 11: OPTIONS; section 12: dialogs; sections 20.10 and 25.1: name-addr), RFC 3264 (section 8: o= goes on).
package recovery
