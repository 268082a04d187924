package ari

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Info tells what answers; Status.StartupTime is the epoch of the node.
func (c *Client) Info(ctx context.Context) (AsteriskInfo, error) {
	var v AsteriskInfo
	return v, c.do(ctx, http.MethodGet, "asterisk/info", nil, nil, &v)
}

// Global reads a global variable or evaluates a dialplan function; "" if it is not set.
func (c *Client) Global(ctx context.Context, name string) (string, error) {
	var v Variable
	err := c.do(ctx, http.MethodGet, "asterisk/variable", pairs("variable", name), nil, &v)
	return v.Value, err
}

// Filter switches event types off for the application.
func (c *Client) Filter(ctx context.Context, disallowed ...string) error {
	type filter struct {
		Disallowed []EventFilter `json:"disallowed"`
	}
	var f filter
	for _, kind := range disallowed {
		f.Disallowed = append(f.Disallowed, EventFilter{Type: kind})
	}
	return c.do(ctx, http.MethodPut, "applications/"+id(c.cfg.App)+"/eventFilter", nil, f, nil)
}

// filter switches off what floods and nobody reads.
func (c *Client) filter(ctx context.Context) error {
	return c.Filter(ctx, "ChannelVarset", "ChannelDialplan", "ChannelCallerId", "ChannelConnectedLine")
}

// probe lets the node send us an event.
func (c *Client) probe(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "events/user/"+probeEvent, pairs("application", c.cfg.App), nil, nil)
}

// Subscribe asks for the events of a channel that is not in the application (channel:ID, bridge:ID, endpoint:TECH/NAME).
func (c *Client) Subscribe(ctx context.Context, source string) error {
	return c.do(ctx, http.MethodPost, "applications/"+id(c.cfg.App)+"/subscription", pairs("eventSource", source), nil, nil)
}

// Channels lists all channels of the node.
func (c *Client) Channels(ctx context.Context) ([]Channel, error) {
	var v []Channel
	return v, c.do(ctx, http.MethodGet, "channels", nil, nil, &v)
}

// Channel reads one.
func (c *Client) Channel(ctx context.Context, channel string) (Channel, error) {
	var v Channel
	return v, c.do(ctx, http.MethodGet, "channels/"+id(channel), nil, nil, &v)
}

// Originate is a new channel to be placed.
type Originate struct {
	Endpoint  string            `json:"endpoint"`
	App       string            `json:"app"`
	AppArgs   string            `json:"appArgs,omitempty"`
	ChannelID string            `json:"channelId,omitempty"`
	CallerID  string            `json:"callerId,omitempty"` // "Name" <number>
	Timeout   int               `json:"timeout,omitempty"`  // seconds
	Formats   string            `json:"formats,omitempty"`
	Variables map[string]string `json:"variables,omitempty"`
}

// Originate places a channel. It rings when this returns, at best.
func (c *Client) Originate(ctx context.Context, o Originate) (Channel, error) {
	if o.App == "" {
		o.App = c.cfg.App
	}
	var v Channel
	return v, c.do(ctx, http.MethodPost, "channels", nil, o, &v)
}

// Answer answers an incoming channel.
func (c *Client) Answer(ctx context.Context, channel string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/answer", nil, nil, nil)
}

// Ring lets the caller hear ringback (180).
func (c *Client) Ring(ctx context.Context, channel string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/ring", nil, nil, nil)
}

// Hangup ends a channel with a Q.850 cause; 0 is 16.
func (c *Client) Hangup(ctx context.Context, channel string, cause int) error {
	if cause == 0 {
		cause = 16
	}
	return c.do(ctx, http.MethodDelete, "channels/"+id(channel), pairs("reason_code", strconv.Itoa(cause)), nil, nil)
}

// Mute switches a direction off (on) or back on: in is what the party says, out is what it hears.
func (c *Client) Mute(ctx context.Context, channel, direction string, on bool) error {
	return c.do(ctx, onOff(on), "channels/"+id(channel)+"/mute", pairs("direction", direction), nil, nil)
}

// Hold tells the phone that it is held, or no longer.
func (c *Client) Hold(ctx context.Context, channel string, on bool) error {
	return c.do(ctx, onOff(on), "channels/"+id(channel)+"/hold", nil, nil, nil)
}

// Music plays music on hold to a channel, or ends it.
func (c *Client) Music(ctx context.Context, channel string, on bool) error {
	return c.do(ctx, onOff(on), "channels/"+id(channel)+"/moh", nil, nil, nil)
}

// DTMF sends digits.
func (c *Client) DTMF(ctx context.Context, channel, digits string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/dtmf", pairs("dtmf", digits), nil, nil)
}

// Continue lets a channel go on in the dialplan.
func (c *Client) Continue(ctx context.Context, channel, dialplan, exten string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/continue", pairs("context", dialplan, "extension", exten, "priority", "1"), nil, nil)
}

// Redirect answers an incoming channel with 302, or an answered one with REFER.
func (c *Client) Redirect(ctx context.Context, channel, endpoint string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/redirect", pairs("endpoint", endpoint), nil, nil)
}

// Variable reads a channel's variable or function.
func (c *Client) Variable(ctx context.Context, channel, name string) (string, error) {
	var v Variable
	err := c.do(ctx, http.MethodGet, "channels/"+id(channel)+"/variable", pairs("variable", name), nil, &v)
	return v.Value, err
}

// SetVariable sets one.
func (c *Client) SetVariable(ctx context.Context, channel, name, value string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/variable", pairs("variable", name, "value", value), nil, nil)
}

// States that TransferProgress takes.
const (
	TransferProgress    = "channel_progress"
	TransferAnswered    = "channel_answered"
	TransferUnavailable = "channel_unavailable"
	TransferDeclined    = "channel_declined"
)

// TransferProgress tells the phone that asked for a transfer (REFER) how it fares.
func (c *Client) TransferProgress(ctx context.Context, channel, state string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/transfer_progress", pairs("states", state), nil, nil)
}

// ExternalMedia makes a channel whose media goes to host as plain RTP.
func (c *Client) ExternalMedia(ctx context.Context, channel, host, format, args string) (Channel, error) {
	var v Channel
	return v, c.do(ctx, http.MethodPost, "channels/externalMedia", pairs("app", c.cfg.App, "channelId", channel, "external_host", host,
		"format", format, "transport", "udp", "encapsulation", "rtp", "direction", "both", "data", args), nil, &v)
}

// Bridges lists all bridges of the node.
func (c *Client) Bridges(ctx context.Context) ([]Bridge, error) {
	var v []Bridge
	return v, c.do(ctx, http.MethodGet, "bridges", nil, nil, &v)
}

// CreateBridge makes a mixing bridge. Without keys the node may relay the packets of two channels beside its core (TechnologyNative): then it tells of no
// key that one of them presses. ErrConflict: one of that id is there.
func (c *Client) CreateBridge(ctx context.Context, bridge, name string, keys bool) (Bridge, error) {
	kind := "mixing"
	if keys {
		kind = "mixing,dtmf_events"
	}
	var v Bridge
	return v, c.do(ctx, http.MethodPost, "bridges/"+id(bridge), pairs("type", kind, "name", name), nil, &v)
}

// DestroyBridge ends a bridge; its channels stay in the application.
func (c *Client) DestroyBridge(ctx context.Context, bridge string) error {
	return c.do(ctx, http.MethodDelete, "bridges/"+id(bridge), nil, nil, nil)
}

// Join is how a channel enters a bridge.
type Join struct {
	Channel string `json:"channel"`
	Mute    bool   `json:"mute,omitempty"`
	Absorb  bool   `json:"absorbDTMF,omitempty"` // the channel's keys are told of, and not passed on to the others
}

// AddChannel puts a channel into a bridge.
func (c *Client) AddChannel(ctx context.Context, bridge string, j Join) error {
	return c.do(ctx, http.MethodPost, "bridges/"+id(bridge)+"/addChannel", nil, j, nil)
}

// RemoveChannel takes one out; it stays in the application.
func (c *Client) RemoveChannel(ctx context.Context, bridge, channel string) error {
	return c.do(ctx, http.MethodPost, "bridges/"+id(bridge)+"/removeChannel", pairs("channel", channel), nil, nil)
}

// Play plays sounds one after the other. target is channel:ID or bridge:ID. offset is where to begin in the first one. (ARI's skipms is another thing: how far
// a key for forward or back goes.)
func (c *Client) Play(ctx context.Context, target, playback string, media []string, offset time.Duration) error {
	path, err := targetPath(target)
	if err != nil {
		return err
	}
	body := struct {
		Media  []string `json:"media"`
		Offset int64    `json:"offsetms,omitempty"`
	}{media, offset.Milliseconds()}
	return c.do(ctx, http.MethodPost, path+"/play/"+id(playback), nil, body, nil)
}

// StopPlayback ends a playback.
func (c *Client) StopPlayback(ctx context.Context, playback string) error {
	return c.do(ctx, http.MethodDelete, "playbacks/"+id(playback), nil, nil, nil)
}

// Record begins a recording (WAV). target is channel:ID or bridge:ID; 0 is no limit.
func (c *Client) Record(ctx context.Context, target, name string, limit time.Duration, beep bool) error {
	path, err := targetPath(target)
	if err != nil {
		return err
	}
	q := pairs("name", name, "format", "wav", "ifExists", "overwrite")
	if limit > 0 {
		q.Set("maxDurationSeconds", strconv.Itoa(int(limit.Seconds()+0.999)))
	}
	if beep {
		q.Set("beep", "true")
	}
	return c.do(ctx, http.MethodPost, path+"/record", q, nil, nil)
}

// StopRecording ends a recording and keeps its file.
func (c *Client) StopRecording(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, "recordings/live/"+id(name)+"/stop", nil, nil, nil)
}

// StoredRecordings lists what can be fetched.
func (c *Client) StoredRecordings(ctx context.Context) ([]StoredRecording, error) {
	var v []StoredRecording
	return v, c.do(ctx, http.MethodGet, "recordings/stored", nil, nil, &v)
}

// RecordingFile fetches a recording.
func (c *Client) RecordingFile(ctx context.Context, name string) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "recordings/stored/"+id(name)+"/file", nil, nil)
}

// HasRecording is nil if the node has a recording of this name, ErrNotFound if it has not.
func (c *Client) HasRecording(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodGet, "recordings/stored/"+id(name), nil, nil, nil)
}

// RecordingMedia is the recording for another node's Play: that node fetches it from this one. The account is in it.
func (c *Client) RecordingMedia(name string) (string, error) {
	if c.url == nil {
		return "", fmt.Errorf("ari: recording %s: its node has no port to fetch it from", name)
	}
	password, _ := c.url.User.Password()
	return "sound:" + c.Address() + "/ari/recordings/stored/" + id(name) + "/file?" + pairs("api_key", c.url.User.Username()+":"+password).Encode(), nil
}

// DeleteRecording removes a recording's file.
func (c *Client) DeleteRecording(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "recordings/stored/"+id(name), nil, nil, nil)
}

// Endpoints lists peers with their state.
func (c *Client) Endpoints(ctx context.Context) ([]Endpoint, error) {
	var v []Endpoint
	return v, c.do(ctx, http.MethodGet, "endpoints", nil, nil, &v)
}

func onOff(on bool) string {
	if on {
		return http.MethodPost
	}
	return http.MethodDelete
}

func targetPath(target string) (string, error) {
	kind, name, ok := strings.Cut(target, ":")
	if !ok || name == "" || (kind != "channel" && kind != "bridge") {
		return "", &Error{Path: target, Status: http.StatusBadRequest, Message: "target is not channel:ID or bridge:ID"}
	}
	return kind + "s/" + id(name), nil
}

// Snoop makes a channel that hears what a channel says and hears, in the application.
func (c *Client) Snoop(ctx context.Context, channel, snoop, args string) error {
	return c.do(ctx, http.MethodPost, "channels/"+id(channel)+"/snoop/"+id(snoop), pairs("app", c.cfg.App, "spy", "both", "whisper", "none", "appArgs", args), nil, nil)
}

// ConfigObject reads a configuration object (sorcery) by attribute.
func (c *Client) ConfigObject(ctx context.Context, class, kind, name string) (map[string]string, error) {
	var tuples []struct {
		Attribute string `json:"attribute"`
		Value     string `json:"value"`
	}
	err := c.do(ctx, http.MethodGet, "asterisk/config/dynamic/"+id(class)+"/"+id(kind)+"/"+id(name), nil, nil, &tuples)
	out := map[string]string{}
	for _, t := range tuples {
		out[t.Attribute] = t.Value
	}
	return out, err
}
