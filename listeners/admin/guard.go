package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// guarded refuses what is no operator's request: methods that mean nothing here, requests that a web page of another site made a browser send, and
// changes by who may only look.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if r.Method != http.MethodGet && r.Method != http.MethodHead && (r.Method != http.MethodPost || !s.changes(r.URL.Path)) {
			h.Set("Allow", "GET, HEAD")
			s.refuse(w, r, http.StatusMethodNotAllowed, "only GET and HEAD are served here: nothing can be changed")
			return
		}
		if s.loopback && !localHost(r.Host) {
			s.refuse(w, r, http.StatusForbidden, "the Host must be an IP address or localhost, because a web page could have chosen any other name; ask http://127.0.0.1")
			return
		}
		if crossSite(r) {
			s.refuse(w, r, http.StatusForbidden, "the request comes from a web page of another site; open the address itself")
			return
		}
		if r.Method == http.MethodPost {
			if status, why := s.mayWrite(r); why != "" {
				s.refuse(w, r, status, why)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// changes reports whether something can be changed by a POST to path.
func (s *Server) changes(path string) bool {
	return path == "/reload" && s.cfg.Reload != nil || path == "/cache/purge" && s.cfg.Cache != nil || path == "/log/level" && s.cfg.SetLogLevel != nil
}

// localHost reports whether host, with or without a port, cannot have been chosen by an attacker's DNS server: it is an
// address, or a name that never leaves this machine (RFC 6761 section 6.3). A client of HTTP/1.0 sends none.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "" || host == "localhost" {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// crossSite reports whether a browser says that another site made it send r. The value "none" is a user's own doing, such as
// typing the address.
func crossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// authorized wants the token, if there is one.
func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := s.access.Load().Token
		if token != "" && r.Method != http.MethodPost && !hasToken(r, token) { // of a POST guarded knows
			w.Header().Set("WWW-Authenticate", `Bearer realm="pillion"`)
			s.refuse(w, r, http.StatusUnauthorized, `send "Authorization: Bearer" and the token of the configuration's admin section`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	s.cfg.Logger.Debug("admin request refused", "status", status, "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "host", r.Host, "why", why)
	http.Error(w, why, status)
}
