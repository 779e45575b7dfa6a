package datagram

import (
	"io"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	typeDatagram = 0x00                    // RFC 9297 section 3.5
	contextUDP   = 0                       // RFC 9298 section 4
	maxVarint    = 8                       // bytes
	maxValue     = maxVarint + maxDatagram // of a DATAGRAM capsule, in bytes; longer ones are skipped
	maxDatagram  = proxy.MaxDatagram
	closeTimeout = 5 * time.Second // how long Close waits for the other side's end before it resets
)

// Flow is a Flow on a Stream. Make it with New.
type Flow struct {
	// Static after construction.
	s       task.Shard
	st      proxy.Stream
	waiter  proxy.Waiter // nil if the Stream is none
	offerer proxy.Offerer
	stats   *proxy.FlowStats

	// Owned by the receiving task, and by Close when there is none.
	buf  *task.Buffer // what has been read and not yet used; nil if there is nothing
	skip uint64       // bytes of a capsule that are still to be passed over

	// Owned by the sending task.
	head [1 + maxVarint + 1]byte // scratch

	// Guarded by the shard's lock.
	receiving bool
	closed    bool
	ended     bool       // the Stream is closed
	timer     task.Timer // of the reset; nil before Close
}

// New returns a Flow on st, which it owns: datagrams are capsules there. Where st is no proxy.Offerer, a bounded queue and a task write for it. What is
// dropped is counted in stats, which may be nil.
func New(s task.Shard, st proxy.Stream, stats *proxy.FlowStats) *Flow {
	f := &Flow{s: s, st: st, offerer: offererOf(s, st), stats: stats}
	f.waiter, _ = st.(proxy.Waiter)
	return f
}

// FlowStats implements proxy.FlowCounter.
func (f *Flow) FlowStats() *proxy.FlowStats { return f.stats }

// CountIn implements proxy.FlowCounter.
func (f *Flow) CountIn(stats *proxy.FlowStats) { f.stats = stats }

// Send implements proxy.Flow.
func (f *Flow) Send(p []byte) error {
	if len(p) > maxDatagram {
		f.stats.Drop(proxy.DropTooLong, 1)
		return proxy.ErrDatagramTooLong
	}
	if f.isClosed() {
		return task.ErrClosed
	}
	h := append(f.head[:0], typeDatagram)
	h = appendVarint(h, uint64(len(p)+1))
	h = append(h, contextUDP)
	ok, err := f.offerer.Offer(h, p)
	if err == nil && !ok {
		f.stats.Drop(proxy.DropNoRoom, 1)
	}
	return err
}

// WaitReadable implements proxy.Waiter.
func (f *Flow) WaitReadable() error {
	if f.waiter == nil || f.isReady() {
		return nil
	}
	return f.waiter.WaitReadable()
}

// isReady reports whether there is something for Receive to look at: bytes that Receive has left are whole capsules, or the beginning of one.
func (f *Flow) isReady() bool {
	f.s.Lock()
	defer f.s.Unlock()
	return f.closed && f.ended || f.buf != nil && f.wholeCapsule()
}

func (f *Flow) wholeCapsule() bool {
	b := f.buf.Unread()
	_, n := varint(b)
	length, m := varint(b[n:])
	return n > 0 && m > 0 && uint64(len(b)-n-m) >= length
}

// Receive implements proxy.Flow. Once Close has been called it waits for the end of the Stream.
func (f *Flow) Receive(p []byte) (int, error) {
	if !f.begin() {
		return 0, task.ErrClosed
	}
	defer f.done()
	for {
		if f.buf != nil {
			n, ok, err := f.next(p)
			switch closed := f.isClosed(); {
			case closed:
				f.release()
			case ok || err != nil:
				return n, f.end(err)
			}
		}
		if err := f.fill(); err != nil {
			return 0, f.end(err)
		}
	}
}

func (f *Flow) isClosed() bool {
	f.s.Lock()
	defer f.s.Unlock()
	return f.closed
}

// begin reports whether there is still something to wait for.
func (f *Flow) begin() bool {
	f.s.Lock()
	defer f.s.Unlock()
	if f.ended {
		return false
	}
	f.receiving = true
	return true
}

func (f *Flow) done() {
	if f.buf != nil && f.buf.R == f.buf.W {
		f.release()
	}
	f.s.Lock()
	f.receiving = false
	drop := f.closed && f.buf != nil
	f.s.Unlock()
	if drop {
		f.release()
	}
}

func (f *Flow) release() {
	if f.buf != nil {
		f.s.Free(f.buf)
		f.buf = nil
	}
}

// end makes what Receive returns of what the Stream said.
func (f *Flow) end(err error) error {
	if err == nil {
		return nil
	}
	f.s.Lock()
	closed := f.closed
	f.s.Unlock()
	if !closed {
		f.Close()
	}
	f.shut()
	if closed {
		return task.ErrClosed
	}
	return err
}

// fill reads more, behind what is unread, and takes a buffer only when there is something.
func (f *Flow) fill() error {
	if f.buf != nil && f.buf.R == f.buf.W {
		f.release()
	}
	if f.waiter != nil {
		if err := f.waiter.WaitReadable(); err != nil {
			return err
		}
	}
	if f.buf == nil {
		f.buf = f.s.Buffer()
		f.buf.R, f.buf.W = 0, 0
	}
	b := f.buf
	b.R, b.W = 0, copy(b.B, b.Unread())
	n, err := f.st.Read(b.Room())
	b.W += n
	switch {
	case n > 0:
		return nil
	case err == io.EOF && (b.W > 0 || f.skip > 0):
		return io.ErrUnexpectedEOF // within a capsule
	}
	return err
}

// next copies the next datagram in the buffer to p. It is false if there is none, or not the whole of it.
func (f *Flow) next(p []byte) (int, bool, error) {
	for {
		b := f.buf
		if f.skip > 0 {
			n := min(f.skip, uint64(b.W-b.R))
			b.R += int(n)
			f.skip -= n
		}
		head := b.Unread()
		typ, n := varint(head)
		length, m := varint(head[n:])
		if n == 0 || m == 0 {
			return 0, false, nil
		}
		switch {
		case typ != typeDatagram: // RFC 9297 section 3.2: "A receiver MUST silently drop any capsule of unknown type"
			b.R += n + m
			f.skip = length
			continue
		case length > maxValue:
			f.lose(n+m, length, proxy.DropTooLong)
			continue
		case length > uint64(len(head)-n-m) && n+m+int(length) <= len(b.B):
			return 0, false, nil // the rest fits in the buffer
		}
		context, k := varint(head[n+m : n+m+min(len(head)-n-m, int(length))])
		switch size := int(length) - k; {
		case k == 0 && len(head)-n-m < min(maxVarint, int(length)):
			return 0, false, nil
		case k == 0 || context != contextUDP:
			f.lose(n+m, length, proxy.DropForeign)
		case size > maxDatagram || size > len(p):
			f.lose(n+m, length, proxy.DropTooLong)
		default:
			b.R += n + m + k
			err := f.payload(p[:size])
			return size, err == nil, err
		}
	}
}

// lose passes over a capsule whose head has n bytes.
func (f *Flow) lose(n int, length uint64, why proxy.Drop) {
	f.buf.R += n
	f.skip = length
	f.stats.Drop(why, 1)
}

// payload fills p, from the buffer and then from the Stream: a datagram may be longer than a buffer.
func (f *Flow) payload(p []byte) error {
	n := copy(p, f.buf.Unread())
	f.buf.R += n
	for n < len(p) {
		m, err := f.st.Read(p[n:])
		n += m
		if m == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// Close implements proxy.Flow: it says that nothing more will come, and gives the other side a few seconds to say the same. An end in order is cheap; a
// reset counts against who sends many.
func (f *Flow) Close() error {
	f.s.Lock()
	if f.closed {
		f.s.Unlock()
		return nil
	}
	f.closed = true
	f.timer = f.s.After(closeTimeout, f.giveUp)
	drop := !f.receiving && f.buf != nil
	f.s.Unlock()
	if drop {
		f.release()
	}
	if q, ok := f.offerer.(*queue); ok {
		q.finish()
		return nil
	}
	_ = f.st.CloseWrite() // an error is one of a Stream that has ended
	return nil
}

// giveUp is a callback.
func (f *Flow) giveUp() {
	f.s.Lock()
	ended := f.ended
	f.ended = true
	f.s.Unlock()
	if !ended {
		_ = f.st.Reset()
	}
}

// shut closes the Stream, of which nothing more will come.
func (f *Flow) shut() {
	f.s.Lock()
	ended, timer := f.ended, f.timer
	f.ended = true
	f.s.Unlock()
	if timer != nil {
		timer.Stop()
	}
	if !ended {
		_ = f.st.Close()
	}
}
