// Package siptest is the phone of the project's picture: user agents that register, call, answer, hold and hang up, for
// tests and for the demo.
//
// It is not a phone for people and it is not used by the edge: it knows nothing of our sip package, so that it meets
// the edge as a stranger would. It moves SDP bodies as bytes; what is in them is the caller's business.
//
// A call in steps:
//
//  1. [New] binds a socket, [UA.Run] reads from it until its context ends.
//  2. [UA.Register] sends REGISTER, answers a 401 with a digest and keeps nothing alive by itself.
//  3. [UA.Invite] sends INVITE with an SDP body, answers a 401 or 407 under the same Call-ID and From tag, reports
//     provisional answers, sends the ACK and returns a [Call]. If its context ends first, it sends CANCEL and waits for
//     the 487.
//  4. The called side gets an [Incoming] in Config.OnCall and rings, answers or rejects.
//  5. Both sides have a [Call] from then on: re-INVITE, BYE, and Done, which closes when the dialog has ended.
//
// sipgo does parsing, transports and transactions. The dialog (tags, CSeq, route set, remote target) is kept here,
// because the tests must see and steer what is sent.
//
// RFC 3261 (SIP), RFC 3581 (rport), RFC 6026 (2xx to INVITE), RFC 7616 and 8760 (digest with SHA-256).
package siptest
