package udp

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// table is the Flows of a port by the address of the client. It is guarded by the shard's lock.
type table struct {
	flows map[task.Route]*flow
	live  lru // Flows that may be used again
	done  lru // Flows that are not expected to be
}

// lru is a list of Flows, the most recently used first.
type lru struct {
	idle       time.Duration // after which its Flows end
	head, tail *flow
}

func (l *lru) push(f *flow) {
	f.in, f.prev, f.next = l, nil, l.head
	if l.head != nil {
		l.head.prev = f
	} else {
		l.tail = f
	}
	l.head = f
}

func (l *lru) remove(f *flow) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.tail = f.prev
	}
	f.in, f.prev, f.next = nil, nil, nil
}

// add takes a new Flow in.
func (t *table) add(f *flow, now task.Instant) {
	t.flows[f.client] = f
	f.last = now
	t.live.push(f)
}

// touch notes that f has been used.
func (t *table) touch(f *flow, now task.Instant) {
	if f.in == nil { // it has ended meanwhile
		return
	}
	f.last = now
	to := &t.live
	if f.talk.done() {
		to = &t.done
	}
	if to.head != f {
		f.in.remove(f)
		to.push(f)
	}
}

// remove forgets f, and reports whether it was known.
func (t *table) remove(f *flow) bool {
	if f.in == nil {
		return false
	}
	f.in.remove(f)
	delete(t.flows, f.client)
	return true
}

// oldest is the Flow that can be missed most easily; nil if there is none.
func (t *table) oldest() *flow {
	if t.done.tail != nil {
		return t.done.tail
	}
	return t.live.tail
}

// expired returns a Flow whose time is over, or nil.
func (t *table) expired(now task.Instant) *flow {
	for _, l := range []*lru{&t.done, &t.live} {
		if f := l.tail; f != nil && now.Sub(f.last) >= l.idle {
			return f
		}
	}
	return nil
}
