package discovery

import (
	"context"

	"github.com/pillion-proxy/pillion/proxy"
)

// Resolver is a source of Endpoints.
type Resolver interface {
	// Watch calls update with the whole set of Endpoints that serve service, as soon as it is known and then at each
	// change: never the same set twice in a row, one call at a time, and none once Watch has returned. An empty set means
	// that there certainly are none; while a source cannot tell, it keeps silent and says why by Report. Watch blocks until ctx ends and
	// returns its error; whatever else it returns is a failure, after which it may be called again.
	Watch(ctx context.Context, service proxy.Service, update func([]proxy.Endpoint)) error
}

// Subscriber is a Resolver that needs no goroutine for each Service: what it has serves them all.
type Subscriber interface {
	// Subscribe does what Watch does, and returns at once. It goes on until stop, which returns once update is called no more. Of ctx only what Report and
	// Flaw find counts.
	Subscribe(ctx context.Context, service proxy.Service, update func([]proxy.Endpoint)) (stop func())
}

// Fixed is a Resolver whose answer is known beforehand and never changes. A Watcher has it from the start, and needs no goroutine for it.
type Fixed interface {
	Endpoints() []proxy.Endpoint
}

type (
	reportKey struct{}
	flawKey   struct{}
)

// WithReport returns a context for Watch from which Report finds f.
func WithReport(ctx context.Context, f func(err error)) context.Context {
	return context.WithValue(ctx, reportKey{}, f)
}

// Report tells whoever started the Watch of ctx about a failure that the source survives, so that it can be shown; nil
// says that it is over.
func Report(ctx context.Context, err error) {
	if f, ok := ctx.Value(reportKey{}).(func(error)); ok {
		f(err)
	}
}

// WithFlaw returns a context for Watch from which Flaw finds f.
func WithFlaw(ctx context.Context, f func(err error)) context.Context {
	return context.WithValue(ctx, flawKey{}, f)
}

// Flaw tells whoever started the Watch of ctx what is wrong with a part of the source, while the rest is followed; nil says that it is over.
func Flaw(ctx context.Context, err error) {
	if f, ok := ctx.Value(flawKey{}).(func(error)); ok {
		f(err)
	}
}
