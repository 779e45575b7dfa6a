package etcd

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// sub is one Watch. A session lists its keys, if nothing is known yet or what is known is of no use any more, and then watches them.
type sub struct {
	*Resolver
	ctx    context.Context // of the Watch, for discovery.Report
	update func([]proxy.Endpoint)

	// Owned by the session.
	watch   int64     // the number of its watch, 0 without
	retryAt time.Time // when to list again, after a failure of this sub alone, or with an entry that is wrong
	// doubtful is the pause before that because of an entry; it doubles.
	doubtful time.Duration
	cluster  int64
	rev      int64 // what is known is as of this revision; 0: unread
	suspect  bool  // what is known may be wrong: it is read again, though a watch could go on
	dirty    bool
	heldTo   time.Time // when to publish again, because an empty set was doubted

	mu      sync.Mutex // guards what follows
	left    bool       // the Watch has returned
	entries discovery.Entries
}

// leave makes sure that update is not called any more.
func (s *sub) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
}

// fail tells why nothing can be told.
func (s *sub) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.left {
		discovery.Report(s.ctx, err)
	}
}

// publish passes the set on.
func (s *sub) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty, s.heldTo = false, time.Time{}
	if s.left {
		return
	}
	if held := s.entries.Publish(s.ctx, s.update); held > 0 {
		s.heldTo = time.Now().Add(held)
	}
	switch {
	case !s.entries.Flawed():
		s.doubtful = 0
	case s.retryAt.IsZero(): // perhaps it was only hurt on its way
		s.doubtful = min(max(2*s.doubtful, again), time.Minute)
		s.retryAt = time.Now().Add(s.doubtful)
	}
}

// load takes all that there is.
func (s *sub) load(l listing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rev > l.header.revision || s.cluster != 0 && s.cluster != l.header.cluster {
		s.entries.Doubt() // it is not the cluster that it was
	}
	s.rev, s.cluster, s.suspect = l.header.revision, l.header.cluster, false
	there := make(map[string]bool, len(l.pairs))
	for _, p := range l.pairs {
		there[s.name(p.key)] = true
		s.put(p)
	}
	s.entries.Retain(func(key string) bool { return there[key] })
	s.dirty = true
}

// apply takes what has changed.
func (s *sub) apply(h happened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range h.events {
		if e.deleted {
			if !s.entries.Delete(s.name(e.key)) {
				s.suspect = true // this key was hurt on its way, or that under which it came
			}
		} else {
			s.put(e.pair)
		}
		s.rev = max(s.rev, e.revision)
	}
	s.dirty = s.dirty || len(h.events) > 0
}

func (s *sub) put(p pair) {
	e, err := parseValue(p.value, s.defaults)
	if !utf8.Valid(p.key) { // where it was hurt on its way, nothing will delete this entry
		err = errors.New("the key is no text")
	}
	s.entries.Put(s.name(p.key), e, err)
}

// asked reports whether a key is one of those that were asked for.
func (s *sub) asked(p pair) bool { return bytes.HasPrefix(p.key, s.begin) }

func (s *sub) name(key []byte) string { return strings.TrimPrefix(string(key), string(s.begin)) }
