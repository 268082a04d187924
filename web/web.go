// Package web is the operator's page, which the admin port of every role serves: what the role does, its calls, and how the calls of dead farm nodes came
// back. It is no API: it shows what the JSON pages of the same port say, and sends nothing.
//
//  1. index.html loads page.css and page.js from the admin port, and nothing from anywhere else: that is the content security policy.
//  2. page.js asks /status, then those of /crashes and /calls that the role has, every two seconds while somebody looks.
//  3. What strangers wrote (Call-IDs, reasons) becomes text nodes, never markup.
package web

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed site
var files embed.FS

// policy lets the page load its own files and ask its own port. No markup that got in could load, send or run anything.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at / and its files below /web/.
func Handler() http.Handler {
	site, err := fs.Sub(files, "site")
	if err != nil {
		panic(err) // it is in the binary
	}
	serve := http.FileServerFS(site)
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", serve)
	mux.Handle("GET /web/", http.StripPrefix("/web", serve))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // a new version of the binary brings a new page
		mux.ServeHTTP(w, r)
	})
}
