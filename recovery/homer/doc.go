// Package homer is the memory of recovery's box: captured SIP messages by Call-ID, in a store of our own or in a real HOMER, which are asked alike.
//
// It rebuilds nothing; package recovery does. It is no archive: what it keeps is bounded in bytes and in time.
//
//  1. Store.Add takes a HEP packet, finds its Call-ID and appends the message to that call.
//  2. Where the memory is full, whole Call-IDs go: first those that are no calls (OPTIONS, REGISTER, INVITEs that were refused) and calls that ended, then
//     the calls that said nothing for the longest time; what is no call yet has an eighth of the memory for itself. kind.go tells them apart by
//     responses. A dialog without its beginning is worth nothing, so no call is kept in part.
//  3. Store.Messages and Client.Messages answer for many Call-IDs at once: one question with 200 took a HOMER 0.5 s, 200 questions 3 s.
//  4. API serves the store in the form of HOMER's API version 3, for whatever reads HOMER.
//
// What the client knows about a real HOMER: times are cut to whole seconds, so it asks until two seconds from now; the answer to a POST is 201, that to a
// wrong token is 400; rows show up after up to four seconds; derived fields are wrong at times, so only raw, addresses and times are read.
package homer
