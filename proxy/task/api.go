package task

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// Instant is a monotonic time: nanoseconds since the process started, always
// positive. Zero means "none" wherever a deadline is asked for.
type Instant int64

// Add returns t+d.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns t-u.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// ErrDeadline is what Read, Write, Dial and WaitReadable return once the deadline
// has passed. It implements net.Error with Timeout() true and matches
// os.ErrDeadlineExceeded.
var ErrDeadline error = deadlineError{}

// ErrClosed is returned for any use of a Conn after Close or Reset, and by
// waits that Close or Reset ended.
var ErrClosed = errors.New("use of closed connection")

// Conn is a byte stream owned by one shard. Read and Write wait for the
// calling task only; one task may read while another writes. All methods must
// be called on the Conn's shard, by a task or (those that do not wait) by a callback.
type Conn interface {
	// Read waits for at least one byte; io.EOF once the peer has closed its side.
	// A reset by the peer is syscall.ECONNRESET, never io.EOF.
	Read(p []byte) (int, error)
	// Write waits until all of p has been taken by the kernel, in order behind
	// whatever Push has queued.
	Write(p []byte) (int, error)
	// WaitReadable waits until Read would not wait. It lets a caller wait without holding a buffer. It may return early
	// after a Read that filled its buffer, or took the bytes of a later event; Read then waits after all.
	WaitReadable() error
	// CloseWrite sends what is queued, then FIN. Reading goes on.
	CloseWrite() error
	// Close ends both directions in order: what Push has queued is still sent
	// (for a bounded time), then FIN. It never waits, is idempotent, and wakes every waiter with ErrClosed.
	Close() error
	// Reset ends both directions at once with a TCP RST, discarding what is
	// queued. Like Close otherwise. Close becomes Reset if a Write was cut short, so that the peer cannot take
	// a part for the whole.
	Reset() error
	// SetDeadline bounds the waits in Read, Write and WaitReadable; 0 means none. It costs a store.
	SetDeadline(t Instant)
	// Push writes without waiting: what the kernel refuses is copied and queued. The
	// error, if any, is that of an earlier or this send; the connection is then useless.
	Push(p []byte) error
	// Queued is the number of bytes that Push holds back.
	Queued() int
	// OnDrain sets f to be called (as a callback) each time Queued falls back to zero. nil removes it.
	OnDrain(f func())
	// OnHangup sets f to be called (as a callback, once) when the peer closes its side (err is io.EOF),
	// resets (err is the reset), or sends bytes that nobody is reading (err is nil; the
	// bytes stay unread), while no task is in Read or WaitReadable. nil removes it. Setting it never consumes bytes.
	OnHangup(f func(err error))
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
}

// Taker is implemented by the Conns of loops.
type Taker interface {
	// Take sends what is unread in b, in order behind whatever Push has queued, at the end of the turn, and frees b. It does not wait. It
	// reports false and leaves b alone where a Write might have to wait or would fail. An error of sending is told by the next call. Bytes that are
	// not sent yet when Close comes still are, as those of Push; Reset discards them.
	Take(b *Buffer) bool
}

// Shard is a scheduling domain; see the package comment. Only Post, Index and Now may be
// called from foreign goroutines.
type Shard interface {
	// Index is the shard's place in Runtime.Shards, from Config.First. Per-shard state lives in slices.
	Index() int
	// Now is the time: on a loop that of the current turn, which costs a load.
	Now() Instant
	// Go starts a task. Pass a stored func value, not a fresh closure, where allocations count.
	Go(f func())
	// Lock guards state shared by the shard's tasks and callbacks. It is free on a loop. Never wait
	// while holding it. Not reentrant. No method of Shard, Batch, Timer, Gate or Conn takes it for longer than its call
	// needs; Go, After, Stop, Kick, Wake, Buffer and Free may be called while holding it.
	Lock()
	Unlock()
	// Sleep waits for d. It does not return once the runtime stops: see "The end" in the package comment.
	Sleep(d time.Duration)
	// Yield lets other tasks and new events go first. Read and Write yield by
	// themselves after 64 calls without a wait.
	Yield()
	// Offload runs f on an ordinary goroutine and waits for it: for disk, DNS,
	// handshakes, and more than 100 µs of CPU.
	Offload(f func())
	// Post runs f as a callback on the shard soon. It is the only way in for foreign goroutines. Calls of one goroutine
	// run in order. Once Run has returned Post does nothing.
	Post(f func())
	// After runs f as a callback once d has passed, unless stopped. The grain is 4 ms.
	After(d time.Duration, f func()) Timer
	// Batch returns a hook: f runs once, as a callback, at the end of the turn in which Kick was
	// called any number of times. On goroutines f runs soon, coalesced as well as can be. Kick may be called with or without Lock held.
	Batch(f func()) Batch
	// Gate prepares g for use on this shard. A Gate may be prepared again when nobody waits.
	Gate(g *Gate)
	// Dial connects; network is "tcp" or "unix", address a literal IP:port or a
	// path. No DNS. deadline bounds the dial only.
	Dial(network, address string, deadline Instant) (Conn, error)
	// Adopt takes over a connection that an ordinary goroutine has set up. It is a *net.TCPConn or
	// *net.UnixConn (on goroutines: any net.Conn), which the caller must not touch again.
	// On a loop the descriptor leaves Go's netpoller. Adopt may be called from tasks and callbacks.
	Adopt(c net.Conn) (Conn, error)
	// AdoptPacket takes over a UDP socket, connected or not, which the caller must not touch again. It may be called from tasks and callbacks.
	AdoptPacket(c *net.UDPConn) (PacketConn, error)
	// DialPacket returns a socket that is connected to the address: it exchanges datagrams with that one only. It does not wait.
	DialPacket(to netip.AddrPort) (PacketConn, error)
	// Buffer and Free exchange pooled buffers. A Buffer is not cleared.
	Buffer() *Buffer
	Free(*Buffer)
	// Datagram returns a pooled buffer of DatagramSize, for one datagram or for bytes that come in bulk. Few are kept: hold it no longer
	// than the datagram, or until those bytes have been passed on.
	Datagram() *Buffer
}

// Solo reports whether one thread of control runs all tasks and callbacks of s, as a loop does: what only they touch needs no lock at all.
func Solo(s Shard) bool {
	_, ok := s.(interface{ solo() })
	return ok
}

// Timer is a pending After.
type Timer interface {
	// Stop prevents the call, if it has not begun. Idempotent. Call it on the shard.
	Stop()
}

// Batch coalesces work, such as the flush of a link.
type Batch interface{ Kick() }

// BufferSize is the capacity in bytes of a pooled Buffer.
const BufferSize = 16 << 10

// Buffer is a fixed chunk with a read and a write mark: B[R:W] is unread.
type Buffer struct {
	B    []byte // len BufferSize (or DatagramSize), unless a holder has put a larger slice in; Free drops such a one
	R, W int

	state bufferState
}

// Unread returns B[R:W].
func (b *Buffer) Unread() []byte { return b.B[b.R:b.W] }

// Room returns B[W:], the space for a Read.
func (b *Buffer) Room() []byte { return b.B[b.W:] }

// ServeOptions say how a Listener treats its connections.
type ServeOptions struct {
	// Serve runs in a task whenever bytes arrive on an idle connection, with these
	// bytes in first, which Serve owns and must Free. When Serve returns and has not closed c, c is idle again
	// and holds neither task nor buffer. If the peer closes an idle connection, it
	// is closed without a call of Serve.
	Serve func(s Shard, c Conn, first *Buffer)
	// Eager makes Serve run also as soon as a connection is accepted, with first nil, for
	// protocols in which the server may speak first. When that call returns and has not closed c, c is idle as ever.
	Eager bool
	// Idle closes a connection that has been idle this long. Zero means never.
	Idle time.Duration
	// Max bounds the open connections of this listener; more wait in the kernel's backlog. Zero means no bound
	// but that of file descriptors: at EMFILE the listener sheds and tries again, and never spins.
	Max int
}

// Listener is one listening socket whose connections are dealt to shards.
type Listener interface {
	Addr() net.Addr
	// Close stops accepting and closes the socket. Open connections go on. Idempotent.
	Close() error
	// CloseIdle closes the connections that are idle now, and from now on each one as it becomes idle.
	CloseIdle()
	// Active is the number of open connections.
	Active() int
}

// Runtime is a set of shards and what runs them. All methods are safe for concurrent use.
type Runtime interface {
	Shards() []Shard
	// Pick chooses the shard for the next connection: the first until it is busy, then the least loaded.
	Pick() Shard
	// Listen serves ln, which it takes over. It may be called before Run.
	Listen(ln net.Listener, o ServeOptions) (Listener, error)
	// Run runs the shards until ctx ends, then closes every connection and returns after all tasks have ended.
	Run(ctx context.Context) error
	// Stats is a snapshot for metrics and tests.
	Stats() Stats
}

// Stats counts what a Runtime holds. All are gauges but Panics, Stalls and Shed, which count up.
type Stats struct {
	Shards  int
	Tasks   int // running or waiting
	Conns   int // open
	Idle    int // of Conns, those with neither task nor buffer
	Buffers int // taken and not yet freed
	Panics  uint64
	Stalls  uint64 // times the watchdog saw a task hold its loop for too long
	Shed    uint64 // connections closed at once for want of descriptors
	// Busy is the part of its time that the busiest loop is awake, 0 to 1, and LongestTurn the longest that one ever was between two looks for events. Both are 0 without
	// loops.
	Busy        float64
	LongestTurn time.Duration
}

// AddrPort returns the IP and port of a, or the zero value for a Unix address.
func AddrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// Remote is AddrPort of c.RemoteAddr. A Conn of a loop remembers it.
func Remote(c Conn) netip.AddrPort {
	if l, ok := c.(interface{ remoteAddrPort() netip.AddrPort }); ok {
		return l.remoteAddrPort()
	}
	return AddrPort(c.RemoteAddr())
}

type deadlineError struct{}

func (deadlineError) Error() string   { return "deadline passed" }
func (deadlineError) Timeout() bool   { return true }
func (deadlineError) Temporary() bool { return true }

func (deadlineError) Is(target error) bool { return target == os.ErrDeadlineExceeded }
