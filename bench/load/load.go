package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Protocol is what a request and its answer are.
type Protocol string

// The protocols.
const (
	HTTP1    Protocol = "http1"     // GET over keep-alive connections
	H2C      Protocol = "h2c"       // GET over HTTP/2 without TLS, with prior knowledge
	GRPC     Protocol = "grpc"      // a unary call over HTTP/2 without TLS that sends a message of Size bytes
	TCPEcho  Protocol = "tcp"       // Size bytes there and the same number back
	TCPBulk  Protocol = "tcp-bulk"  // connect and read what comes, without end: bytes, no latencies
	HTTPBulk Protocol = "http-bulk" // HTTP1 with answers so long that their bytes are the point
	NewConn  Protocol = "new-conn"  // HTTP1 with a new connection for each request
	UDPEcho  Protocol = "udp"       // a datagram of Size bytes there and the same back, from a socket for each of Conns
	UDPFlows Protocol = "udp-flows" // UDPEcho with a new socket for each datagram
	// WebSocket is frames with Size bytes there and back, on connections that are opened by HTTP/1.1.
	WebSocket Protocol = "websocket"
)

// Protocols are all of them.
var protocols = []Protocol{HTTP1, H2C, GRPC, TCPEcho, TCPBulk, HTTPBulk, NewConn, UDPEcho, UDPFlows, WebSocket}

// Protocols returns all of them.
func Protocols() []Protocol { return append([]Protocol(nil), protocols...) }

// Config says what to measure and how. Addr and Duration are needed.
type Config struct {
	// Protocol is what is said. If empty, HTTP1.
	Protocol Protocol
	// Addr is the address to connect to, host:port or unix:/path.
	Addr string
	// Host is the Host or :authority of requests. If empty, Addr, or localhost where that is a Unix socket.
	Host string
	// Path is the path of requests. If empty, "/"; for GRPC "/bench.Echo/Unary".
	Path string
	// Proxy sends HTTP/1.1 requests in absolute form, as clients of an HTTP proxy do.
	Proxy bool
	// Size is the number of bytes that a TCPEcho, WebSocket, UDPEcho, UDPFlows or GRPC request carries. If zero, 64. The other protocols do not use it.
	Size int
	// Conns is the number of connections. If zero, 1. A datagram that is lost keeps its own until the end, and is one of Result.Unfinished. NewConn has as many requests under way at most.
	Conns int
	// Streams is the number of requests that H2C and GRPC have under way on one connection at most. If zero, 1.
	Streams int
	// Rate is the requests per second of an open loop. If zero, the loop is closed.
	Rate float64
	// Duration is the length of the measured window.
	Duration time.Duration
	// Warmup comes before the window.
	Warmup time.Duration
	// Grace bounds the wait for answers after the window. If zero, 2 s; if negative, there is no such wait.
	Grace time.Duration
	// Threads is the number of workers. If zero, 1. One is good for some 50,000 requests per second, and more of them take processors from the target.
	Threads int
	// Interval is the length of a Point of Result.Series. If zero, a 60th of Duration, but at least 100 ms.
	Interval time.Duration
	// OnBegin is called when the window is about to begin, OnEnd when all answers to its requests have come, or the grace has passed, and connections are still
	// open: for reading meters of the target. If Run is interrupted before the window, neither may be called. If nil, nothing is called.
	OnBegin, OnEnd func()
	// OnProgress is called about ten times a second with the number of answers since the beginning, warm-up included. If nil, nothing is called.
	OnProgress func(answers uint64)

	network func(*worker) (network, error) // for tests; if nil, the platform's
}

// Bounds of what can be asked.
const (
	maxConns     = 100_000
	maxStreams   = 10_000
	maxThreads   = 64
	maxEcho      = 1 << 20 // bytes of a TCPEcho or WebSocket
	maxDatagram  = 65_507  // bytes of a UDPEcho
	maxMessage   = 60_000  // bytes of a GRPC message: it fits the smallest usual flow-control window
	dialTimeout  = 10 * time.Second
	tick         = 100 * time.Millisecond
	defaultGrace = 2 * time.Second
)

// datagrams reports whether the protocol is one of UDP.
func (c *Config) datagrams() bool { return c.Protocol == UDPEcho || c.Protocol == UDPFlows }

// Check fills in defaults and refuses what cannot be, but for a missing Addr. Run does it as well.
func (c *Config) Check() error {
	c.Protocol = cmp.Or(c.Protocol, HTTP1)
	path, local := unixPath(c.Addr)
	if local {
		c.Host = cmp.Or(c.Host, "localhost")
	}
	c.Host = cmp.Or(c.Host, c.Addr)
	c.Conns = cmp.Or(c.Conns, 1)
	c.Streams = cmp.Or(c.Streams, 1)
	c.Size = cmp.Or(c.Size, 64)
	c.Threads = min(cmp.Or(c.Threads, 1), max(c.Conns, 1))
	c.Grace = max(cmp.Or(c.Grace, defaultGrace), 0)
	c.Interval = cmp.Or(c.Interval, max(c.Duration/60, tick))
	if c.Path == "" {
		c.Path = "/"
		if c.Protocol == GRPC {
			c.Path = "/bench.Echo/Unary"
		}
	}
	switch {
	case newWire(c) == nil:
		return fmt.Errorf("protocol %q is none of %v", c.Protocol, protocols)
	case local && (path == "" || c.datagrams()):
		return fmt.Errorf("%s to %s: want a path, and a protocol of connections", c.Protocol, c.Addr)
	case c.Conns < 1 || c.Conns > maxConns:
		return fmt.Errorf("%d connections: want 1 to %d", c.Conns, maxConns)
	case c.Streams < 1 || c.Streams > maxStreams:
		return fmt.Errorf("%d streams: want 1 to %d", c.Streams, maxStreams)
	case c.Streams > 1 && c.Protocol != H2C && c.Protocol != GRPC:
		return fmt.Errorf("%s carries one request at a time on a connection: %d streams are not possible", c.Protocol, c.Streams)
	case c.Threads < 1 || c.Threads > maxThreads:
		return fmt.Errorf("%d threads: want 1 to %d", c.Threads, maxThreads)
	case c.Rate < 0 || math.IsInf(c.Rate, 0) || math.IsNaN(c.Rate):
		return fmt.Errorf("a rate of %v requests per second: want a positive one, or 0 for a closed loop", c.Rate)
	case c.Rate > 0 && c.Protocol == TCPBulk:
		return errors.New("tcp-bulk has no requests that could have a rate")
	case c.Duration <= 0 || c.Warmup < 0 || c.Interval <= 0:
		return errors.New("the duration and the interval must be positive, the warm-up not negative")
	case c.Size < 1 || (c.Protocol == TCPEcho || c.Protocol == WebSocket) && c.Size > maxEcho || c.Protocol == GRPC && c.Size > maxMessage || c.datagrams() && c.Size > maxDatagram:
		return fmt.Errorf("%d bytes: want at least 1, at most %d for tcp and websocket, %d for udp and %d for grpc", c.Size, maxEcho, maxDatagram, maxMessage)
	}
	return nil
}

// Run measures until the window and its grace have passed, or ctx ends; then it returns what was measured until then, with
// Result.Interrupted set. It returns an error if the target cannot be reached, or if ctx ended before the window began. When it
// returns, all its connections are closed and nothing of it runs any more.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Addr == "" {
		return nil, errors.New("no address to connect to")
	}
	addr, err := resolve(ctx, c.Addr)
	if err != nil {
		return nil, err
	}
	r := &run{cfg: c, addr: addr, zero: time.Now()}
	defer r.close()
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	return r.measure(ctx)
}

// run is one call of Run.
type run struct {
	cfg     Config
	addr    target
	zero    time.Time // of the clock of all workers
	workers []*worker
}

// now is the time on the clock of all workers.
func (r *run) now() instant { return instant(time.Since(r.zero)) }

// connect starts the workers and returns when all connections stand.
func (r *run) connect(ctx context.Context) error {
	connected := make(chan error, r.cfg.Threads)
	for i := range r.cfg.Threads {
		w := newWorker(r, i)
		r.workers = append(r.workers, w)
		go w.run(connected)
	}
	var errs []error
	for range r.workers {
		select {
		case err := <-connected:
			errs = append(errs, err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return firstError(errs)
}

// firstError returns the first that is one: they are much alike.
func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// measure runs the schedule of all workers.
func (r *run) measure(ctx context.Context) (*Result, error) {
	zero := r.now() + instant(time.Millisecond)
	for _, w := range r.workers {
		w.begun <- zero
	}
	if !r.sleepUntil(ctx, zero+instant(r.cfg.Warmup)) {
		return nil, context.Cause(ctx)
	}
	if r.cfg.OnBegin != nil {
		r.cfg.OnBegin()
	}
	// The window begins when the meters have been read, however late that was.
	from, fromCount, fromBytes := r.now(), r.answers(), r.bytes()
	end := from + instant(r.cfg.Duration)
	for _, w := range r.workers {
		w.end.Store(int64(end))
		w.begin.Store(int64(from))
	}
	whole := r.sleepUntil(ctx, end)
	to, toCount, toBytes := r.now(), r.answers(), r.bytes()
	if !whole {
		for _, w := range r.workers {
			w.hurry.Store(true)
			w.end.Store(int64(to))
		}
	}
	for _, w := range r.workers {
		<-w.drained
	}
	if r.cfg.OnEnd != nil {
		r.cfg.OnEnd()
	}
	res := newResult(&r.cfg, whole)
	res.Answered, res.Bytes, res.Elapsed = r.answers()-fromCount, r.bytes()-fromBytes, time.Duration(r.now()-from)
	// Nothing was sent after end, so being late there must not make the target slower than it is.
	res.WindowAnswers, res.WindowBytes, res.Window = toCount-fromCount, toBytes-fromBytes, time.Duration(min(to, end)-from)
	var errs []error
	for _, w := range r.workers {
		close(w.release)
		<-w.done
		errs = append(errs, w.err)
		res.add(w)
	}
	r.workers = nil
	res.finish()
	return res, firstError(errs)
}

// sleepUntil reports progress until t and returns false if ctx ended before.
func (r *run) sleepUntil(ctx context.Context, t instant) bool {
	for {
		left := time.Duration(t - r.now())
		if left <= 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(left, tick)):
		}
		if r.cfg.OnProgress != nil {
			r.cfg.OnProgress(r.answers())
		}
	}
}

// answers is how many have come.
func (r *run) answers() (n uint64) {
	for _, w := range r.workers {
		n += w.answers.Load()
	}
	return n
}

// bytes is how many have come.
func (r *run) bytes() (n uint64) {
	for _, w := range r.workers {
		n += w.bytes.Load()
	}
	return n
}

// close ends the workers that still run.
func (r *run) close() {
	for _, w := range r.workers {
		w.quit.Store(true)
		close(w.begun)
		close(w.release)
	}
	for _, w := range r.workers {
		<-w.done
	}
}
