package dashboard

import (
	"embed"
	"net/http"
	"path"
)

//go:embed page
var files embed.FS

// policy lets the page load its own files, and nothing else; scripts can make no markup from text, so that nothing a client has sent becomes any.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Page is the document, for GET /.
func Page() http.Handler { return file("page/index.html") }

// Files are what the document refers to, by pattern.
func Files() map[string]http.Handler {
	all := make(map[string]http.Handler)
	for _, name := range []string{"style.css", "app.js", "dom.js", "graph.js", "live.js", "peers.js", "views.js", "icon.svg"} {
		all["GET /dashboard/"+name] = file("page/" + name)
	}
	return all
}

// file serves an embedded file. It is read when it is asked for: until then its pages are not in memory.
func file(name string) http.Handler {
	kinds := map[string]string{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data, err := files.ReadFile(name)
		if err != nil {
			http.Error(w, "the file is missing", http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", kinds[path.Ext(name)])
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		_, _ = w.Write(data) // the client has left
	})
}
