// Package asterisk writes the configuration of a farm node that is a real Asterisk: the box "call farm", "conference farm" or
// "registrar farm" of the picture. `rtcedge asterisk-config` is its command line; the templates lie beside it, to be read and
// changed as configuration is.
//
// It is not a controller: nothing here talks to a running Asterisk (bridge/ari does).
//
//  1. Config says which node it is: roles, addresses, accounts. New checks it.
//  2. Files renders all of the folder: *.conf from templates, sounds and music made from sines, so that no sound package is needed.
//  3. Write puts them into a folder with the sums of what it wrote, and refuses to overwrite what somebody else wrote or changed.
//  4. `asterisk -f -C DIR/asterisk.conf` runs it. Everything that Asterisk writes stays in DIR.
//
// What a node tells about itself: the globals RTCEDGE_NODE, RTCEDGE_ROLES, RTCEDGE_SIP and RTCEDGE_EDGE (GET
// /ari/asterisk/variable), and its name as systemname (GET /ari/asterisk/info, config.name).
package asterisk
