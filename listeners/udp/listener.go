package udp

import (
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/dnscache"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Config is shared by all ports.
type Config struct {
	// Handler is the outbound stack.
	Handler proxy.RoundTripper
	Logger  *slog.Logger
}

// Port is one UDP socket.
type Port struct {
	// Name is the setting that asked for it, for logs.
	Name string
	// Conn is taken over.
	Conn *net.UDPConn
	// Service is where everything on this port goes.
	Service proxy.Service
	// Idle is how long a Flow lives without a datagram. If zero, one minute.
	Idle time.Duration
	// MaxFlows bounds the Flows; at more, the one that has been idle for longest ends. If zero, 10,000.
	MaxFlows int
	// Stats counts; may be nil.
	Stats *proxy.FlowStats
	// DNS keeps the answers to DNS questions, and answers those that it can. If nil, nothing is kept.
	DNS *dnscache.Cache
}

const (
	doneIdle    = 2 * time.Second  // the life of a Flow that has got its answer
	openTimeout = 10 * time.Second // a datagram that has waited longer for its Flow is of no use
	maxWaiting  = 64               // datagrams of one Flow that wait until it is open; more are dropped
	maxQueued   = 1 << 20          // bytes of all of them on one port; more are dropped
	maxTick     = time.Second      // how often idle Flows are looked for
	socketSize  = 1 << 20          // bytes asked for each of the socket's queues; the system may give less
)

// Listener is a Port that is being served.
type Listener struct {
	// Static after construction.
	cfg  Config
	p    Port
	s    task.Shard
	addr net.Addr
	tick time.Duration
	look func()

	running atomic.Int64 // Flows, those that are ending included

	// Guarded by the shard's lock.
	c       task.PacketConn // nil before the shard has it
	table   table
	queued  int // bytes that wait for Flows to open
	timer   task.Timer
	closed  bool
	failing bool   // the last Flow could not be opened
	lost    uint64 // that the kernel dropped, and has been counted
}

// Listen serves p on s. It may be called before the runtime runs.
func Listen(s task.Shard, cfg Config, p Port) *Listener {
	if p.Idle == 0 {
		p.Idle = time.Minute
	}
	if p.MaxFlows == 0 {
		p.MaxFlows = 10_000
	}
	_ = p.Conn.SetReadBuffer(socketSize) // a burst waits there while the loop is busy
	_ = p.Conn.SetWriteBuffer(socketSize)
	l := &Listener{cfg: cfg, p: p, s: s, addr: p.Conn.LocalAddr()}
	l.tick = min(maxTick, max(p.Idle/4, 10*time.Millisecond))
	l.look = l.expire
	l.table = table{flows: make(map[task.Route]*flow)}
	l.table.live.idle, l.table.done.idle = p.Idle, min(doneIdle, p.Idle)
	s.Post(l.begin)
	return l
}

// Addr is the socket's address.
func (l *Listener) Addr() net.Addr { return l.addr }

// Active is the number of Flows that are open or ending.
func (l *Listener) Active() int { return int(l.running.Load()) }

// Name is the Port's.
func (l *Listener) Name() string { return l.p.Name }

// begin is a callback.
func (l *Listener) begin() {
	c, err := l.s.AdoptPacket(l.p.Conn)
	if err != nil {
		l.cfg.Logger.Error("UDP port is not served", "port", l.p.Name, "err", err)
		return
	}
	l.s.Lock()
	l.c = c
	closed := l.closed
	l.s.Unlock()
	if closed {
		c.Close()
		return
	}
	l.s.Go(l.receive)
}

// receive is the task that reads the socket: a Send never waits, so one is enough for all Flows.
func (l *Listener) receive() {
	for {
		err := l.c.WaitReadable()
		if err == nil {
			err = l.one()
		}
		if err != nil && !task.Unreachable(err) {
			if !errors.Is(err, task.ErrClosed) {
				l.cfg.Logger.Error("UDP port is served no more", "port", l.p.Name, "err", err)
			}
			return
		}
	}
}

func (l *Listener) one() error {
	b := l.s.Datagram()
	defer l.s.Free(b)
	n, from, err := l.c.Receive(b.B)
	if err == nil {
		l.p.Stats.Request()
		if l.p.DNS != nil && l.known(from, b.B[:n]) {
			return nil
		}
		if !l.deliver(from, b.B[:n]) { // its Flow has just ended: another one
			l.deliver(from, b.B[:n])
		}
	}
	return err
}

// deliver sends p on the client's Flow, which it opens if there is none. It is false if that Flow turned out to be over.
func (l *Listener) deliver(from task.Route, p []byte) bool {
	l.s.Lock()
	if l.closed {
		l.s.Unlock()
		return true
	}
	f := l.table.flows[from]
	var evicted *flow
	if f == nil {
		if len(l.table.flows) >= l.p.MaxFlows {
			evicted = l.table.oldest()
			l.table.remove(evicted)
		}
		f = &flow{l: l, client: from}
		l.table.add(f, l.s.Now())
		l.p.Stats.Opened()
		l.running.Add(1)
		if l.timer == nil {
			l.timer = l.s.After(l.tick, l.look)
		}
		l.s.Go(f.run)
	}
	f.talk.request(p)
	if l.p.DNS != nil {
		f.questions.add(p)
	}
	l.table.touch(f, l.s.Now())
	up := f.up
	if up == nil {
		f.waitLocked(p)
	}
	l.s.Unlock()
	if evicted != nil {
		l.p.Stats.Evicted()
		evicted.end()
	}
	if up == nil {
		return true
	}
	if err := up.Send(p); err != nil && err != proxy.ErrDatagramTooLong {
		f.end()
		return false
	}
	return true
}

// expire is a callback, for as long as there are Flows: it ends those that are idle.
func (l *Listener) expire() {
	for {
		l.s.Lock()
		f := l.table.expired(l.s.Now())
		if f == nil {
			break
		}
		l.table.remove(f)
		l.s.Unlock()
		f.end()
	}
	l.timer = nil
	if len(l.table.flows) > 0 {
		l.timer = l.s.After(l.tick, l.look)
	}
	l.s.Unlock()
}

// Lost counts what the kernel has dropped since the last call. It is for tasks and callbacks of the shard.
func (l *Listener) Lost() {
	l.s.Lock()
	c := l.c
	l.s.Unlock()
	if c == nil {
		return
	}
	lost := c.Lost()
	l.s.Lock()
	l.p.Stats.Drop(proxy.DropOverflow, int(lost-l.lost))
	l.lost = lost
	l.s.Unlock()
}

// Shard is the one that the port belongs to.
func (l *Listener) Shard() task.Shard { return l.s }

// Close closes the socket and ends every Flow. It returns at once; Active falls to zero when all have ended. Idempotent.
func (l *Listener) Close() { l.s.Post(l.close) }

// close is a callback.
func (l *Listener) close() {
	l.s.Lock()
	l.closed = true
	c := l.c
	var all []*flow
	for _, f := range l.table.flows {
		all = append(all, f)
	}
	l.s.Unlock()
	if c != nil {
		c.Close()
	}
	for _, f := range all {
		f.end()
	}
}
