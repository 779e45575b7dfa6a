package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/pillion-proxy/pillion/proxy"
)

// Entries are what a registry holds for one Service, by its own keys. An entry that is wrong stays as it was when it was last right: a
// mistake in one is no reason to lose it, still less the others. The zero value is ready.
type Entries struct {
	good   map[string]proxy.Endpoint
	wrong  map[string]error
	sender Sender
}

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

// Delete forgets entry key.
func (e *Entries) Delete(key string) {
	delete(e.good, key)
	delete(e.wrong, key)
}

// Retain forgets the entries for which keep is false.
func (e *Entries) Retain(keep func(key string) bool) {
	gone := func(key string) bool { return !keep(key) }
	maps.DeleteFunc(e.good, func(key string, _ proxy.Endpoint) bool { return gone(key) })
	maps.DeleteFunc(e.wrong, func(key string, _ error) bool { return gone(key) })
}

// Len is how many entries can be used.
func (e *Entries) Len() int { return len(e.good) }

// Publish passes the set on if it is new, and says what is wrong. Where nothing can be used and something is wrong, the set that was there stays.
func (e *Entries) Publish(ctx context.Context, update func([]proxy.Endpoint)) {
	flaw := e.flaw()
	if len(e.good) == 0 && flaw != nil {
		Report(ctx, flaw)
		return
	}
	Report(ctx, nil)
	Flaw(ctx, flaw)
	set := make([]proxy.Endpoint, 0, len(e.good))
	for _, key := range slices.Sorted(maps.Keys(e.good)) { // in order, as of two with one address the first counts
		set = append(set, e.good[key])
	}
	e.sender.Send(set, update)
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
