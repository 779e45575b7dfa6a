package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	headTimeout  = 5 * time.Second
	idleTimeout  = time.Minute
	writeTimeout = 2 * time.Minute // of a whole answer; a CPU profile may take that long
	maxHead      = 16 << 10        // bytes
	maxConns     = 64              // open at once; more wait in the kernel's backlog
	closeTimeout = 2 * time.Second // for requests that run when Run is told to end
	minToken     = 16              // bytes
)

// Config says what to serve. Listener and Status are needed.
type Config struct {
	// Listener is taken over: it is closed when Run returns.
	Listener net.Listener
	// Status gathers what /status answers. It is called by any number of goroutines.
	Status func() Status
	// Ready returns nil if the sidecar takes traffic, else one sentence that says why not. If nil, it always does.
	Ready func() error
	// LogLevel says which level of the log is in force, SetLogLevel puts another one into force for a while. If nil, there is no /log/level.
	LogLevel    func() LogLevel
	SetLogLevel func(level string, d time.Duration) error
	// Pages are what else is served, by pattern ("GET /metrics"), behind the same guard and token. Their lines in the index are the patterns' paths.
	Pages map[string]http.Handler
	// Home, if not nil, is what GET / answers to clients that prefer HTML, as browsers do, in place of the index. Open are more pages by pattern. Neither wants the
	// token: they hold nothing that not everybody may see.
	Home http.Handler
	Open map[string]http.Handler
	Access
	// Reload reads the configuration again and puts it into force, or, if apply is false, says what that would do. If nil, there is no /reload.
	Reload func(apply bool) Reload
	// Explain says what would become of a request, without sending it. If nil, there is no /explain.
	Explain func(Asked) (*Explanation, error)
	// Cache lists what the cache holds, of one service and one URL if these are given, at most most; CachePurge forgets, and returns how many answers. If nil, there is no /cache.
	Cache      func(service, url string, most int) CacheList
	CachePurge func(CachePurge) int
	// Logger gets refused requests, at debug level, and errors. If nil, nothing is logged.
	Logger *slog.Logger
}

// Access is who may do what.
type Access struct {
	// Pprof enables /debug/pprof.
	Pprof bool
	// Token, if not empty, must come with each request but those for /healthz and /readyz. At least 16 bytes.
	Token string
	// WriteToken, if not empty, lets clients on other machines change something, which else only those on this one may. At least 16 bytes.
	WriteToken string
}

// Server is the admin listener. It is safe for concurrent use.
type Server struct {
	cfg      Config
	loopback bool
	http     *http.Server
	access   atomic.Pointer[Access] // cfg's, until SetAccess
}

// New checks cfg. The error for a listener that other machines can reach says that a token is needed.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Listener == nil || cfg.Status == nil:
		return nil, errors.New("admin: Listener and Status are needed")
	}
	if cfg.Ready == nil {
		cfg.Ready = func() error { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, loopback: onlyLocal(cfg.Listener.Addr())}
	if err := s.SetAccess(cfg.Access); err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       headTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// SetAccess replaces Config.Access, for requests that come from now on. With an error nothing has changed.
func (s *Server) SetAccess(a Access) error {
	switch {
	case a.Token != "" && len(a.Token) < minToken, a.WriteToken != "" && len(a.WriteToken) < minToken:
		return fmt.Errorf("admin: the token is shorter than %d bytes", minToken)
	case !s.loopback && a.Token == "":
		return fmt.Errorf("admin: %v can be reached from other machines and needs a token", s.cfg.Listener.Addr())
	}
	s.access.Store(&a)
	return nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.cfg.Listener.Addr() }

// Run serves until ctx ends. It returns after every request has ended; nil if ctx ended it.
func (s *Server) Run(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx } // answers without an end, end with it
	failed := make(chan error, 1)
	go s.serve(failed)
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(stop) != nil {
		s.http.Close()
	}
	if err == nil {
		<-failed
	}
	return err
}

// serve is the goroutine of Run that accepts.
func (s *Server) serve(failed chan<- error) {
	err := s.http.Serve(newBounded(s.cfg.Listener, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	failed <- err
}

func (s *Server) handler() http.Handler {
	open := http.NewServeMux()
	open.HandleFunc("GET /healthz", s.healthz)
	open.HandleFunc("GET /readyz", s.readyz)
	for pattern, h := range s.cfg.Open {
		open.Handle(pattern, h)
	}
	if s.cfg.Home != nil {
		open.HandleFunc("GET /{$}", s.home)
	}
	closed := http.NewServeMux()
	closed.HandleFunc("GET /{$}", s.index)
	closed.HandleFunc("GET /status", s.status)
	if s.cfg.Explain != nil {
		closed.HandleFunc("GET /explain", s.explain)
	}
	if s.cfg.Reload != nil {
		closed.HandleFunc("GET /reload", s.reload)
		closed.HandleFunc("POST /reload", s.reload)
	}
	if s.cfg.SetLogLevel != nil {
		closed.HandleFunc("GET /log/level", s.logLevel)
		closed.HandleFunc("POST /log/level", s.logLevel)
	}
	for pattern, h := range s.cfg.Pages {
		closed.Handle(pattern, h)
	}
	if s.cfg.Cache != nil {
		closed.HandleFunc("GET /cache", s.cache)
		closed.HandleFunc("POST /cache/purge", s.purge)
	}
	for name, h := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		closed.HandleFunc("GET /debug/pprof/"+name, s.profiling(h))
	}
	open.Handle("/", s.authorized(closed))
	return s.guarded(open)
}

// profiling is h where it is enabled.
func (s *Server) profiling(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.access.Load().Pprof {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}
}

func onlyLocal(a net.Addr) bool {
	if a.Network() == "unix" {
		return true
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}
