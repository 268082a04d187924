// Package bridgetest is the plays of behaviours 37 to 43: phones call, an operator uses the API, and what each phone hears and gets is
// judged. The same plays run over the embedded farm in `make test` and over real Asterisks in `make e2e`, so that "the same behaviour on
// both" is one function and not a claim.
//
//  1. World is a running system: where phones register and call, the bridge's API, accounts.
//  2. A play makes its people (Person: a phone with its media), who register, and drives them and the API (Control).
//  3. It leaves no call behind: the next play begins with an empty system.
package bridgetest
