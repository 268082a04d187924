package siptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/icholy/digest"

	sipmsg "github.com/emiago/sipgo/sip"
)

// StatusError is a final answer that is not 2xx.
type StatusError struct {
	Method string
	Code   int
	Reason string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %d %s", strings.ToLower(e.Method), e.Code, e.Reason)
}

// authTries bounds the answers to challenges of one request: the first and one after a stale nonce.
const authTries = 2

// URI completes a target: "600" becomes sip:600@Domain, a full URI stays.
func (u *UA) URI(target string) string {
	if strings.Contains(target, ":") {
		return target
	}
	if u.cfg.Domain == "" {
		return "sip:" + target + "@" + u.local.Addr().String()
	}
	return "sip:" + target + "@" + u.cfg.Domain
}

// newRequest builds a request outside a dialog, addressed and routed, without a Via.
func (u *UA) newRequest(method sipmsg.RequestMethod, uri, to, tag, callID string, seq uint32) (*sipmsg.Request, error) {
	var recipient, aor, remote sipmsg.Uri
	for _, p := range []struct {
		text string
		uri  *sipmsg.Uri
	}{{uri, &recipient}, {u.AOR(), &aor}, {to, &remote}} {
		if err := sipmsg.ParseUri(p.text, p.uri); err != nil {
			return nil, fmt.Errorf("uri %q: %w", p.text, err)
		}
	}
	// From and To hold no port. RFC 3261 table 1.
	remote.Port = 0
	req := sipmsg.NewRequest(method, recipient)
	from := &sipmsg.FromHeader{Address: aor}
	from.Params.Add("tag", tag)
	id := sipmsg.CallIDHeader(callID)
	forwards := sipmsg.MaxForwardsHeader(70)
	req.AppendHeader(from)
	req.AppendHeader(&sipmsg.ToHeader{Address: remote})
	req.AppendHeader(&id)
	req.AppendHeader(&sipmsg.CSeqHeader{SeqNo: seq, MethodName: method})
	req.AppendHeader(&forwards)
	if err := u.address(req, &recipient, u.cfg.Proxy); err != nil {
		return nil, err
	}
	return req, nil
}

// address sets transport, source and destination of a request: proxy where it is given, else where uri points.
func (u *UA) address(req *sipmsg.Request, uri *sipmsg.Uri, proxy netip.AddrPort) error {
	transport := u.cfg.Transport
	if !proxy.IsValid() {
		if t, ok := uri.UriParams.Get("transport"); ok && t != "" {
			transport = strings.ToLower(t)
		}
		port := uri.Port
		if port == 0 {
			port = 5060
		}
		req.SetDestination(net.JoinHostPort(strings.Trim(uri.Host, "[]"), strconv.Itoa(port)))
	} else {
		req.SetDestination(proxy.String())
	}
	if transport != u.cfg.Transport {
		// The edge's Record-Route may name another transport than ours where it changes in between; the hop that we
		// reach is the one of our own transport.
		return fmt.Errorf("request to %s: this agent speaks %s only", uri.String(), u.cfg.Transport)
	}
	req.SetTransport(strings.ToUpper(transport))
	req.Laddr.IP = u.local.Addr().AsSlice()
	if u.udp != nil {
		// From the listening socket. A TCP connection takes a port of its own.
		req.Laddr.Port = int(u.local.Port())
	}
	return nil
}

// stamp puts a fresh Via on top: a new transaction.
func (u *UA) stamp(req *sipmsg.Request) {
	req.RemoveHeader("Via")
	via := &sipmsg.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: strings.ToUpper(u.cfg.Transport),
		Host: u.local.Addr().String(), Port: int(u.local.Port()),
	}
	via.Params.Add("branch", sipmsg.GenerateBranchN(20))
	via.Params.Add("rport", "")
	req.PrependHeader(via)
	if req.Body() == nil {
		// Content-Length: 0 is needed on streams, RFC 3261 section 20.14.
		req.SetBody(nil)
	}
}

// do sends a request other than INVITE and ACK, answers challenges and returns the final answer.
func (u *UA) do(ctx context.Context, req *sipmsg.Request) (*sipmsg.Response, error) {
	for try := 0; ; try++ {
		u.stamp(req)
		res, err := u.roundTrip(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.ToLower(string(req.Method)), err)
		}
		again, err := u.authorize(req, res, try)
		if err != nil {
			return nil, err
		}
		if !again {
			return res, nil
		}
		req.CSeq().SeqNo++
	}
}

func (u *UA) roundTrip(ctx context.Context, req *sipmsg.Request) (*sipmsg.Response, error) {
	tx, err := u.transact(ctx, req)
	if err != nil {
		return nil, err
	}
	defer tx.Terminate()
	for {
		select {
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res, nil
			}
		case <-tx.Done():
			return nil, txError(tx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// transact starts a client transaction, once Run serves the socket. The transaction itself does not end with ctx: an
// INVITE that is given up is ended by its 487, not by silence.
func (u *UA) transact(ctx context.Context, req *sipmsg.Request) (*sipmsg.ClientTx, error) {
	select {
	case <-u.ready:
	case <-u.ctx.Done():
		return nil, errors.New("the user agent is closing")
	case <-ctx.Done():
		return nil, fmt.Errorf("the user agent does not run: %w", ctx.Err())
	}
	return u.stack.TransactionLayer().Request(u.ctx, req)
}

func txError(tx sipmsg.ClientTransaction) error {
	if err := tx.Err(); err != nil {
		return err
	}
	return errors.New("the transaction ended without an answer")
}

// authorize adds credentials for a 401 or 407 and reports whether the request is to be sent again.
func (u *UA) authorize(req *sipmsg.Request, res *sipmsg.Response, try int) (bool, error) {
	ask, give := "WWW-Authenticate", "Authorization"
	switch res.StatusCode {
	case sipmsg.StatusUnauthorized:
	case sipmsg.StatusProxyAuthRequired:
		ask, give = "Proxy-Authenticate", "Proxy-Authorization"
	default:
		return false, nil
	}
	if u.cfg.Password == "" || try >= authTries {
		return false, nil
	}
	chal, err := u.challenge(res.GetHeaders(ask))
	if err != nil {
		return false, err
	}
	if chal == nil {
		return false, nil
	}
	// A second challenge with a nonce that is not called stale means that the password is wrong. RFC 7616 section 3.3.
	if try > 0 && !chal.Stale {
		return false, nil
	}
	cred, err := digest.Digest(chal, digest.Options{
		Method: string(req.Method), URI: req.Recipient.String(), Count: 1, Username: u.cfg.User, Password: u.cfg.Password,
	})
	if err != nil {
		return false, fmt.Errorf("digest: %w", err)
	}
	req.RemoveHeader(give)
	req.AppendHeader(sipmsg.NewHeader(give, cred.String()))
	return true, nil
}

// challenge picks the topmost challenge that can be answered. RFC 8760 section 2.4.
func (u *UA) challenge(hs []sipmsg.Header) (*digest.Challenge, error) {
	for _, h := range hs {
		chal, err := digest.ParseChallenge(h.Value())
		if err != nil {
			return nil, fmt.Errorf("challenge %q: %w", h.Value(), err)
		}
		algorithm := strings.ToUpper(chal.Algorithm)
		if algorithm == "" {
			algorithm = "MD5"
		}
		if u.cfg.Algorithm != "" && !strings.EqualFold(u.cfg.Algorithm, algorithm) {
			continue
		}
		if digest.CanDigest(chal) {
			return chal, nil
		}
	}
	return nil, nil
}

func statusError(req *sipmsg.Request, res *sipmsg.Response) error {
	return &StatusError{Method: string(req.Method), Code: res.StatusCode, Reason: res.Reason}
}
