package homer

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// searchRequest is the body of /api/v3/search/call/data.
type searchRequest struct {
	Timestamp struct {
		From int64 `json:"from"`
		To   int64 `json:"to"`
	} `json:"timestamp"`
	Param struct {
		Search  map[string][]term `json:"search"`
		OrLogic bool              `json:"orlogic"` // one of the terms is enough
	} `json:"param"`
}

// term is one field of HOMER's search form. Its value may be a list with semicolons, have % for anything, and begin with != for everything else.
type term struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

const searchable = "data_header.callid, .method, .cseq, .ruri_user, .ruri_domain, .from_user, .from_domain, .from_tag, .to_user, .to_domain, .to_tag, .user_agent, " +
	"protocol_header.srcIp, .dstIp, .srcPort, .dstPort, sid and limit"

// value is what a row has for the field of a search; the name may be without its column.
func (r *row) value(name string) (string, bool) {
	if _, field, ok := strings.Cut(name, "."); ok {
		name = field
	}
	switch name {
	case "callid", "sid":
		return r.CallID, true
	case "method":
		return r.Method, true
	case "cseq":
		return r.CSeq, true
	case "ruri_user":
		return r.RURIUser, true
	case "ruri_domain":
		return r.RURIDomain, true
	case "from_user":
		return r.FromUser, true
	case "from_domain":
		return r.FromDomain, true
	case "from_tag":
		return r.FromTag, true
	case "to_user":
		return r.ToUser, true
	case "to_domain":
		return r.ToDomain, true
	case "to_tag":
		return r.ToTag, true
	case "user_agent":
		return r.UserAgent, true
	case "srcIp":
		return r.SourceIP, true
	case "dstIp":
		return r.TargetIP, true
	case "srcPort":
		return r.SourcePort.String(), true
	case "dstPort":
		return r.TargetPort.String(), true
	}
	return "", false
}

func (t *term) matches(r *row) bool {
	have, _ := r.value(t.Name)
	list, negated := strings.CutPrefix(t.Value, "!=")
	return negated != slices.ContainsFunc(strings.Split(list, ";"), func(pattern string) bool { return like(have, pattern) })
}

// like is SQL's, with % only.
func like(text, pattern string) bool {
	parts := strings.Split(pattern, "%")
	if len(parts) == 1 {
		return text == pattern
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

func (a *API) search(w http.ResponseWriter, r *http.Request) {
	var q searchRequest
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, http.StatusBadRequest, "body is no request: "+err.Error())
		return
	}
	terms, ok := q.Param.Search["1_call"]
	if !ok {
		refuse(w, http.StatusBadRequest, "invalid search profile key")
		return
	}
	limit := maxSearch
	var ids []string // where that is enough
	for _, t := range terms {
		if t.Name == "limit" {
			if n, err := strconv.Atoi(t.Value); err == nil && n > 0 {
				limit = min(n, maxAnswers)
			}
			continue
		}
		if _, ok := new(row).value(t.Name); !ok {
			refuse(w, http.StatusBadRequest, "search by "+t.Name+": allowed are "+searchable)
			return
		}
		if name := t.Name[strings.LastIndexByte(t.Name, '.')+1:]; (name == "callid" || name == "sid") && !strings.ContainsAny(t.Value, "%!") && t.Value != "" && !q.Param.OrLogic {
			ids = strings.Split(t.Value, ";")
		}
	}
	terms = slices.DeleteFunc(terms, func(t term) bool { return t.Name == "limit" || t.Value == "" }) // an empty field of the form asks for nothing
	matches := func(r *row) bool {
		hit := func(t term) bool { return t.matches(r) }
		if q.Param.OrLogic && len(terms) > 0 {
			return slices.ContainsFunc(terms, hit)
		}
		return !slices.ContainsFunc(terms, func(t term) bool { return !hit(t) })
	}
	if ids == nil {
		a.scan.Lock() // one at a time: it reads all that is kept
		defer a.scan.Unlock()
		ids = a.cfg.Store.callIDs()
	}
	out := searchAnswer{Data: a.find(r.Context(), ids, q.Timestamp.From, q.Timestamp.To, limit, matches), Keys: []string{"callid"}}
	slices.SortStableFunc(out.Data, func(a, b row) int { return cmp.Compare(a.CreateTS, b.CreateTS) })
	out.Total = len(out.Data)
	answer(w, http.StatusCreated, out)
}

// scanAtOnce bounds how long the store is held while all of it is read.
const scanAtOnce = 64

// find reads a few Call-IDs at a time.
func (a *API) find(ctx context.Context, ids []string, from, to int64, limit int, matches func(*row) bool) []row {
	out := []row{}
	for len(ids) > 0 && ctx.Err() == nil {
		n := min(scanAtOnce, len(ids))
		list, _ := a.cfg.Store.Messages(ctx, ids[:n], time.Time{}) // the store has no errors
		ids = ids[n:]
		for _, m := range list {
			if !within(m.Time, from, to) {
				continue
			}
			r := toRow(m)
			if !matches(&r) {
				continue
			}
			r.Raw, r.Table, r.UUID, r.SourceAlias, r.TargetAlias = "", "hep_proto_1_call", r.ID, m.Source.String(), m.Destination.String()
			if out = append(out, r); len(out) == limit {
				return out
			}
		}
	}
	return out
}

// within cuts to whole seconds, as HOMER does. The window is in ms.
func within(t time.Time, from, to int64) bool {
	sec := t.Unix()
	return sec >= from/1000 && sec <= to/1000
}
