package accounts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rtcedge/sip/auth"
)

// TestB08HTTP: what a web service may answer, and what it may not.
func TestB08HTTP(t *testing.T) {
	hash := strings.Repeat("0a", 16)
	asked := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		asked = fmt.Sprintf("%s %s %s:%s", r.Method, r.URL, name, password)
		switch r.URL.Query().Get("user") {
		case "alice":
			fmt.Fprintf(w, `{"ha1":%q,"more":1}`, strings.ToUpper(hash))
		case "both":
			fmt.Fprintf(w, `{"ha1":%q,"ha1_sha256":%q}`, hash, hash+hash)
		case "plain":
			fmt.Fprint(w, `{"ha1":"secret","password":"secret"}`)
		case "none":
			fmt.Fprint(w, `{"password":"secret"}`)
		case "long":
			fmt.Fprint(w, `{"ha1":"`, strings.Repeat("0", 1<<20), `"}`)
		case "text":
			fmt.Fprint(w, "hunter2")
		case "moved":
			http.Redirect(w, r, "/elsewhere?user=alice", http.StatusFound)
		case "slow":
			<-r.Context().Done()
		case "broken":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	h, err := NewHTTP(strings.Replace(srv.URL, "http://", "http://edge:topsecret@", 1) + "/ha1?site=a%20b")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	c, ok, err := h.Find(t.Context(), "alice", "example.com & co")
	if err != nil || !ok || !c.Has(auth.MD5) || c.Has(auth.SHA256) {
		t.Errorf("alice: %v %v", ok, err)
	}
	if want := "GET /ha1?realm=example.com+%26+co&site=a+b&user=alice edge:topsecret"; asked != want {
		t.Errorf("asked %q, want %q", asked, want)
	}
	if c, ok, err := h.Find(t.Context(), "both", "r"); err != nil || !ok || !c.Has(auth.MD5) || !c.Has(auth.SHA256) {
		t.Errorf("both: %v %v", ok, err)
	}
	if _, ok, err := h.Find(t.Context(), "nobody", "r"); ok || err != nil {
		t.Errorf("nobody: %v %v", ok, err)
	}
	for _, user := range []string{"plain", "none"} {
		if _, ok, err := h.Find(t.Context(), user, "r"); ok || !errors.Is(err, auth.ErrNoHash) {
			t.Errorf("%s: %v %v", user, ok, err)
		}
	}
	for _, user := range []string{"plain", "none", "long", "text", "moved", "slow", "broken"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, ok, err := h.Find(ctx, user, "r")
		cancel()
		if ok || err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v %v", user, ok, err)
		}
	}
	for _, bad := range []string{"ftp://x/y", "http://", "http://[::1", "accounts"} {
		if _, err := NewHTTP(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestPostgresURL: a bad URL is refused without showing the password.
func TestPostgresURL(t *testing.T) {
	if _, err := NewPostgres("postgres://edge:topsecret@host:port/db", ""); err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("%v", err)
	}
}
