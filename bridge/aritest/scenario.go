package aritest

import (
	"context"
	"fmt"
	"net/url"

	"rtcedge/sip/siptest"
)

// scenario is what every node is asked, in this order.
func (r *run) scenario(ctx context.Context) {
	inbound := r.callIn(ctx, "4711")
	if r.err != nil {
		return
	}
	ch := "channels/" + r.id + "/"
	do := func(method, path, body string, until ...string) { r.do(ctx, method, path, body, until...) }

	do("GET", "channels", "")
	do("GET", "channels/"+r.id, "")
	do("POST", ch+"ring", "")
	do("POST", ch+"answer", "", "ChannelStateChange")
	call := <-inbound
	if call.err != nil {
		r.err = fmt.Errorf("call in: %w", call.err)
		return
	}
	do("POST", ch+"answer", "")
	do("GET", ch+"variable?variable="+url.QueryEscape("CALLERID(num)"), "")
	do("GET", ch+"variable?variable="+url.QueryEscape("CHANNEL(pjsip,call-id)"), "")
	do("GET", ch+"variable?variable=NOTHING", "")
	do("GET", ch+"variable", "")
	do("POST", ch+"variable?variable=ONE&value=1", "")
	do("GET", ch+"variable?variable=ONE", "")
	do("GET", "asterisk/variable?variable=RTCEDGE_ROLES", "")
	do("GET", "asterisk/info", "")
	do("GET", "asterisk/ping", "")
	do("GET", "endpoints/PJSIP/nobody", "")

	do("POST", "bridges/b1?type=mixing&name=call", "")
	do("POST", "bridges/b1?type=mixing&name=call", "")
	do("POST", "bridges/b1/addChannel?channel="+r.id, "", "ChannelEnteredBridge")
	do("POST", "channels", `{"endpoint":"PJSIP/edge/sip:bob@EDGE","app":"rtcedge","appArgs":"out,c1,c1.1","channelId":"c1.1","callerId":"Ann <1009>","variables":{"X":"1"}}`,
		"Dial", "Dial", "Dial", "StasisStart")
	do("POST", "bridges/b1/addChannel", `{"channel":["c1.1"]}`, "ChannelEnteredBridge")
	do("GET", "bridges/b1", "")
	do("GET", "applications/rtcedge", "")

	do("POST", "bridges/b1/play/p1", `{"media":"tone:!440/200,!880/200"}`, "PlaybackStarted")
	do("GET", "playbacks/p1", "")
	do("DELETE", "playbacks/p1", "", "PlaybackFinished")
	do("GET", "playbacks/p1", "")
	do("POST", ch+"play/p2?media=sound:no-such-sound", "", "PlaybackStarted", "PlaybackFinished")
	do("POST", "bridges/b1/record?name=talk&format=wav&ifExists=overwrite", "", "RecordingStarted")
	do("GET", "recordings/live/talk", "")
	do("POST", "recordings/live/talk/pause", "")
	do("DELETE", "recordings/live/talk/pause", "")
	do("POST", "recordings/live/talk/stop", "", "RecordingFinished")
	do("GET", "recordings/stored/talk", "")
	do("GET", "recordings/stored/talk/file", "")
	do("DELETE", "recordings/stored/talk", "")
	do("DELETE", "recordings/stored/talk", "")

	for _, path := range []string{"mute?direction=in", "hold", "moh", "silence"} {
		do("POST", ch+path, "")
		do("DELETE", ch+path, "")
	}
	do("POST", ch+"dtmf?dtmf=1", "")
	do("GET", "channels/c1.1/rtp_statistics", "")
	do("POST", "bridges/b1/moh", "")
	do("DELETE", "bridges/b1/moh", "")

	r.refusals(ctx, ch)

	do("POST", "bridges/b1/removeChannel?channel=c1.1", "", "ChannelLeftBridge")
	do("POST", "bridges/b1/removeChannel?channel=c1.1", "")
	do("DELETE", "channels/c1.1?reason_code=16", "", "ChannelDestroyed")
	if err := call.Hangup(ctx); err != nil {
		r.err = fmt.Errorf("hang up: %w", err)
		return
	}
	fmt.Fprintln(&r.out, "the phone hangs up")
	r.await("StasisEnd") // a channel that came in is not told of any more after it
	do("DELETE", "bridges/b1", "", "BridgeDestroyed")
	do("DELETE", "bridges/b1", "")

	inbound = r.callIn(ctx, "4712")
	do("DELETE", "channels/"+r.id+"?reason=busy", "", "StasisEnd")
	fmt.Fprintln(&r.out, "the phone got:", (<-inbound).err)
}

// refusals are commands that are wrong in one thing.
func (r *run) refusals(ctx context.Context, ch string) {
	for _, c := range [][2]string{
		{"GET", "channels/none"}, {"POST", "channels/none/answer"}, {"DELETE", "channels/none"}, {"POST", "channels/none/play?media=sound:beep"},
		{"GET", "bridges/none"}, {"DELETE", "bridges/none"}, {"POST", "bridges/none/addChannel?channel=c1.1"},
		{"POST", "bridges/b1/addChannel?channel=none"}, {"POST", "bridges/b1/addChannel"}, {"POST", "bridges/b1/removeChannel?channel=none"},
		{"POST", ch + "play"}, {"POST", "playbacks/none/control?operation=pause"}, {"GET", "recordings/live/none"},
		{"POST", "recordings/live/none/stop"}, {"GET", "recordings/stored/none"}, {"POST", ch + "record?name=x&format=mp3"},
		{"POST", "channels?endpoint=PJSIP/edge/sip:bob@EDGE"}, {"POST", "channels?app=rtcedge"},
		{"DELETE", ch[:len(ch)-1] + "?reason=tired"}, {"POST", ch + "mute?direction=up"},
		{"GET", "nothing"}, {"PUT", "channels"}, {"GET", "applications/none"}, {"POST", "channels/c1.1?endpoint=PJSIP/edge/sip:bob@EDGE&app=rtcedge"},
		{"POST", ch + "transfer_progress?states=channel_answered"}, {"POST", ch + "dtmf"}, {"POST", "channels/externalMedia?app=rtcedge&format=ulaw&external_host=nowhere"},
	} {
		r.do(ctx, c[0], c[1], "")
	}
}

// outcome is how a call that the phone placed went.
type outcome struct {
	*siptest.Call
	err error
}

// callIn lets the phone call and waits for its channel.
func (r *run) callIn(ctx context.Context, number string) <-chan outcome {
	done := make(chan outcome, 1)
	if r.err != nil {
		done <- outcome{err: r.err}
		return done
	}
	go func() {
		c, err := r.ua.Invite(ctx, number, []byte(sdp(r.node.Edge.Addr())), siptest.InviteOptions{})
		done <- outcome{c, err}
	}()
	fmt.Fprintf(&r.out, "the phone calls %s\n", number)
	r.await("StasisStart")
	return done
}
