package media

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestB20TOSPerCall: packets leave marked with 184 (expedited forwarding), with what the key TOS says, with what it said before for -1,
// and with 184 again where it is missing; RTP and RTCP.
func TestB20TOSPerCall(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	tos := func() int {
		t.Helper()
		a.send(a.packet(0, make([]byte, 160)))
		return tosOf(t, b.conn)
	}
	receiveTOS(t, b.conn)
	for _, c := range []struct {
		key  *int
		want int
	}{{nil, 184}, {ptr(40), 40}, {ptr(-1), 40}, {nil, 184}, {ptr(0), 0}} {
		offer := relayed("c", "a", a.body("RTP/AVP", "0"))
		offer.TOS = c.key
		b.take(r.must(offer))
		answer := answered("c", "a", "b", b.body("RTP/AVP", "0"))
		answer.TOS = ptr(-1) // an answer that says nothing would bring the node's back
		a.take(r.must(answer))
		r.barrier()
		if got := tos(); got != c.want {
			t.Errorf("TOS %v: %d, want %d", c.key, got, c.want)
		}
	}
}

// TestB23TakeOverKeepsMarking: the traffic class of a call goes with it.
func TestB23TakeOverKeepsMarking(t *testing.T) {
	r := newRig(t, Config{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	receiveTOS(t, b.conn)
	offer := relayed("c", "a", a.body("RTP/AVP", "0"))
	offer.TOS = ptr(40)
	answer := answered("c", "a", "b", b.body("RTP/AVP", "0"))
	answer.TOS = ptr(-1)
	b.take(r.must(offer))
	a.take(r.must(answer))
	r.moved(t, "c", Config{})
	a.send(a.packet(0, make([]byte, 160)))
	if got := tosOf(t, b.conn); got != 40 {
		t.Errorf("TOS %d at the next node, want 40", got)
	}
}

func ptr(n int) *int { return &n }

// receiveTOS asks for the traffic class of what comes.
func receiveTOS(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tosOf reads a datagram and says how it was marked.
func tosOf(t *testing.T, conn *net.UDPConn) int {
	t.Helper()
	b, oob := make([]byte, 2000), make([]byte, 256)
	conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, n, _, _, err := conn.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS {
			return int(m.Data[0])
		}
	}
	t.Fatal("no traffic class")
	return 0
}
