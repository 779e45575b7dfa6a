package datagram

import (
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// maxQueued is how many bytes may wait to be written; more are dropped. A socket's own buffer has about as much.
const maxQueued = 256 << 10

// pusher is a Stream that is a task.Conn, or like one.
type pusher interface {
	Push(p []byte) error
	Queued() int
}

func offererOf(s task.Shard, st proxy.Stream) proxy.Offerer {
	if o, ok := st.(proxy.Offerer); ok {
		return o
	}
	if p, ok := st.(pusher); ok {
		return &pushing{s, p}
	}
	q := &queue{s: s, st: st}
	q.writer = q.write
	return q
}

// pushing offers to a connection.
type pushing struct {
	s task.Shard
	c pusher
}

func (o *pushing) Offer(head, body []byte) (bool, error) {
	if o.c.Queued()+len(head)+len(body) > maxQueued {
		return false, nil
	}
	b := o.s.Buffer()
	defer o.s.Free(b)
	if len(head)+len(body) > len(b.B) {
		if err := o.c.Push(head); err != nil {
			return false, err
		}
		return true, o.c.Push(body)
	}
	n := copy(b.B, head)
	n += copy(b.B[n:], body)
	return true, o.c.Push(b.B[:n])
}

// queue offers to a Stream that can only wait: a task writes what has come meanwhile.
type queue struct {
	// Static after construction.
	s      task.Shard
	st     proxy.Stream
	writer func()

	// Guarded by the shard's lock.
	bytes    []byte
	spare    []byte
	writing  bool
	finished bool
	err      error
}

func (q *queue) Offer(head, body []byte) (bool, error) {
	q.s.Lock()
	defer q.s.Unlock()
	switch {
	case q.err != nil:
		return false, q.err
	case q.finished:
		return false, task.ErrClosed
	case len(q.bytes)+len(head)+len(body) > maxQueued:
		return false, nil
	}
	q.bytes = append(append(q.bytes, head...), body...)
	q.start()
	return true, nil
}

// finish ends the Stream's sending side behind what waits.
func (q *queue) finish() {
	q.s.Lock()
	defer q.s.Unlock()
	q.finished = true
	q.start()
}

// start is called with the lock held.
func (q *queue) start() {
	if !q.writing {
		q.writing = true
		q.s.Go(q.writer)
	}
}

// write is the task.
func (q *queue) write() {
	for {
		q.s.Lock()
		p := q.bytes
		if len(p) == 0 || q.err != nil {
			q.writing = false
			q.bytes, q.spare = nil, nil
			last := q.finished && q.err == nil
			q.s.Unlock()
			if last {
				_ = q.st.CloseWrite()
			}
			return
		}
		q.bytes, q.spare = q.spare[:0], nil
		q.s.Unlock()
		_, err := q.st.Write(p)
		q.s.Lock()
		q.spare = p
		if err != nil && q.err == nil {
			q.err = err
		}
		q.s.Unlock()
	}
}
