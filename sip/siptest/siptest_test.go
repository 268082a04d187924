package siptest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sipmsg "github.com/emiago/sipgo/sip"

	"rtcedge/internal/testrun"
)

const (
	offerSDP  = "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
	answerSDP = "v=0\r\no=b 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n"
	holdSDP   = offerSDP + "a=sendonly\r\n"
)

// start runs a user agent for the length of the test.
func start(t *testing.T, cfg Config) *UA {
	t.Helper()
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	testrun.Run(t, u.Run)
	return u
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestCallBothTransports(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			answered, rang := make(chan *Call, 1), make(chan struct{})
			callee := start(t, Config{User: "1002", Transport: transport, OnCall: func(ctx context.Context, in *Incoming) {
				if got := string(in.Offer()); got != offerSDP {
					t.Errorf("offer %q", got)
				}
				if err := in.Ring(); err != nil {
					t.Error(err)
				}
				// sipgo takes each message on a goroutine of its own: a 200 right behind can overtake the 180.
				<-rang
				c, err := in.Answer(ctx, []byte(answerSDP))
				if err != nil {
					t.Error(err)
				}
				answered <- c
			}})
			caller := start(t, Config{User: "1001", Transport: transport})
			call, err := caller.Invite(within(t, 5*time.Second), callee.Contact(), []byte(offerSDP), InviteOptions{
				OnProvisional: func(code int, _ []byte) {
					if code == 180 {
						close(rang)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if string(call.RemoteSDP()) != answerSDP || call.SetupTime() <= 0 {
				t.Errorf("answer %q after %v", call.RemoteSDP(), call.SetupTime())
			}
			other := <-answered
			if got, err := call.Reinvite(within(t, 5*time.Second), []byte(holdSDP)); err != nil || string(got) != answerSDP {
				t.Errorf("re-INVITE: %q, %v", got, err)
			}
			if string(other.RemoteSDP()) != holdSDP {
				t.Errorf("the called side saw %q", other.RemoteSDP())
			}
			if _, err := other.Reinvite(within(t, 5*time.Second), []byte(answerSDP)); err != nil {
				t.Errorf("re-INVITE by the called side: %v", err)
			}
			if code, err := call.Request(within(t, 5*time.Second), "INFO", "application/dtmf-relay", []byte("Signal=1\r\n")); code != 200 {
				t.Errorf("INFO: %d, %v", code, err)
			}
			// One call ends by the caller's BYE, the other by the called side's.
			first, second := call, other
			if transport == "tcp" {
				first, second = other, call
			}
			if err := first.Hangup(within(t, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
			<-second.Done()
			if !second.EndedByPeer() || first.EndedByPeer() {
				t.Error("who sent the BYE is told wrong")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	var code atomic.Int32
	callee := start(t, Config{User: "1002", OnCall: func(_ context.Context, in *Incoming) {
		if c := int(code.Load()); c != 0 {
			_ = in.Reject(c, "No")
		}
	}})
	caller := start(t, Config{User: "1001"})
	for _, tc := range []struct{ reject, want int32 }{{486, 486}, {603, 603}, {0, 480}} {
		code.Store(tc.reject)
		_, err := caller.Invite(within(t, 5*time.Second), callee.Contact(), []byte(offerSDP), InviteOptions{})
		var status *StatusError
		if !errors.As(err, &status) || status.Code != int(tc.want) {
			t.Errorf("want %d, got %v", tc.want, err)
		}
	}
	lonely := start(t, Config{User: "1003"})
	_, err := caller.Invite(within(t, 5*time.Second), lonely.Contact(), []byte(offerSDP), InviteOptions{})
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 486 {
		t.Errorf("an agent without OnCall: %v", err)
	}
}

func TestCancel(t *testing.T) {
	gone := make(chan struct{})
	callee := start(t, Config{User: "1002", OnCall: func(ctx context.Context, in *Incoming) {
		_ = in.Ring()
		select {
		case <-in.Canceled():
			close(gone)
		case <-ctx.Done():
		}
	}})
	caller := start(t, Config{User: "1001"})
	ctx, cancel := context.WithCancel(within(t, 5*time.Second))
	_, err := caller.Invite(ctx, callee.Contact(), []byte(offerSDP), InviteOptions{
		OnProvisional: func(code int, _ []byte) {
			if code == 180 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the called side did not see the CANCEL")
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no user"},
		{Config{User: "a", Transport: "sctp"}, "sctp"},
		{Config{User: "a", Local: netip.MustParseAddrPort("192.0.2.1:5060")}, "192.0.2.1"},
	} {
		if u, err := New(tc.cfg); err == nil || u != nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc.cfg, err)
		}
	}
}

// TestRouteSet checks RFC 3261 sections 12.1.1 and 12.1.2: the caller reverses Record-Route, the called side does not.
func TestRouteSet(t *testing.T) {
	req := sipmsg.NewRequest(sipmsg.INVITE, sipmsg.Uri{Scheme: "sip", User: "b", Host: "b.test"})
	from := &sipmsg.FromHeader{Address: sipmsg.Uri{Scheme: "sip", User: "a", Host: "a.test"}}
	from.Params.Add("tag", "A")
	id := sipmsg.CallIDHeader("x")
	req.AppendHeader(from)
	req.AppendHeader(&sipmsg.ToHeader{Address: sipmsg.Uri{Scheme: "sip", User: "b", Host: "b.test"}})
	req.AppendHeader(&id)
	req.AppendHeader(&sipmsg.CSeqHeader{SeqNo: 7, MethodName: sipmsg.INVITE})
	req.AppendHeader(&sipmsg.ContactHeader{Address: sipmsg.Uri{Scheme: "sip", User: "a", Host: "192.0.2.1"}})
	for _, host := range []string{"p2.test", "p1.test"} {
		req.AppendHeader(&sipmsg.RecordRouteHeader{Address: sipmsg.Uri{Scheme: "sip", Host: host}})
	}
	uas, ok := dialogFromInvite(req, "B")
	if !ok {
		t.Fatal("no dialog")
	}
	bye := uas.request(sipmsg.BYE, 1).String()
	for _, want := range []string{"BYE sip:a@192.0.2.1 ", "From: <sip:b@b.test>;tag=B", "To: <sip:a@a.test>;tag=A", "CSeq: 1 BYE"} {
		if !strings.Contains(bye, want) {
			t.Errorf("%q is not in\n%s", want, bye)
		}
	}
	if strings.Index(bye, "p2.test") > strings.Index(bye, "p1.test") || uas.next().Host != "p2.test" {
		t.Errorf("the called side turned its route set round:\n%s", bye)
	}

	res := sipmsg.NewResponseFromRequest(req, 200, "OK", nil)
	res.AppendHeader(&sipmsg.ContactHeader{Address: sipmsg.Uri{Scheme: "sip", User: "b", Host: "192.0.2.2"}})
	uac, ok := dialogFromAnswer(req, res)
	if !ok {
		t.Fatal("no dialog")
	}
	if uac.next().Host != "p1.test" || uac.target.Host != "192.0.2.2" || uac.cseq != 7 {
		t.Errorf("caller: next %s, target %s, cseq %d", uac.next().Host, uac.target.Host, uac.cseq)
	}
}
