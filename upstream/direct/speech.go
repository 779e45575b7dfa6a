package direct

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// How long an app that did not answer as HTTP/2 is called with HTTP/1.1 only: it may have been starting.
const http1For = 30 * time.Second

// What an app was heard to speak.
const (
	overHTTP1 = 1 << iota
	overHTTP2
)

// speech is what the app at one address speaks, for all shards. What is found out is a guess that the next call may correct: the app
// may have become another one.
type speech struct {
	spoke atomic.Uint32 // the bits above
	only2 atomic.Bool   // it answered HTTP/1.1 with HTTP/2
	only1 atomic.Int64  // until that task.Instant it is taken for one that speaks HTTP/1.1 only; 0 if it was never seen to
	probe atomic.Int64  // the task.Instant from which mayProbe
}

// heard notes that an Exchange was answered.
func (s *speech) heard(bit uint32) {
	if s.spoke.Load()&bit == 0 {
		s.spoke.Or(bit)
	}
}

// noHTTP1 notes that the app answered HTTP/1.1 with HTTP/2.
func (s *speech) noHTTP1() {
	s.only2.Store(true)
	s.only1.Store(0)
	s.spoke.Store(overHTTP2)
}

// noHTTP2 notes that the app accepted a connection and did not speak HTTP/2 on it.
func (s *speech) noHTTP2(now task.Instant) {
	s.only2.Store(false)
	s.only1.Store(int64(now.Add(http1For)))
	s.spoke.And(^uint32(overHTTP2))
}

// probeEvery is how often an app that closes connections without a word is tried with HTTP/2.
const probeEvery = time.Second

// mayProbe says yes at most once per probeEvery.
func (s *speech) mayProbe(now task.Instant) bool {
	at := s.probe.Load()
	return task.Instant(at) <= now && s.probe.CompareAndSwap(at, int64(now.Add(probeEvery)))
}

// unknown reports whether the app has never answered, in either way.
func (s *speech) unknown() bool { return s.spoke.Load() == 0 && s.only1.Load() == 0 }

func (s *speech) onlyHTTP2() bool { return s.only2.Load() }

// refusesHTTP2 reports whether the app has been seen, lately, not to speak HTTP/2.
func (s *speech) refusesHTTP2(now task.Instant) bool { return task.Instant(s.only1.Load()) > now }

// String names what was spoken, "" if nothing was.
func (s *speech) String() string {
	switch s.spoke.Load() {
	case overHTTP1:
		return "http1"
	case overHTTP2:
		return "h2c"
	case overHTTP1 | overHTTP2:
		return "http1, h2c"
	}
	return ""
}

// speeches remembers maxTargets apps, those that were called last.
type speeches struct {
	mu  sync.Mutex
	lru *simplelru.LRU[key, *speech]
}

func newSpeeches() *speeches {
	lru, err := simplelru.NewLRU[key, *speech](4*maxTargets, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &speeches{lru: lru}
}

func (all *speeches) of(k key) *speech {
	all.mu.Lock()
	defer all.mu.Unlock()
	s, ok := all.lru.Get(k)
	if !ok {
		s = new(speech)
		all.lru.Add(k, s)
	}
	return s
}
