package direct

import (
	"errors"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// maxReplay is how much of a content is kept, in bytes, while it is not known what the app speaks. Once more was read it is sent only once.
const maxReplay = 64 << 10

var errRewound = errors.New("the content is read by another attempt")

// replay keeps what the first attempt reads of a content, so that a second one can begin at its beginning: for a request that the
// app cannot have understood. The first attempt's sender may still be waiting for content then; what comes goes to the second.
type replay struct {
	s    task.Shard
	body proxy.Body

	// Guarded by the shard's lock.
	kept    []byte
	err     error     // how body ended, once it has
	lost    bool      // more than maxReplay was read
	rewound bool      // the first attempt is over
	reading bool      // the first attempt waits in body.Read
	gate    task.Gate // where the second one waits for that
}

func newReplay(s task.Shard, body proxy.Body) *replay {
	r := &replay{s: s, body: body}
	s.Gate(&r.gate)
	return r
}

// rewind ends the first attempt, and returns what the second one sends, or nil where the beginning was not kept.
func (r *replay) rewind() proxy.Body {
	r.s.Lock()
	defer r.s.Unlock()
	r.rewound = true
	if r.lost {
		return nil
	}
	return &replayed{r: r}
}

// Read implements proxy.Body for the first attempt.
func (r *replay) Read(p []byte) (int, error) {
	if !r.begin() {
		return 0, errRewound
	}
	n, err := r.body.Read(p)
	if !r.keep(p[:n], err) {
		return 0, errRewound
	}
	return n, err
}

// begin reports whether the first attempt may read.
func (r *replay) begin() bool {
	r.s.Lock()
	defer r.s.Unlock()
	r.reading = !r.rewound
	return r.reading
}

// keep notes what was read, and reports whether it is for the first attempt.
func (r *replay) keep(p []byte, err error) bool {
	r.s.Lock()
	defer r.s.Unlock()
	r.reading, r.err = false, err
	if r.rewound {
		r.gate.Wake()
	} else if len(r.kept)+len(p) > maxReplay {
		r.lost, r.kept = true, nil
	}
	if !r.lost {
		r.kept = append(r.kept, p...)
	}
	return !r.rewound
}

// Buffered implements proxy.Body.
func (r *replay) Buffered() int {
	r.s.Lock()
	over := r.rewound
	r.s.Unlock()
	if over {
		return 0
	}
	return r.body.Buffered()
}

// Trailers implements proxy.Body.
func (r *replay) Trailers() proxy.Fields { return r.body.Trailers() }

// Close implements proxy.Body. It does nothing once another attempt reads.
func (r *replay) Close() error {
	r.s.Lock()
	over := r.rewound
	r.s.Unlock()
	if over {
		return nil
	}
	return r.body.Close()
}

// replayed is the content from its beginning.
type replayed struct {
	r  *replay
	at int // of r.kept; guarded by the shard's lock
}

// Read implements proxy.Body.
func (b *replayed) Read(p []byte) (int, error) {
	for {
		n, wait, err := b.again(p)
		switch {
		case n > 0 || err != nil:
			return n, err
		case !wait:
			return b.r.body.Read(p)
		}
		b.r.gate.Wait(0)
	}
}

// again returns what was kept, or how the content ended; wait says that the first attempt still waits for more.
func (b *replayed) again(p []byte) (n int, wait bool, err error) {
	r := b.r
	r.s.Lock()
	defer r.s.Unlock()
	if n = copy(p, r.kept[b.at:]); n > 0 {
		b.at += n
		return n, false, nil
	}
	return 0, r.reading, r.err
}

// Buffered implements proxy.Body.
func (b *replayed) Buffered() int {
	b.r.s.Lock()
	left, reading, err := len(b.r.kept)-b.at, b.r.reading, b.r.err
	b.r.s.Unlock()
	switch {
	case left == 0 && err != nil:
		return -1
	case reading || err != nil:
		return left
	case left > 0:
		return left + max(0, b.r.body.Buffered())
	}
	return b.r.body.Buffered()
}

// Trailers implements proxy.Body.
func (b *replayed) Trailers() proxy.Fields { return b.r.body.Trailers() }

// Close implements proxy.Body.
func (b *replayed) Close() error { return b.r.body.Close() }
