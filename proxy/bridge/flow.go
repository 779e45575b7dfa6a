package bridge

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// maxDatagrams and maxDatagramBytes bound a queue of datagrams: one that finds it full is dropped and counted.
const (
	maxDatagrams     = 512
	maxDatagramBytes = 1 << 20
)

// queue carries datagrams from one shard to another.
type queue struct {
	mu     sync.Mutex // never held over a wait or a call
	list   [][]byte   // oldest first
	size   int        // bytes in list
	end    error
	reader side
}

// put copies p. It reports whether there was room.
func (q *queue) put(p []byte) (ok bool, err error) {
	q.mu.Lock()
	if q.end != nil || len(q.list) >= maxDatagrams || q.size+len(p) > maxDatagramBytes {
		defer q.mu.Unlock()
		return false, q.end
	}
	q.list = append(q.list, append([]byte(nil), p...))
	q.size += len(p)
	wake := q.reader.rouse()
	q.mu.Unlock()
	call(wake)
	return true, nil
}

// next waits for the next datagram.
func (q *queue) next() ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.await()
	if len(q.list) == 0 {
		return nil, q.end
	}
	d := q.list[0]
	q.list[0] = nil
	q.list = q.list[1:]
	q.size -= len(d)
	return d, nil
}

// await waits until there is a datagram or the end. mu is held, but not while it waits.
func (q *queue) await() {
	for len(q.list) == 0 && q.end == nil {
		q.reader.prepare()
		q.mu.Unlock()
		q.reader.gate.Wait(0)
		q.mu.Lock()
		q.reader.waiting = false
	}
}

// finish lets the reader have what is queued, and then err.
func (q *queue) finish(err error) {
	q.mu.Lock()
	if q.end == nil {
		q.end = err
	}
	wake := q.reader.rouse()
	q.mu.Unlock()
	call(wake)
}

func (q *queue) ended() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.end
}

// flow is the near end of a Flow, and the two queues.
type flow struct {
	x        *exchange
	up, down queue

	stats atomic.Pointer[proxy.FlowStats] // where the near side counts
}

var (
	_ proxy.Flow   = (*flow)(nil)
	_ proxy.Waiter = (*flow)(nil)

	_ proxy.FlowCounter = (*flow)(nil)
)

func newFlow(x *exchange) *flow {
	f := &flow{x: x}
	f.up.reader.shard, f.down.reader.shard = x.b.far, x.b.near
	return f
}

// FlowStats implements proxy.FlowCounter.
func (f *flow) FlowStats() *proxy.FlowStats { return f.stats.Load() }

// CountIn implements proxy.FlowCounter, for both sides.
func (f *flow) CountIn(stats *proxy.FlowStats) {
	f.stats.Store(stats)
	if c, ok := f.x.farFlow.(proxy.FlowCounter); ok {
		f.x.b.far.Post(func() { c.CountIn(stats) })
	}
}

// drop counts a datagram, on either side.
func (f *flow) drop(why proxy.Drop) {
	f.x.b.dropped.Add(1)
	f.stats.Load().Drop(why, 1)
}

// Receive waits for the next datagram that fits p.
func (f *flow) Receive(p []byte) (int, error) {
	for {
		d, err := f.down.next()
		if err != nil {
			return 0, err
		}
		if len(d) <= len(p) {
			return copy(p, d), nil
		}
		f.drop(proxy.DropTooLong)
	}
}

// WaitReadable waits until Receive would not wait.
func (f *flow) WaitReadable() error {
	f.down.mu.Lock()
	defer f.down.mu.Unlock()
	f.down.await()
	return nil
}

// Send passes p on, or drops it.
func (f *flow) Send(p []byte) error {
	if len(p) > proxy.MaxDatagram {
		f.drop(proxy.DropTooLong)
		return proxy.ErrDatagramTooLong
	}
	if err := f.down.ended(); err != nil {
		return task.ErrClosed
	}
	ok, err := f.up.put(p)
	task.HandOver(f.x.b.near)
	if !ok && err == nil {
		f.drop(proxy.DropNoRoom)
	}
	return err
}

// Close ends both directions.
func (f *flow) Close() error {
	f.x.end(task.ErrClosed)
	return nil
}

// end ends the Flow from the near side, and reports whether it was over already.
func (f *flow) end(err error) bool {
	over := f.down.ended() != nil
	f.broke(err)
	return over
}

// broke ends both queues.
func (f *flow) broke(err error) {
	f.up.finish(err)
	f.down.finish(err)
}

// passDown is the far task from the Flow to the near side.
func (f *flow) passDown(from proxy.Flow) {
	for {
		if err := f.stepDown(from); err != nil {
			f.down.finish(err)
			f.up.finish(io.EOF)
			return
		}
	}
}

// stepDown moves one datagram. It holds no buffer while there is none, where from is a proxy.Waiter.
func (f *flow) stepDown(from proxy.Flow) error {
	if w, ok := from.(proxy.Waiter); ok {
		if err := w.WaitReadable(); err != nil {
			return err
		}
	}
	buf, _ := f.x.b.datagrams.Get().(*[proxy.MaxDatagram]byte)
	if buf == nil {
		buf = new([proxy.MaxDatagram]byte)
	}
	defer f.x.b.datagrams.Put(buf)
	n, err := from.Receive(buf[:])
	if err != nil {
		return err
	}
	ok, err := f.down.put(buf[:n])
	if !ok && err == nil {
		f.drop(proxy.DropNoRoom)
	}
	return err
}

// passUp is the far task from the near side to the Flow.
func (f *flow) passUp(to proxy.Flow) {
	for {
		d, err := f.up.next()
		if err == nil {
			err = to.Send(d)
		}
		if err != nil && err != proxy.ErrDatagramTooLong {
			to.Close()
			f.broke(err)
			return
		}
	}
}
