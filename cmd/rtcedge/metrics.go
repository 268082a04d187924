package main

import (
	"net/netip"
	"strconv"

	"rtcedge/bridge/farm"
	"rtcedge/internal/obs"
	"rtcedge/media"
	"rtcedge/media/ng"
	"rtcedge/sip"
	"rtcedge/sip/message"
	"rtcedge/sip/transport"
)

// This file turns the snapshots of the packages into samples. The names are the operator's: docs/operations.md lists them.

func counter(name, help string, v uint64, labels ...string) obs.Sample {
	return obs.Sample{Name: name + "_total", Help: help, Value: float64(v), Labels: labels}
}

func gauge(name, help string, v float64, labels ...string) obs.Sample {
	return obs.Sample{Name: name, Help: help, Gauge: true, Value: v, Labels: labels}
}

func sipSource(p *sip.Proxy) obs.Source {
	return func() []obs.Sample {
		s := p.Stats()
		var out []obs.Sample
		for m := range s.Requests {
			name := message.Method(m).String()
			out = append(out, counter("sip_requests", "requests received", s.Requests[m], "method", name),
				counter("sip_forwarded", "requests sent on", s.Forwarded[m], "method", name))
		}
		for _, r := range []struct {
			name, help string
			codes      map[int]uint64
		}{{"sip_responses", "responses sent on", s.Responses}, {"sip_replies", "answers of the edge itself", s.Replies}} {
			for code, n := range r.codes {
				out = append(out, counter(r.name, r.help, n, "code", strconv.Itoa(code)))
			}
		}
		for d := sip.Drop(1); d < sip.NumDrops; d++ {
			out = append(out, counter("sip_dropped", "messages that went no further", s.Drops[d], "reason", d.String()))
		}
		for f := message.Fault(1); f < message.NumFaults; f++ {
			out = append(out, counter("sip_malformed", "malformed messages", s.Faults[f], "fault", f.String()))
		}
		out = append(out, counter("sip_media_questions", "questions to the media node", s.Offers, "command", "offer"),
			counter("sip_media_questions", "questions to the media node", s.Answers, "command", "answer"),
			counter("sip_media_questions", "questions to the media node", s.Deletes, "command", "delete"),
			counter("sip_media_errors", "refusals and missing answers of the media node", s.MediaErrs),
			counter("sip_oversize", "requests larger than a datagram should be", s.Oversize),
			counter("sip_large_tcp", "of these, sent over TCP", s.LargeTCP),
			counter("sip_relayed", "messages relayed to the edge node that holds the connection", s.Relayed),
			gauge("sip_load", "load level: 0 none, 1 new calls are shed in part, 2 all of them", float64(s.Load)),
			counter("sip_queued", "messages that waited for media or DNS", s.Queued))
		for _, l := range p.Listeners() {
			out = append(out, listenerSamples(l)...)
		}
		return append(out, nodeSamples(p)...)
	}
}

func listenerSamples(l *transport.Listener) []obs.Sample {
	s := l.Stats()
	name := listenerName(l)
	out := []obs.Sample{
		counter("sip_listener_messages", "messages", s.MessagesIn, "listener", name, "direction", "in"),
		counter("sip_listener_messages", "messages", s.MessagesOut, "listener", name, "direction", "out"),
		counter("sip_listener_bytes", "bytes of messages", s.BytesIn, "listener", name, "direction", "in"),
		counter("sip_listener_bytes", "bytes of messages", s.BytesOut, "listener", name, "direction", "out"),
		counter("sip_listener_unreachable", "ICMP errors for what was sent", s.Unreachable, "listener", name),
		counter("sip_listener_kernel_dropped", "datagrams that overflowed the kernel's receive buffers", s.KernelDrops, "listener", name),
	}
	for r, n := range s.Drops {
		out = append(out, counter("sip_listener_dropped", "what was not handed on", n, "listener", name, "reason", transport.DropReason(r).String()))
	}
	if !l.Proto().Stream() {
		return out
	}
	out = append(out, gauge("sip_connections", "open connections", float64(s.Open), "listener", name),
		counter("sip_connections_accepted", "connections accepted", s.Accepted, "listener", name),
		counter("sip_connections_dialled", "connections dialled", s.Dialled, "listener", name))
	for r, n := range s.Closed {
		out = append(out, counter("sip_connections_closed", "connections closed", n, "listener", name, "reason", transport.CloseReason(r).String()))
	}
	return out
}

func nodeSamples(p *sip.Proxy) []obs.Sample {
	var out []obs.Sample
	for _, n := range p.Farms().Nodes() {
		name := n.Proto + ":" + n.Addr.String()
		for _, f := range n.Farms {
			up := 0.0
			if n.State.String() == "up" {
				up = 1
			}
			out = append(out, gauge("farm_node_up", "1 if the node takes new dialogs", up, "farm", f.String(), "node", name))
		}
		out = append(out, counter("farm_node_sent", "requests sent to the node outside of dialogs", n.Sent, "node", name),
			counter("farm_node_heard", "messages from the node", n.Heard, "node", name))
	}
	return out
}

func farmNodes(p *sip.Proxy) []NodeStatus {
	var out []NodeStatus
	for _, n := range p.Farms().Nodes() {
		for _, f := range n.Farms {
			out = append(out, NodeStatus{Farm: f.String(), Node: n.Proto + ":" + n.Addr.String(), State: n.State.String()})
		}
	}
	return out
}

func mediaSource(e *media.Engine) obs.Source {
	return func() []obs.Sample {
		s := e.Stats()
		out := []obs.Sample{
			gauge("media_calls", "calls now", float64(s.Calls)),
			gauge("media_streams", "m= lines with sockets now", float64(s.Streams)),
			gauge("media_transcoded", "of these, with different codecs on the two legs", float64(s.Transcoded)),
			counter("media_calls", "calls since the start", s.CallsTotal),
			counter("media_timeouts", "calls that ended for want of packets", s.Timeouts),
			counter("media_rejected", "offers and answers refused with an error-reason", s.Rejected),
			counter("media_load_limited", "offers refused because of --max-sessions", s.LoadLimited),
			gauge("media_recordings", "calls that are recorded now", float64(s.Recordings)),
			counter("media_recording_errors", "recordings that could not be written", uint64(s.RecordingErrors)),
			counter("media_recording_lost", "packets that a recording missed", uint64(s.RecordingLost)),
			counter("media_packets", "RTP and RTCP packets", s.Packets, "direction", "in"),
			counter("media_packets", "RTP and RTCP packets", s.PacketsOut, "direction", "out"),
			counter("media_bytes", "bytes of RTP and RTCP packets", s.Bytes, "direction", "in"),
			counter("media_bytes", "bytes of RTP and RTCP packets", s.BytesOut, "direction", "out"),
		}
		for reason, n := range s.Drops {
			out = append(out, counter("media_dropped", "packets dropped", n, "reason", reason))
		}
		for result, n := range s.Handshakes {
			out = append(out, counter("media_dtls_handshakes", "DTLS handshakes that ended, and that could not begin", n, "result", result))
		}
		for result, n := range s.Teardowns {
			out = append(out, counter("media_teardowns", "callbacks for calls that timed out (--b2b-url)", n, "result", result))
		}
		for _, p := range s.Ports {
			out = append(out, gauge("media_port_pairs_used", "port pairs in use", float64(p.Used), "interface", p.Interface),
				gauge("media_port_pairs_free", "port pairs free", float64(p.Free), "interface", p.Interface),
				counter("media_port_pairs_busy", "port pairs found taken by another process", p.Busy, "interface", p.Interface))
		}
		return out
	}
}

func ngSource(server *ng.Server) obs.Source {
	return func() []obs.Sample {
		s := server.Stats()
		out := []obs.Sample{
			counter("ng_duplicates", "retransmitted requests", uint64(s.Duplicates)),
			gauge("ng_in_work", "requests in work", float64(s.InWork)),
			gauge("ng_connections", "TCP and WebSocket connections", float64(s.Connections)),
		}
		for name, c := range s.Commands {
			out = append(out, counter("ng_requests", "requests", uint64(c.Requests), "command", name),
				counter("ng_errors", "requests answered with an error-reason", uint64(c.Errors), "command", name),
				obs.Sample{Name: "ng_request_seconds_total", Help: "time spent on requests", Value: c.Time.Seconds(), Labels: []string{"command", name}})
		}
		for reason, n := range s.Refused {
			out = append(out, counter("ng_refused", "messages that were no request", uint64(n), "reason", reason))
		}
		for key, n := range s.UnknownKeys {
			out = append(out, counter("ng_unknown_keys", "keys and words that were ignored", uint64(n), "key", key))
		}
		return out
	}
}

// ngClientSource is the edge's view of its media nodes.
func ngClientSource(c *ng.Client) obs.Source {
	return func() []obs.Sample {
		var out []obs.Sample
		for _, n := range c.Nodes() {
			name, up := n.Addr.String(), 0.0
			if n.Up {
				up = 1
			}
			out = append(out, gauge("media_node_up", "1 if the media node answers", up, "node", name),
				gauge("media_node_rtt_seconds", "round trip of the last ping", n.RTT.Seconds(), "node", name),
				counter("media_node_requests", "requests to the media node", uint64(n.Requests), "node", name),
				counter("media_node_timeouts", "requests that it did not answer", uint64(n.Timeouts), "node", name),
				counter("media_node_retransmits", "requests sent again", uint64(n.Retransmits), "node", name))
		}
		return out
	}
}

func farmSource(f *farm.Farm) obs.Source {
	return func() []obs.Sample {
		s := f.Stats()
		return []obs.Sample{
			gauge("farm_calls", "calls of the embedded farm now", float64(s.Calls)),
			gauge("farm_bridges", "bridges of the embedded farm now", float64(s.Bridges)),
			gauge("farm_registrations", "registered contacts now", float64(s.Registrations)),
			gauge("farm_contacts", "contacts by the answer to OPTIONS", float64(s.Reachable), "state", "reachable"),
			gauge("farm_contacts", "contacts by the answer to OPTIONS", float64(s.Unreachable), "state", "unreachable"),
			gauge("farm_contact_rtt_seconds_max", "longest round trip of an OPTIONS", s.RoundTripMax.Seconds()),
			counter("farm_calls", "calls since the start", s.CallsTotal),
			counter("farm_refused", "requests refused by the farm", s.Refused),
			counter("farm_registers", "REGISTERs accepted", s.Registers),
		}
	}
}

// The counts of /status: what one looks at first.

func sipCounts(s sip.Stats) map[string]int64 {
	out := map[string]int64{"sip offers": int64(s.Offers), "sip media errors": int64(s.MediaErrs)}
	for m, n := range s.Requests {
		out["sip requests"] += int64(n)
		out["sip requests sent on"] += int64(s.Forwarded[m])
	}
	for _, n := range s.Responses {
		out["sip responses sent on"] += int64(n)
	}
	for _, n := range s.Replies {
		out["sip own answers"] += int64(n)
	}
	for _, n := range s.Drops {
		out["sip drops"] += int64(n)
	}
	return out
}

func mediaCounts(s media.Stats) map[string]int64 {
	out := map[string]int64{"media calls": int64(s.Calls), "media calls since start": int64(s.CallsTotal), "media transcoded": int64(s.Transcoded),
		"media packets in": int64(s.Packets), "media packets out": int64(s.PacketsOut)}
	for _, n := range s.Drops {
		out["media drops"] += int64(n)
	}
	for _, p := range s.Ports {
		out["media port pairs used"] += int64(p.Used)
	}
	return out
}

func farmCounts(s farm.Stats) map[string]int64 {
	return map[string]int64{"farm calls": int64(s.Calls), "farm calls since start": int64(s.CallsTotal), "farm bridges": int64(s.Bridges),
		"farm registrations": int64(s.Registrations), "farm contacts unreachable": int64(s.Unreachable)}
}

func mergeCounts(all ...map[string]int64) map[string]int64 {
	out := map[string]int64{}
	for _, m := range all {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func ngListeners(server *ng.Server) []string {
	var out []string
	a := server.Addrs()
	for _, l := range []struct {
		kind  string
		addrs []netip.AddrPort
	}{{"ng udp", a.UDP}, {"ng tcp", a.TCP}, {"ng http", a.HTTP}} {
		for _, addr := range l.addrs {
			out = append(out, l.kind+":"+addr.String())
		}
	}
	return out
}

func farmListeners(f *farm.Farm) []string {
	var out []string
	for _, a := range f.Addrs() {
		out = append(out, a+" (embedded farm)")
	}
	if a := f.ARIAddr(); a.IsValid() {
		out = append(out, "ari http://"+a.String()+"/ari")
	}
	return out
}

func listenerName(l *transport.Listener) string { return l.Proto().String() + ":" + l.Addr().String() }
