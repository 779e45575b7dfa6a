package discovery

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Registration is what a sidecar says of itself.
type Registration struct {
	// Service is what others look for, and ID this instance of it.
	Service, ID string
	// Addr is where its peers connect. Without an IP it is that of the machine, as the registry knows it.
	Addr      netip.AddrPort
	Identity  proxy.Identity
	Transport proxy.Transport
	Zone      string
	Weight    int
	Ports     []uint16 // of the app
	Tags      []string
	Labels    map[string]string // for Endpoint.Labels
	// TTL is how long the entry lasts unless it is renewed.
	TTL time.Duration
}

// Registry is where a sidecar can be entered.
type Registry interface {
	// Enter makes or renews the entry. unfit is why the instance should not be called at present, nil if it should. It is called again and again, and
	// finds out by itself whether the registry has lost the entry.
	Enter(ctx context.Context, r *Registration, unfit error) error
	// Leave takes the entry out.
	Leave(ctx context.Context, r *Registration) error
}

// RegistrarConfig says who is entered where.
type RegistrarConfig struct {
	Registry     Registry
	Registration Registration
	// Fit says why the instance should not be called at present, or returns nil. If nil, it always should.
	Fit func(ctx context.Context) error
	// Logger hears of failures. If nil, nothing is logged.
	Logger *slog.Logger
}

// Registrar keeps one entry alive.
type Registrar struct {
	conf RegistrarConfig

	mu     sync.Mutex // guards what follows
	status RegistrarStatus
}

// RegistrarStatus is how the entry is.
type RegistrarStatus struct {
	Entered bool      // it was made, and not taken out
	Renewed time.Time // when it last was
	Unfit   error     // why the instance is said not to be called
	Err     error     // why the registry could not be told, nil if it could
}

// NewRegistrar returns one that Run starts.
func NewRegistrar(c RegistrarConfig) *Registrar {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Fit == nil {
		c.Fit = func(context.Context) error { return nil }
	}
	return &Registrar{conf: c}
}

// Status is a snapshot.
func (r *Registrar) Status() RegistrarStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

const (
	soon      = time.Second     // the pause after a failure, and while the instance is unfit
	goodbye   = 2 * time.Second // what taking the entry out may take
	renewals  = 3               // in a TTL
	enterTime = 5 * time.Second // what one renewal may take
)

// Run keeps the entry until ctx ends; then it takes it out, which may take two seconds, and returns nil.
func (r *Registrar) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		pause := r.conf.Registration.TTL / renewals
		if !r.renew(ctx) {
			pause = min(pause, soon)
		}
		Sleep(ctx, pause)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	err := r.conf.Registry.Leave(ctx, &r.conf.Registration)
	if err != nil {
		r.conf.Logger.Warn("the entry could not be taken out of the registry; it lapses", "after", r.conf.Registration.TTL.String(), "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = RegistrarStatus{Err: err}
	return nil
}

// renew reports whether all is well.
func (r *Registrar) renew(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, enterTime)
	defer cancel()
	unfit := r.conf.Fit(ctx)
	err := r.conf.Registry.Enter(ctx, &r.conf.Registration, unfit)
	r.mu.Lock()
	before := r.status
	r.status.Unfit, r.status.Err = unfit, err
	if err == nil {
		r.status.Entered, r.status.Renewed = true, time.Now()
	}
	r.mu.Unlock()
	switch log := r.conf.Logger; {
	case ctx.Err() != nil && err != nil:
	case err != nil && (before.Err == nil || before.Err.Error() != err.Error()):
		log.Warn("this sidecar cannot be entered in the registry", "err", err)
	case err == nil && (!before.Entered || before.Err != nil):
		log.Info("entered in the registry", "service", r.conf.Registration.Service, "id", r.conf.Registration.ID)
	}
	if (unfit == nil) != (before.Unfit == nil) && unfit != nil {
		r.conf.Logger.Warn("the registry is told not to send anybody here", "why", unfit)
	}
	return err == nil && unfit == nil
}
