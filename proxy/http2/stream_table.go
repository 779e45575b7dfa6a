package http2

import "iter"

// streamTable finds the streams of a connection by their ids, which grow by two: most are where the id says, modulo a power of two. Those that
// live on while others come and go are in a map.
type streamTable struct {
	ring  []*stream
	rest  map[uint32]*stream
	count int
}

const minRing = 8 // places

func (t *streamTable) len() int { return t.count }

// place is where id is in the ring. The ids of one connection are all odd, or all even.
func (t *streamTable) place(id uint32) **stream { return &t.ring[id>>1&uint32(len(t.ring)-1)] }

// get returns the stream with this id, or nil.
func (t *streamTable) get(id uint32) *stream {
	if len(t.ring) == 0 {
		return nil
	}
	if st := *t.place(id); st != nil && st.id == id {
		return st
	}
	if len(t.rest) == 0 {
		return nil
	}
	return t.rest[id]
}

// put adds st, whose id is new.
func (t *streamTable) put(st *stream) {
	if t.count >= len(t.ring)/2 {
		t.grow()
	}
	t.count++
	at := t.place(st.id)
	if old := *at; old != nil {
		if t.rest == nil {
			t.rest = make(map[uint32]*stream)
		}
		t.rest[old.id] = old
	}
	*at = st
}

// remove takes the stream with this id out, if it is there.
func (t *streamTable) remove(id uint32) {
	if len(t.ring) == 0 {
		return
	}
	if at := t.place(id); *at != nil && (*at).id == id {
		*at = nil
		t.count--
		return
	}
	if _, ok := t.rest[id]; ok {
		delete(t.rest, id)
		t.count--
	}
}

// grow makes the ring large enough for twice as many. What has been crowded out of it stays where it is.
func (t *streamTable) grow() {
	old := t.ring
	t.ring = make([]*stream, max(minRing, 2*len(old)))
	for _, st := range old {
		if st != nil {
			*t.place(st.id) = st
		}
	}
}

// all yields every stream. The one that was yielded may be removed meanwhile.
func (t *streamTable) all() iter.Seq[*stream] {
	return func(yield func(*stream) bool) {
		for _, st := range t.ring {
			if st != nil && !yield(st) {
				return
			}
		}
		for _, st := range t.rest {
			if !yield(st) {
				return
			}
		}
	}
}
