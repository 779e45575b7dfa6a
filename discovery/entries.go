package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Entries are what a registry holds for one Service, by its own keys. An entry that is wrong stays as it was when it was last right: a
// mistake in one is no reason to lose it, still less the others. The zero value is ready.
type Entries struct {
	good   map[string]proxy.Endpoint
	wrong  map[string]error
	sender Sender
	filled bool      // the last set that was passed on had an Endpoint
	doubt  time.Time // until when none at all is not believed
}

// grace is how long after a failure of its source the news that a Service has no Endpoints is not believed: servers that have lost their state hear of it
// again from those who run there, in about the time that a registration lasts.
const grace = 30 * time.Second

// Put notes what entry key says; err is why that cannot be used.
func (e *Entries) Put(key string, ep proxy.Endpoint, err error) {
	if e.good == nil {
		e.good, e.wrong = make(map[string]proxy.Endpoint), make(map[string]error)
	}
	if err != nil {
		e.wrong[key] = err
		return
	}
	e.good[key] = ep
	delete(e.wrong, key)
}

// Delete forgets entry key, and reports whether it was there.
func (e *Entries) Delete(key string) bool {
	_, good := e.good[key]
	_, wrong := e.wrong[key]
	delete(e.good, key)
	delete(e.wrong, key)
	return good || wrong
}

// Retain forgets the entries for which keep is false.
func (e *Entries) Retain(keep func(key string) bool) {
	gone := func(key string) bool { return !keep(key) }
	maps.DeleteFunc(e.good, func(key string, _ proxy.Endpoint) bool { return gone(key) })
	maps.DeleteFunc(e.wrong, func(key string, _ error) bool { return gone(key) })
}

// Flawed reports whether an entry is wrong.
func (e *Entries) Flawed() bool { return len(e.wrong) > 0 }

// Len is how many entries can be used.
func (e *Entries) Len() int { return len(e.good) }

// Doubt is for a failure of the source, of any kind: until half a minute after it, the set that was there stays rather than becoming empty.
func (e *Entries) Doubt() { e.doubt = time.Now().Add(grace) }

// Publish passes the set on if it is new, and says what is wrong. Where nothing can be used and something is wrong, the set that was there stays.
// After a Doubt it stays too where there is nothing, for as long as Publish returns: the caller calls it again then. Otherwise that is 0.
func (e *Entries) Publish(ctx context.Context, update func([]proxy.Endpoint)) time.Duration {
	flaw, left := e.flaw(), time.Until(e.doubt)
	switch {
	case len(e.good) > 0:
	case flaw != nil:
		Report(ctx, flaw)
		return 0
	case e.filled && left > 0:
		Report(ctx, fmt.Errorf("the source knows no endpoints any more since it failed; believed in %v", left.Round(time.Second)))
		return left
	}
	Report(ctx, nil)
	Flaw(ctx, flaw)
	set := make([]proxy.Endpoint, 0, len(e.good))
	for _, key := range slices.Sorted(maps.Keys(e.good)) { // in order, as of two with one address the first counts
		set = append(set, e.good[key])
	}
	e.filled = len(set) > 0
	e.sender.Send(set, update)
	return 0
}

// flaw describes the first entry that is wrong, in the order of their keys, and tells how many more there are.
func (e *Entries) flaw() error {
	if len(e.wrong) == 0 {
		return nil
	}
	first := slices.Min(slices.Collect(maps.Keys(e.wrong)))
	if n := len(e.wrong) - 1; n > 0 {
		return fmt.Errorf("entry %s: %w (and %d more)", clip(first), e.wrong[first], n)
	}
	return fmt.Errorf("entry %s: %w", clip(first), e.wrong[first])
}
