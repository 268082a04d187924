// Package ari is Asterisk's REST interface (ARI), typed: the resources in Asterisk's JSON shape and the server by which a
// farm without Asterisk answers like one. It is the only way in which the bridge role sees a farm.
//
// A request runs in these steps:
//
//  1. Basic authentication (RFC 7617), compared in constant time; 401 with {"message": ...} as res_ari.c answers.
//  2. The resource is found by method and path under /ari; an unknown one is 404, a known one with another method 405.
//  3. The Farm is asked, the answer is printed as JSON, 204 where Asterisk has nothing to say.
//
// What it answers today: asterisk/info, channels (list, one, hang up), bridges (list, one), endpoints (list). The events and
// the other commands are not part of it yet, and are answered with 404.
//
// Shapes follow ARI 10.0.0 (Asterisk 22): rest-api/api-docs/{asterisk,channels,bridges,endpoints}.json.
package ari
