package admin

import "net/http"

// Asked is the request that /explain is about.
type Asked struct {
	Method, URL string
	// Header are its fields, as in "x-team: blue".
	Header []string
}

// Explanation is what /explain answers: what would become of a request, and why. Nothing was sent to find out.
type Explanation struct {
	Method string `json:"method"`
	URL    string `json:"url"`
	// Config is the path of the configuration that it follows from, "" for flags alone. Running is false where no sidecar was asked.
	Config  string `json:"config,omitempty"`
	Running bool   `json:"running"`
	// Service is the one that is called, Route which of its routes applies, from 1 on; 0 is none.
	Service string `json:"service,omitempty"`
	Route   int    `json:"route"`
	// Place is where the route is written, as in "pillion.yaml:12:9".
	Place string `json:"place,omitempty"`
	// Sent is what would be sent, and where to: method, path, host, fields.
	Sent *Sent `json:"sent,omitempty"`
	// Steps are the layers' decisions, in their order.
	Steps []Step `json:"steps"`
	// Backend is the service whose endpoints would be asked; nil if the request goes nowhere.
	Backend *Service `json:"backend,omitempty"`
}

// Sent is what becomes of a request.
type Sent struct {
	Method string   `json:"method"`
	Host   string   `json:"host"`
	Path   string   `json:"path"`
	Header []string `json:"header"`
}

// Step is what one layer would do.
type Step struct {
	// Layer is who: "service", "route", "timeout", "retry", …
	Layer string `json:"layer"`
	Text  string `json:"text"`
	// Why is what decides it, as in "services.billing.routes[1].timeout"; "" if nothing need be said.
	Why string `json:"why,omitempty"`
}

// explain answers what would become of a request: 422 with one sentence if it is none.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	e, err := s.cfg.Explain(Asked{Method: q.Get("method"), URL: q.Get("url"), Header: q["header"]})
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	e.Steps = orEmpty(e.Steps)
	s.json(w, http.StatusOK, e)
}
