package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Config says what is answered, and where the rest is asked.
type Config struct {
	// UDP and TCP are where questions come; Run closes both.
	UDP *net.UDPConn
	TCP net.Listener
	// Names are the services.
	Names []Name
	// Suffix is the domain below which every service has a name, too; "" is none.
	Suffix string
	// Range is where the addresses of Names are from.
	Range netip.Prefix
	// Forward are the name servers for other names. If empty, those of ResolvConf.
	Forward []netip.AddrPort
	// ResolvConf is the path of resolv.conf, read again when it is needed. If empty, /etc/resolv.conf.
	ResolvConf string
	// Own reports whether an address is this listener's, which is never asked. May be nil.
	Own func(netip.AddrPort) bool
	// DialContext connects to a name server. If nil, that of a zero net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger hears of what fails. If nil, nothing is logged.
	Logger *slog.Logger
}

// Bounds on what clients can make the listener hold.
const (
	maxQuery    = 4096             // bytes over UDP; a longer one is cut and thus refused
	maxWaiting  = 512              // questions passed on at a time; more are answered SERVFAIL
	maxConns    = 128              // over TCP; more are closed
	idleTimeout = 10 * time.Second // of a connection
)

// Server answers questions. Make it with New.
type Server struct {
	cfg     Config
	names   atomic.Pointer[names]
	forward *forwarder
	waiting chan struct{} // a slot for each question passed on
	conns   chan struct{} // a slot for each connection
	running sync.WaitGroup

	own, passed, failed atomic.Uint64
}

// New returns a Server for Run.
func New(c Config) (*Server, error) {
	if c.UDP == nil || c.TCP == nil {
		return nil, errors.New("serve DNS: no sockets")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: c, forward: newForwarder(c), waiting: make(chan struct{}, maxWaiting), conns: make(chan struct{}, maxConns)}
	s.Replace(c.Names)
	return s, nil
}

// Replace puts other services in the place of Config.Names.
func (s *Server) Replace(all []Name) { s.names.Store(newNames(all, s.cfg.Suffix, s.cfg.Range)) }

// Stats counts questions.
type Stats struct {
	Own    uint64 // answered here
	Passed uint64 // to other name servers
	Failed uint64 // of these, without an answer
	Conns  int    // open, over TCP
	// Servers are those that other names are passed on to now.
	Servers []netip.AddrPort
}

// Stats is a snapshot.
func (s *Server) Stats() Stats {
	servers, _ := s.forward.servers()
	return Stats{Own: s.own.Load(), Passed: s.passed.Load(), Failed: s.failed.Load(), Conns: len(s.conns), Servers: servers}
}

// Run serves until ctx ends, and returns when everything that it started has ended.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer s.running.Wait()
	defer cancel(nil)
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	s.running.Go(func() { cancel(s.serveUDP(ctx)) })
	s.running.Go(func() { cancel(s.serveTCP(ctx)) })
	<-ctx.Done()
	s.close()
	return context.Cause(ctx)
}

func (s *Server) close() {
	s.cfg.UDP.Close()
	s.cfg.TCP.Close()
}

// reply answers one question; nil is no answer. pass is true where others are to be asked.
func (s *Server) reply(q *query, code dnsmessage.RCode) (answer []byte, pass bool) {
	if code != dnsmessage.RCodeSuccess {
		return reply(q, code, nil), false
	}
	if answer, ok := s.names.Load().local(q); ok {
		s.own.Add(1)
		return answer, false
	}
	return nil, true
}

// pass asks others, and fits their answer to who asked.
func (s *Server) pass(ctx context.Context, q *query, network string) []byte {
	s.passed.Add(1)
	answer, err := s.forward.ask(ctx, q, network)
	if err != nil {
		s.failed.Add(1)
		s.cfg.Logger.Debug("no answer to a DNS question of the app", "name", q.q.Name.String(), "type", q.q.Type.String(), "err", err)
		return reply(q, dnsmessage.RCodeServerFailure, nil)
	}
	if network == "udp" && len(answer) > q.size {
		return truncate(q, answer)
	}
	return answer
}
