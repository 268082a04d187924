// Package ari is Asterisk's REST interface (ARI), typed: the resources in Asterisk's JSON shape and the server by which a
// farm without Asterisk answers like one. It is the only way in which the bridge role sees a farm.
//
// A request runs in these steps:
//
//  1. Basic authentication (RFC 7617), compared in constant time; 401 with {"message": ...} as res_ari.c answers.
//  2. The resource is found by method and path under /ari; an unknown one is 404, a known one with another method 405.
//  3. Query and JSON body are read as one set of parameters (server_route.go), the route does its work, and the answer is
//     printed as JSON; 204 where Asterisk has nothing to say. REST over the event socket takes the same way.
//
// An event runs in these steps: the farm publishes it with the names of what it concerns, the hub (server_events.go) finds the
// applications that are subscribed and do not filter it out, and queues it for their sockets (server_socket.go). A client
// that does not read is cut; it reads everything again when it is back.
//
// Shapes follow ARI 10.0.0 (Asterisk 22): rest-api/api-docs/{asterisk,channels,bridges,endpoints}.json.
package ari
