package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rtcedge/bridge/ari"
)

var errNoRecording = errors.New("no node has the recording")

// playable makes media that the call's node can play. A recording lies on the node that made it: from another one it is fetched by the
// playing Asterisk itself (res_http_media_cache). Asterisk never tells the end of a recording that is not there
// (res_stasis_playback.c, play_uri), so what no node has is an error here, or a flow would wait for ever.
func (s *session) playable(ctx context.Context, media []string) ([]string, error) {
	out := make([]string, len(media))
	for i, m := range media {
		name, is := strings.CutPrefix(m, "recording:")
		if !is {
			out[i] = m
			continue
		}
		there, err := s.recordingAt(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case there == s.node.client:
			out[i] = m
		default:
			if out[i], err = there.RecordingMedia(name); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// recordingAt finds the node that has a recording; the call's own is asked first.
func (s *session) recordingAt(ctx context.Context, name string) (*ari.Client, error) {
	if s.node.client.HasRecording(ctx, name) == nil {
		return s.node.client, nil
	}
	for _, n := range s.b.nodes {
		if n != s.node && n.client.HasRecording(ctx, name) == nil {
			return n.client, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", errNoRecording, name)
}
