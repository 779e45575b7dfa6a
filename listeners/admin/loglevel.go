package admin

import (
	"net/http"
	"time"
)

// LogLevel is what /log/level answers.
type LogLevel struct {
	// Level is in force now: debug, info, warn or error. Configured is what the configuration says.
	Level      string `json:"level"`
	Configured string `json:"configured"`
	// Left is how long Level stays in force before Configured is again, in seconds; 0 where they do not differ.
	Left float64 `json:"left_seconds,omitempty"`
}

// logLevel answers which level is in force (GET), or sets ?level for ?for (POST).
func (s *Server) logLevel(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.json(w, http.StatusOK, s.cfg.LogLevel())
		return
	}
	q := r.URL.Query()
	d, err := time.ParseDuration(q.Get("for"))
	if err != nil || d <= 0 {
		http.Error(w, "for: say for how long, as in 5m", http.StatusBadRequest)
		return
	}
	if err := s.cfg.SetLogLevel(q.Get("level"), d); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.json(w, http.StatusOK, s.cfg.LogLevel())
}
