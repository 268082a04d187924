package farm

import (
	"hash/maphash"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/sip/auth"
)

// authorized checks a REGISTER's credentials, or answers it with a challenge. The user must be the one that is registered:
// nobody may put his contact at another's name.
func (f *Farm) authorized(req *sipmsg.Request, tx *sipmsg.ServerTx, user string) bool {
	now := time.Now()
	worst := auth.Malformed
	for _, h := range req.GetHeaders("Authorization") {
		got := f.verifier.Check(auth.Request{
			Method: []byte(req.Method),
			Value:  []byte(h.Value()),
			Realm:  f.cfg.Realm,
			Tx:     f.transaction(req),
		}, now)
		if got.Reason == auth.OK {
			if string(got.User) == user {
				return true
			}
			f.refuse(tx, req, 403, "Forbidden")
			return false
		}
		worst = got.Reason
	}
	var challenges []sipmsg.Header
	for _, alg := range f.verifier.Algorithms() {
		value := f.verifier.Challenge(nil, f.cfg.Realm, alg, worst.Stale(), now)
		challenges = append(challenges, sipmsg.NewHeader("WWW-Authenticate", string(value)))
	}
	f.respond(tx, req, 401, "Unauthorized", challenges...)
	return false
}

// transaction is a number that a retransmission repeats and a replay cannot.
func (f *Farm) transaction(req *sipmsg.Request) uint64 {
	return maphash.Comparable(f.seed, struct {
		source, callID, via string
		seq                 uint32
	}{req.Source(), req.CallID().Value(), req.Via().Value(), req.CSeq().SeqNo})
}

// account tells if a user of that name is written down.
func (f *Farm) account(user string) bool {
	users := f.cfg.users()
	if users == nil {
		return false
	}
	_, ok := users.Lookup([]byte(user), []byte(f.cfg.Realm))
	return ok
}

func (c *Config) users() auth.Provider {
	if c.Known != nil {
		return c.Known
	}
	return c.Auth
}
