package http1

import (
	"errors"
	"log/slog"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// ServerConfig says what a Server does with its requests.
type ServerConfig struct {
	// Handler carries out each request. Required.
	Handler proxy.RoundTripper
	// Prepare completes each request before Handler sees it, with what the listener knows: Client, Local, Deadline, ID. The Server has set
	// Shard and Cancel. If nil, nothing is added.
	Prepare func(req *proxy.Request, c task.Conn)
	// Tunnel relays between a client and the Stream that its request was answered with, until both directions have ended, and closes
	// both: relay.Copy. If nil, requests for a Stream are answered as if there were none to be had.
	Tunnel func(s task.Shard, client, upstream proxy.Stream)
	// Answer fills resp, which is empty, with pillion's own answer to req, which ended in err. A request that could not
	// be read has no more than what was understood of it. If nil, the answer is a status and one line of text.
	Answer func(req *proxy.Request, resp *proxy.Response, err error)
	// Closing, if not nil, is asked before each answer: true makes it the last of its connection, and says so to the client.
	Closing func() bool
	// MaxHead is the size of the largest request head, in bytes; a larger one is answered 431. If zero, 64 KiB.
	MaxHead int
	// HeadTimeout is the time from the first byte of a head to its end. If zero, 30 s; if negative, none.
	HeadTimeout time.Duration
	// HalfClosed is the time in which a client that has closed its sending side is told from one that has left, of which the app
	// should hear: see halfclosed.go. Half of it passes before such a client is sent anything for that purpose. If zero, 100 ms; if
	// negative, such a client is waited for as any other.
	HalfClosed time.Duration
	// Linger bounds how long a connection that is closed with unread bytes in it is read, so that the client sees the answer and not
	// a reset. If zero, 1 s.
	Linger time.Duration
	// Logger gets what nobody else can be told. If nil, nothing is logged.
	Logger *slog.Logger
}

const (
	maxDrain   = 256 << 10              // bytes of an unwanted content that are read so that the connection can go on
	drainTime  = 100 * time.Millisecond // and for how long
	maxPushed  = 64 << 10               // bytes of 1xx answers that may wait for a client; further ones are left out
	maxShards  = 128                    // shards that keep exchanges for reuse
	keptPerOne = 256                    // exchanges that one shard keeps
	firstHead  = 1 << 10                // bytes of head memory that an exchange begins with
	keptHead   = 8 << 10                // bytes of head memory that a kept exchange keeps
	keptFields = 128                    // fields that a kept exchange has room for
)

// Server is the server's role on the connections of an app or of any other client. It is safe for concurrent use by
// the tasks of all shards.
type Server struct {
	cfg  ServerConfig
	kept [maxShards]shelf
}

// shelf holds the exchanges of one shard that wait for reuse. Guarded by the shard's lock.
type shelf struct {
	top  *exchange
	n    int
	low  int      // least n since the last trim
	trim bool     // one is due
	mem  *Memory  // made with the first exchange
	_    [24]byte // shards do not share a cache line
}

const (
	trimEvery = 5 * time.Second // a shelf gives back what was not needed since the last time, as the runtime does with buffers
	keptQuiet = 8               // exchanges that are not worth a timer
)

// NewServer returns a Server; it starts nothing.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Handler == nil {
		return nil, errors.New("http1: ServerConfig.Handler is nil")
	}
	if cfg.MaxHead < 0 || cfg.MaxHead > 16<<20 {
		return nil, errors.New("http1: ServerConfig.MaxHead is not between 0 and 16 MiB")
	}
	if cfg.MaxHead == 0 {
		cfg.MaxHead = 64 << 10
	}
	cfg.HeadTimeout = orDefault(cfg.HeadTimeout, 30*time.Second)
	cfg.HalfClosed = orDefault(cfg.HalfClosed, 100*time.Millisecond)
	cfg.Linger = orDefault(cfg.Linger, time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg}, nil
}

func orDefault(d, or time.Duration) time.Duration {
	if d == 0 {
		return or
	}
	return d
}

// Serve is a task.ServeOptions.Serve. It serves the requests that have begun to arrive, in order, and returns when c
// is closed, or idle between two of them. first, which Serve frees, may be nil: then Serve waits for bytes.
func (srv *Server) Serve(s task.Shard, c task.Conn, first *task.Buffer) {
	x := srv.take(s)
	x.open(c, first)
	defer x.leave()
	for x.serveOne() && x.in.buffered() > 0 {
	}
	x.quiet = true
}

// take returns an exchange for a connection of s.
func (srv *Server) take(s task.Shard) *exchange {
	if i := s.Index(); i < maxShards {
		sh := &srv.kept[i]
		s.Lock()
		x := sh.top
		if x != nil {
			sh.top, x.next = x.next, nil
			sh.n--
			sh.low = min(sh.low, sh.n)
		}
		s.Unlock()
		if x != nil {
			return x
		}
	}
	return newExchange(srv, s)
}

// memory returns what is shared by the exchanges of s.
func (srv *Server) memory(s task.Shard) *Memory {
	i := s.Index()
	if i >= maxShards {
		return nil
	}
	s.Lock()
	defer s.Unlock()
	sh := &srv.kept[i]
	if sh.mem == nil {
		sh.mem = NewMemory(s)
	}
	return sh.mem
}

// put keeps x for reuse. Nobody else may still use it.
func (srv *Server) put(x *exchange) {
	i := x.s.Index()
	if i >= maxShards {
		return
	}
	if cap(x.head) > keptHead {
		x.head = nil
	}
	if cap(x.req.Fields) > keptFields {
		x.req.Fields = nil
	}
	if cap(x.resp.Fields) > keptFields {
		x.resp.Fields = nil
	}
	if x.inlined {
		x.inlined = false
		if cap(x.inline.dec.section) > 0 {
			x.inline = content{} // trailers are rare and their memory is not worth keeping
		}
	}
	sh := &srv.kept[i]
	x.s.Lock()
	if sh.n < keptPerOne {
		x.next, sh.top = sh.top, x
		sh.n++
	}
	due := sh.n > keptQuiet && !sh.trim
	sh.trim = sh.trim || due
	x.s.Unlock()
	if due {
		srv.trimLater(x.s)
	}
}

// trimLater trims the shelf of s every few seconds until it is small.
func (srv *Server) trimLater(s task.Shard) {
	sh := &srv.kept[s.Index()]
	s.After(trimEvery, func() {
		s.Lock()
		for ; sh.low > 0; sh.low-- {
			x := sh.top
			sh.top, x.next = x.next, nil
			sh.n--
		}
		sh.low = sh.n
		sh.trim = sh.n > keptQuiet
		again := sh.trim
		s.Unlock()
		if again {
			srv.trimLater(s)
		}
	})
}
