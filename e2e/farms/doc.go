// Package farms starts the whole system as an operator would: real Asterisks of the peers' chroot as call, conference and registrar
// farm, the edge, the media proxy and the bridge, each in a process of its own. `make farms` and the tests with real farms use it.
//
// It is not a supervisor: a process that ends stays ended, so that a test can kill it and start it again when it wants to.
//
//  1. Config says how many nodes there are and on which addresses. Accounts are made here.
//  2. Start writes each node's folder with `rtcedge asterisk-config` and runs its Asterisk in the chroot; its folder is /mnt there.
//  3. It runs media, sip and bridge, and returns when every part answers.
//  4. Stop ends all of it, in the opposite order.
package farms
