package bridge

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestOpenAPIAgrees: every route is in the document, with its path's parameters, and the document has no other.
func TestOpenAPIAgrees(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			Summary    string
			Parameters []struct{ Name, In string }
			Responses  map[string]any
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	var routes, documented []string
	for _, e := range endpoints() {
		routes = append(routes, e.method+" "+e.path)
		op := doc.Paths[e.path][strings.ToLower(e.method)]
		if op.Summary == "" || len(op.Responses) < 2 {
			t.Errorf("%s %s: no summary, or no responses", e.method, e.path)
		}
		if n := strings.Count(e.path, "{"); n != len(op.Parameters) {
			t.Errorf("%s %s: %d parameters, want %d", e.method, e.path, len(op.Parameters), n)
		}
	}
	for path, ops := range doc.Paths {
		for method := range ops {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routes)
	slices.Sort(documented)
	if !slices.Equal(routes, documented) {
		t.Errorf("routes    %v\ndocument  %v", routes, documented)
	}
}
