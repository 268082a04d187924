package farm

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"rtcedge/bridge/ari"
)

// Where continue can send a channel, as in the dialplan of our Asterisk nodes.
const (
	placeEcho  = "echo"
	placeMusic = "music"
)

// softHangup is AST_SOFTHANGUP_EXPLICIT, which Asterisk's ChannelHangupRequest shows as cause when ARI hangs up.
const softHangup = 32

// routes is what the farm answers under /ari, by resource.
func (n *node) routes() []ari.Route {
	return slices.Concat(n.infoRoutes(), n.channelRoutes(), n.channelMediaRoutes(), n.bridgeRoutes(), n.playRoutes())
}

func (n *node) infoRoutes() []ari.Route {
	return []ari.Route{
		{Method: "GET", Path: "asterisk/info", Do: func(*ari.Request) (any, error) { return n.farm.info(), nil }},
		{Method: "GET", Path: "asterisk/ping", Do: func(*ari.Request) (any, error) {
			return map[string]any{"asterisk_id": n.farm.nodeID(), "ping": "pong", "timestamp": ari.Time{Time: time.Now()}}, nil
		}},
		{Method: "GET", Path: "asterisk/variable", Do: func(r *ari.Request) (any, error) {
			name := r.Text("variable")
			if name == "" {
				return nil, ari.Refuse(http.StatusBadRequest, "Variable name is required")
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			function, arg, ok := strings.Cut(strings.TrimSuffix(name, ")"), "(")
			value := n.globals[name]
			if ok {
				value, _ = n.function(function, arg)
			}
			return ari.Variable{Value: value}, nil // Asterisk answers with an empty value, too, if there is none
		}},
		{Method: "POST", Path: "asterisk/variable", Do: func(r *ari.Request) (any, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			_, _, err := setVariable(n.globals, r)
			return nil, err
		}},
		{Method: "GET", Path: "asterisk/config/dynamic/{configClass}/{objectType}/{id}", Do: n.configObject},
		{Method: "GET", Path: "endpoints", Do: func(*ari.Request) (any, error) { return n.endpoints(), nil }},
		{Method: "GET", Path: "endpoints/{tech}", Do: func(r *ari.Request) (any, error) {
			if !strings.EqualFold(r.Name("tech"), "PJSIP") {
				return nil, ari.Refuse(http.StatusNotFound, "No Endpoints found - invalid tech")
			}
			return n.endpoints(), nil
		}},
		{Method: "GET", Path: "endpoints/{tech}/{resource}", Do: func(r *ari.Request) (any, error) {
			for _, e := range n.endpoints() {
				if strings.EqualFold(r.Name("tech"), e.Technology) && e.Resource == r.Name("resource") {
					return e, nil
				}
			}
			return nil, ari.Refuse(http.StatusNotFound, "Endpoint not found")
		}},
	}
}

// endpoints are the registered users and the edge.
func (n *node) endpoints() []ari.Endpoint {
	out := n.farm.endpoints(n.allChannels())
	edge := ari.Endpoint{Technology: "PJSIP", Resource: edgeEndpoint, State: ari.EndpointOnline, ChannelIDs: []string{}}
	return append(out, edge)
}

func (n *node) allChannels() []ari.Channel {
	out := []ari.Channel{} // an empty list is [] in JSON
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ch := range n.sorted() {
		out = append(out, ch.shown())
	}
	return out
}

func (n *node) allBridges() []ari.Bridge {
	out := []ari.Bridge{}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.sortedBridges() {
		out = append(out, b.shown())
	}
	return out
}
