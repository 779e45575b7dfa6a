package xds

import (
	"slices"
	"time"
)

// store are the resources of one type.
type store[T any] struct {
	kind string
	all  map[string]*entryOf[T]
	// Of the present stream.
	asked   []string // the names subscribed to, in order
	first   bool     // no response was taken yet
	nonce   string   // state of the world: of the last response
	version string   // state of the world: that was last taken, on this stream or one before
}

// entryOf is one resource.
//
//	asked ──a good one──▶ there ──removed, or missing from a whole──▶ gone
//	                        │  ▲                                       ▲
//	                        ▼  │                    after Config.Grace │
//	                      doubtful: see remove ────────────────────────┘
type entryOf[T any] struct {
	value    T
	state    state
	version  string // delta
	refused  error  // why the last one was not taken
	asked    time.Time
	doubtful time.Time // since when; zero if it is not
}

type state int

const (
	asked state = iota
	there
	gone
)

// restart forgets what was said on the last stream; the resources stay.
func (st *store[T]) restart() { st.asked, st.first, st.nonce = nil, true, "" }

func (st *store[T]) knows(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return st.all[name].state != there })
}

func (st *store[T]) versions() map[string]string {
	have := make(map[string]string)
	for name, e := range st.all {
		if e.state == there && e.version != "" {
			have[name] = e.version
		}
	}
	return have
}

// remove notes that the server does not have the resource. It may be doubtful: what it had before a reconnect it may not have loaded yet, and an assignment
// that goes before its cluster does, or before that names another, is one of two halves of a change.
func (e *entryOf[T]) remove(doubtful bool) {
	switch {
	case e.state == there && doubtful:
		if e.doubtful.IsZero() {
			e.doubtful = time.Now()
		}
	case e.doubtful.IsZero():
		e.state, e.version = gone, ""
	}
}

func expire[T any](st *store[T], grace time.Duration) {
	for _, e := range st.all {
		if !e.doubtful.IsZero() && time.Since(e.doubtful) >= grace {
			e.state, e.version, e.doubtful = gone, "", time.Time{}
		}
	}
}

// look says what is doubtful about a resource.
func look[T any](e *entryOf[T], patience time.Duration) error {
	switch {
	case e.refused != nil:
		return e.refused
	case !e.doubtful.IsZero():
		return errMissing
	case e.state == asked && !e.asked.IsZero() && time.Since(e.asked) > patience:
		return errSilent
	}
	return nil
}
