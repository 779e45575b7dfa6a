package demo

import (
	"fmt"
	"html/template"
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
		_ = shopPage.Execute(w, struct {
			Page page
			Err  error
			Host string
		}{p, err, r.Host})
	})
	return mux
}

var shopPage = template.Must(template.New("shop").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>pillion demo</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44em;margin:3em auto;padding:0 1em}td,th{text-align:left;padding:.2em 1em .2em 0}</style>
<h1>A shop behind pillion</h1>
{{if .Err}}<p>web could not ask orders: {{.Err}}</p>{{else}}
<p>You asked <b>web</b> as <code>{{.Host}}</code>. It asked <b>orders</b>, and that asked <b>billing</b>; each call went over an encrypted, mutually
authenticated link between two sidecars. None of the three apps knows.</p>
<table>
<tr><th>app</th><th>said</th><th>its sidecar says the caller was</th></tr>
<tr><td>web</td><td>this page</td><td><code>{{.Page.Caller}}</code></td></tr>
<tr><td>orders</td><td>order {{.Page.Order.Number}}: one {{.Page.Order.Item}}</td><td><code>{{.Page.Order.Caller}}</code></td></tr>
<tr><td>billing</td><td>{{.Page.Order.Invoice.Cents}} cents</td><td><code>{{.Page.Order.Invoice.Caller}}</code></td></tr>
</table>{{end}}
`))
