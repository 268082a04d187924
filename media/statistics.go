package media

import (
	"context"
	"time"

	"rtcedge/media/ng"
)

// Statistics tells of the node under rtpengine's names, where it counts the same; what has no name there stands in "drops" and
// "recording".
func (e *Engine) Statistics(context.Context, *ng.Request) (*ng.Response, error) {
	st := e.Stats()
	drops := make(map[string]any, len(st.Drops))
	errs := uint64(0)
	for name, n := range st.Drops {
		drops[name] = int64(n)
		errs += n
	}
	ended := int64(st.CallsTotal) - int64(st.Calls)
	average := float64(0)
	if ended > 0 {
		average = time.Duration(e.lifetime.Load() / ended).Seconds()
	}
	uptime := int64(0)
	if ns := e.started.Load(); ns != 0 {
		uptime = int64(e.cfg.Now().Sub(time.Unix(0, ns)) / time.Second)
	}
	return &ng.Response{Result: ng.ResultOK, Statistics: map[string]any{
		"currentstatistics": map[string]any{
			"sessionsown": int64(st.Calls), "sessionsforeign": int64(0), "sessionstotal": int64(st.Calls),
			"mediastreams": int64(st.Streams), "transcodedmedia": int64(st.Transcoded), "media_userspace": int64(st.Streams),
			"media_kernel": int64(0), "media_mixed": int64(0), "packetrate": int64(e.rate[0].Load()),
			"byterate": int64(e.rate[1].Load()), "errorrate": int64(e.rate[2].Load()),
		},
		"totalstatistics": map[string]any{
			"uptime": uptime, "managedsessions": int64(st.CallsTotal), "rejectedsessions": int64(st.Rejected),
			"loadlimitedsessions": int64(st.LoadLimited), "timeoutsessions": int64(st.Timeouts),
			"regularterminatedsessions": int64(st.Deleted), "restoredsessions": int64(st.Restored),
			"relayedpackets": int64(st.PacketsOut), "relayedbytes": int64(st.BytesOut), "relayedpacketerrors": int64(errs),
			"avgcallduration": average,
		},
		"interfaces": e.interfaceStatistics(st.Ports),
		"drops":      drops,
		"recording": map[string]any{
			"active": int64(st.Recordings), "errors": int64(st.RecordingErrors), "lostpackets": int64(st.RecordingLost),
		},
	}}, nil
}

// interfaceStatistics is a list with the ports of each local address, in pairs.
func (e *Engine) interfaceStatistics(ports []PortStats) []any {
	list := make([]any, len(ports))
	for i, p := range ports {
		list[i] = map[string]any{
			"name": p.Interface, "address": e.pools[i].addr.String(),
			"ports": map[string]any{
				"min": int64(e.cfg.PortMin), "max": int64(e.cfg.PortMax), "used": int64(p.Used), "free": int64(p.Free),
				"busy": int64(p.Busy), "totals": int64(p.Used + p.Free),
			},
		}
	}
	return list
}
