package admin

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// home answers a browser with the page, and others, such as curl, with the index.
func (s *Server) home(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if prefersHTML(r.Header.Get("Accept")) {
		s.cfg.Home.ServeHTTP(w, r)
		return
	}
	s.authorized(http.HandlerFunc(s.index)).ServeHTTP(w, r)
}

// prefersHTML reports whether text/html comes before anything in plain text. Browsers name it first.
func prefersHTML(accept string) bool {
	for kind := range strings.SplitSeq(accept, ",") {
		kind, _, _ = strings.Cut(kind, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/html":
			return true
		case "text/plain", "text/*", "*/*":
			return false
		}
	}
	return false
}

func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "pillion\n\n/healthz  the process answers\n/readyz   it takes traffic\n/status   what it is doing, as JSON")
	if s.cfg.Explain != nil {
		fmt.Fprintln(w, "/explain  what would become of a request: ?method=GET&url=http://service/path&header=name:+value, as JSON")
	}
	if s.cfg.Reload != nil {
		fmt.Fprintln(w, "/reload   what a reload of the configuration would change, as JSON; POST does it")
	}
	if s.cfg.SetLogLevel != nil {
		fmt.Fprintln(w, "/log/level  the level of the log; POST changes it for a while")
	}
	for _, pattern := range slices.Sorted(maps.Keys(s.cfg.Pages)) {
		if path, ok := strings.CutPrefix(pattern, "GET "); ok {
			fmt.Fprintln(w, path)
		}
	}
	if s.access.Load().Pprof {
		fmt.Fprintln(w, "/debug/pprof/  profiles")
	}
}

// healthz answers as long as the process can: whoever watches it restarts it if it does not.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// readyz answers 200 if traffic may be sent, else 503 and why not.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := s.cfg.Ready(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "not ready: %v\n", err)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.cfg.Status()
	st.FillLists()
	s.json(w, http.StatusOK, st)
}

// FillLists makes empty lists [], so that who reads them as JSON need not know null.
func (st *Status) FillLists() {
	st.Listeners = orEmpty(st.Listeners)
	st.Apps = orEmpty(st.Apps)
	st.Services = orEmpty(st.Services)
	st.Links = orEmpty(st.Links)
	for i := range st.Services {
		st.Services[i].Endpoints = orEmpty(st.Services[i].Endpoints)
	}
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
