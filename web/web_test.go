package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// TestB55PageIsServed: the page and its files, each with a policy that lets nothing in from elsewhere.
func TestB55PageIsServed(t *testing.T) {
	srv := httptest.NewServer(Handler())
	defer srv.Close()
	get := func(path string) (*http.Response, string) {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	_, page := get("/")
	paths := map[string]string{"/": "text/html"}
	for _, m := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[1], "/web/") {
			t.Errorf("the page loads %s, which is not its own", m[1])
		}
		paths[m[1]] = map[bool]string{true: "text/css", false: "text/javascript"}[strings.HasSuffix(m[1], ".css")]
	}
	if len(paths) != 3 {
		t.Errorf("the page has the parts %v, want a style and a script", paths)
	}
	for path, kind := range paths {
		res, body := get(path)
		if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), kind) || body == "" {
			t.Errorf("%s: %d, %s, %d bytes", path, res.StatusCode, res.Header.Get("Content-Type"), len(body))
		}
		csp := res.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", path, res.Header)
		}
	}
	for path, want := range map[string]int{"/web/../web.go": 404, "/web/none": 404, "/none": 404} {
		if res, _ := get(path); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
}

// TestPageMakesNoMarkup: what could turn a stranger's words into markup or code is not in the script at all.
func TestPageMakesNoMarkup(t *testing.T) {
	script, err := files.ReadFile("site/page.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "createContextualFragment", "srcdoc", "setHTML"} {
		if strings.Contains(string(script), bad) {
			t.Errorf("page.js has %s", bad)
		}
	}
}
