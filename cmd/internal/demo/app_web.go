package demo

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"time"
)

// newWeb returns the app that people see: it asks orders, which asks billing. Where an HTTP_PROXY is set the
// client uses it, as any Go program would.
func newWeb(cfg AppConfig) http.Handler {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}}
	load := func(r *http.Request, n int) (page, error) {
		p := page{App: web, Caller: callerOf(r)}
		err := fetchJSON(r.Context(), client, fmt.Sprintf("%s/orders/%d", cfg.Next, n), cfg.NextHost, &p.Order)
		return p, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /shop/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, ok := pathNumber(w, r)
		if !ok {
			return
		}
		p, err := load(r, n)
		if err != nil {
			http.Error(w, "web could not ask orders: "+err.Error(), http.StatusBadGateway)
			return
		}
		writeJSON(w, p)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		p, err := load(r, int(time.Now().Unix()%1000))
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, shopPage(r.Host, p, err))
	})
	return mux
}

// shopPage is the page for people. (Not html/template, which would keep the linker from leaving out what nobody calls.)
func shopPage(host string, p page, err error) string {
	said := fmt.Sprintf(`<p>You asked <b>web</b> as <code>%s</code>. It asked <b>orders</b>, and that asked <b>billing</b>; each call went over an
encrypted, mutually authenticated link between two sidecars. None of the three apps knows.</p>
<table>
<tr><th>app</th><th>said</th><th>its sidecar says the caller was</th></tr>
<tr><td>web</td><td>this page</td><td><code>%s</code></td></tr>
<tr><td>orders</td><td>order %d: one %s</td><td><code>%s</code></td></tr>
<tr><td>billing</td><td>%d cents</td><td><code>%s</code></td></tr>
</table>`, html.EscapeString(host), html.EscapeString(p.Caller), p.Order.Number, html.EscapeString(p.Order.Item), html.EscapeString(p.Order.Caller),
		p.Order.Invoice.Cents, html.EscapeString(p.Order.Invoice.Caller))
	if err != nil {
		said = "<p>web could not ask orders: " + html.EscapeString(err.Error()) + "</p>"
	}
	return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>pillion demo</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44em;margin:3em auto;padding:0 1em}td,th{text-align:left;padding:.2em 1em .2em 0}</style>
<h1>A shop behind pillion</h1>
` + said + "\n"
}
