package ari

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hub knows the applications and what they want to be told.
type hub struct {
	dropped atomic.Uint64 // clients that were cut because they did not read

	mu      sync.Mutex // guards the rest; a leaf
	apps    map[string]*application
	sockets int
}

// application is a name under which a client controls channels. It outlives its socket as long as it is subscribed to
// something: its channels stay, and go on with the next socket (stasis/app.c).
type application struct {
	client *client         // nil: no socket
	all    bool            // subscribeAll
	subs   map[string]bool // by source; true: until StasisEnd only
	filter filter
}

// filter is an application's eventFilter: a type must be allowed, if any are, and must not be disallowed.
type filter struct {
	allowed, disallowed map[string]struct{}
}

func (f *filter) passes(kind string) bool {
	if _, no := f.disallowed[kind]; no {
		return false
	}
	_, yes := f.allowed[kind]
	return yes || len(f.allowed) == 0
}

// Active tells if an application has an open socket.
func (s *Server) Active(app string) bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	a := s.hub.apps[app]
	return a != nil && a.client != nil
}

// Dropped is how many clients were cut because they did not read their events.
func (s *Server) Dropped() uint64 { return s.hub.dropped.Load() }

// Subscribe lets an application hear of something, named as in ARI: channel:ID, bridge:ID, endpoint:TECH/NAME.
func (s *Server) Subscribe(app, source string) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	a := s.hub.apps[app]
	if a == nil {
		a = &application{subs: map[string]bool{}}
		s.hub.apps[app] = a
	}
	a.subs[source] = false
}

// Enter subscribes an application to a channel that comes under its control, until Leave. One that it is subscribed to
// anyway stays.
func (s *Server) Enter(app, source string) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	a := s.hub.apps[app]
	if a == nil {
		a = &application{subs: map[string]bool{}}
		s.hub.apps[app] = a
	}
	if _, there := a.subs[source]; !there {
		a.subs[source] = true
	}
}

// Leave ends what Enter began.
func (s *Server) Leave(app, source string) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	a := s.hub.apps[app]
	if a == nil || !a.subs[source] {
		return
	}
	delete(a.subs, source)
	if a.client == nil && len(a.subs) == 0 {
		delete(s.hub.apps, app)
	}
}

// Share lets the applications that hear of one thing hear of another, too.
func (s *Server) Share(from, to string) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for _, a := range s.hub.apps {
		if _, ok := a.subs[from]; ok {
			a.subs[to] = false
		}
	}
}

// Forget ends all subscriptions to something that is gone, and the applications that nothing is left of.
func (s *Server) Forget(source string) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for name, a := range s.hub.apps {
		delete(a.subs, source)
		if a.client == nil && len(a.subs) == 0 {
			delete(s.hub.apps, name)
		}
	}
}

// Publish tells of an event those who are subscribed to one of its sources. fields are the event without what every event
// has; they are read before it returns.
func (s *Server) Publish(kind string, fields map[string]any, sources ...string) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for name, a := range s.hub.apps {
		if a.client == nil || !a.wants(sources) || !a.filter.passes(kind) {
			continue
		}
		s.tellLocked(a.client, name, kind, fields)
	}
}

// PublishTo tells one application, subscribed or not.
func (s *Server) PublishTo(app, kind string, fields map[string]any) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if a := s.hub.apps[app]; a != nil && a.client != nil && a.filter.passes(kind) {
		s.tellLocked(a.client, app, kind, fields)
	}
}

func (a *application) wants(sources []string) bool {
	return a.all || slices.ContainsFunc(sources, func(s string) bool { _, ok := a.subs[s]; return ok })
}

// tellLocked queues an event. A client whose queue is full is cut: it reads everything again when it is back (B41), and a
// gap that nobody notices would be worse.
func (s *Server) tellLocked(c *client, app, kind string, fields map[string]any) {
	m := maps.Clone(fields)
	if m == nil {
		m = map[string]any{}
	}
	m["type"], m["application"], m["asterisk_id"] = kind, app, s.cfg.NodeID
	m["timestamp"] = Time{time.Now()}
	body, err := json.Marshal(m)
	if err != nil {
		s.cfg.Logger.Error("print event", "type", kind, "error", err)
		return
	}
	if !c.queue(body) {
		s.hub.dropped.Add(1)
	}
}

// ownRoutes are the resources that the server answers itself.
func (s *Server) ownRoutes() []Route {
	return []Route{
		{"POST", "events/user/{eventName}", func(r *Request) (any, error) {
			s.hub.mu.Lock()
			defer s.hub.mu.Unlock()
			name := r.Text("application")
			a := s.hub.apps[name]
			if a == nil {
				return nil, Refuse(http.StatusNotFound, "Application not found")
			}
			if kind := "ChannelUserevent"; a.client != nil && a.filter.passes(kind) {
				s.tellLocked(a.client, name, kind, map[string]any{"eventname": r.Name("eventName"), "userevent": map[string]any{}})
			}
			return nil, nil
		}},
		{"GET", "applications", func(*Request) (any, error) {
			s.hub.mu.Lock()
			defer s.hub.mu.Unlock()
			out := []Application{}
			for _, name := range slices.Sorted(maps.Keys(s.hub.apps)) {
				out = append(out, s.hub.apps[name].shown(name))
			}
			return out, nil
		}},
		{"GET", "applications/{applicationName}", func(r *Request) (any, error) {
			return s.application(r, func(*application) error { return nil })
		}},
		{"POST", "applications/{applicationName}/subscription", func(r *Request) (any, error) {
			return s.application(r, func(a *application) error {
				return sources(r, func(source string) { a.subs[source] = false })
			})
		}},
		{"DELETE", "applications/{applicationName}/subscription", func(r *Request) (any, error) {
			return s.application(r, func(a *application) error {
				return sources(r, func(source string) { delete(a.subs, source) })
			})
		}},
		{"PUT", "applications/{applicationName}/eventFilter", func(r *Request) (any, error) {
			return s.application(r, func(a *application) (err error) {
				var f filter
				if f.allowed, err = types(r, "allowed"); err != nil {
					return err
				}
				if f.disallowed, err = types(r, "disallowed"); err != nil {
					return err
				}
				a.filter = f
				return nil
			})
		}},
	}
}

// application changes an application and shows it.
func (s *Server) application(r *Request, change func(*application) error) (any, error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	name := r.Name("applicationName")
	a := s.hub.apps[name]
	if a == nil {
		return nil, Refuse(http.StatusNotFound, "Application not found")
	}
	if err := change(a); err != nil {
		return nil, err
	}
	return a.shown(name), nil
}

// sources reads eventSource: its schemes are those of stasis_app_event_sources.
func sources(r *Request, each func(string)) error {
	list := r.List("eventSource")
	if len(list) == 0 {
		return Refuse(http.StatusBadRequest, "Missing parameter eventSource")
	}
	for _, source := range list {
		scheme, id, ok := strings.Cut(source, ":")
		if !ok || id == "" || !slices.Contains([]string{"channel", "bridge", "endpoint", "deviceState"}, scheme) {
			return Refuse(http.StatusBadRequest, "Invalid event source URI scheme")
		}
	}
	for _, source := range list {
		each(source)
	}
	return nil
}

// types reads a list of {"type": NAME}.
func types(r *Request, field string) (map[string]struct{}, error) {
	out := map[string]struct{}{}
	for _, text := range r.values[field] {
		var item struct{ Type string }
		if json.Unmarshal([]byte(text), &item) != nil || item.Type == "" {
			return nil, Refuse(http.StatusBadRequest, "Invalid event filter: %s wants objects with a type", field)
		}
		out[item.Type] = struct{}{}
	}
	return out, nil
}

func (a *application) shown(name string) Application {
	out := Application{Name: name, ChannelIDs: []string{}, BridgeIDs: []string{}, EndpointIDs: []string{}, DeviceNames: []string{},
		EventsAllowed: named(a.filter.allowed), EventsDisallowed: named(a.filter.disallowed)}
	for _, source := range slices.Sorted(maps.Keys(a.subs)) {
		scheme, id, _ := strings.Cut(source, ":")
		switch scheme {
		case "channel":
			out.ChannelIDs = append(out.ChannelIDs, id)
		case "bridge":
			out.BridgeIDs = append(out.BridgeIDs, id)
		case "endpoint":
			out.EndpointIDs = append(out.EndpointIDs, id)
		case "deviceState":
			out.DeviceNames = append(out.DeviceNames, id)
		}
	}
	return out
}

func named(set map[string]struct{}) []EventFilter {
	out := []EventFilter{}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, EventFilter{Type: name})
	}
	return out
}
