package mtls

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Run keeps the certificate fresh, and warns of its expiry, until ctx ends; it returns nil then. A new
// certificate, key and roots are taken only when all three fit together; until then the old ones stay.
func (s *Source) Run(ctx context.Context) error {
	k := keeper{Source: s, offered: s.current.Load().pem}
	for {
		wait := k.step(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// keeper is what Run remembers between two looks.
type keeper struct {
	*Source
	offered  Material  // what the files held when last looked at
	logged   bool      // the fault of offered has been logged
	failures int       // of the issuer, in a row
	retry    time.Time // when to ask the issuer again after a failure
	warned   warning   // which warning was given of the current certificate
}

// warning is how far the current certificate has come: fresh → soon → gone. A new certificate is fresh.
type warning int

const (
	fresh warning = iota // nothing to say
	soon                 // past warnAt
	gone                 // expired
)

// step looks once and says when to look again.
func (k *keeper) step(ctx context.Context) time.Duration {
	wait := k.conf.Poll
	switch {
	case k.files:
		k.look()
	case k.issue != nil:
		wait = k.renew(ctx)
	default:
		wait = time.Minute
	}
	k.warn()
	return wait
}

// look reads the files and takes what is new. A fault is logged once, and only if it is still there at the next
// look: three files are not replaced in one instant.
func (k *keeper) look() {
	p, err := k.read()
	if err == nil && p.equal(k.current.Load().pem) {
		k.settle(nil)
		k.offered, k.logged = p, false
		return
	}
	if err == nil {
		err = k.take(p)
	}
	k.settle(err)
	if err == nil {
		k.offered, k.logged = p, false
		return
	}
	if !p.equal(k.offered) {
		k.offered, k.logged = p, false
		return
	}
	if !k.logged {
		k.logged = true
		k.conf.Logger.Error("new certificate not used, the old one stays", "err", err, "old_expires", stamp(k.current.Load().leaf.NotAfter))
	}
}

// renew asks the issuer when two thirds of the lifetime are over.
func (k *keeper) renew(ctx context.Context) time.Duration {
	const longest = time.Minute // so that a change of the clock is noticed
	now := k.now()
	if at := k.current.Load().renewAt(); now.Before(at) {
		return min(at.Sub(now), longest)
	}
	if now.Before(k.retry) {
		return min(k.retry.Sub(now), longest)
	}
	p, err := k.issue(ctx)
	if err == nil {
		err = k.take(p)
	}
	if ctx.Err() != nil {
		return longest
	}
	k.settle(err)
	if err == nil {
		k.failures = 0
		return time.Millisecond
	}
	k.conf.Logger.Error("certificate not renewed", "err", err, "expires", stamp(k.current.Load().leaf.NotAfter))
	backoff := min(time.Second<<min(k.failures, 6), longest)
	backoff += rand.N(backoff / 4)
	k.failures++
	k.retry = now.Add(backoff)
	return min(backoff, longest)
}

// renewAt is two thirds through the lifetime.
func (m *material) renewAt() time.Time {
	return m.leaf.NotBefore.Add(m.leaf.NotAfter.Sub(m.leaf.NotBefore) * 2 / 3)
}

// take makes p the current certificate if it is consistent.
func (k *keeper) take(p Material) error {
	old := k.current.Load()
	m, err := parse(p, k.conf.TrustDomain, k.now())
	if err != nil {
		return err
	}
	if m.identity != old.identity {
		return fmt.Errorf("%s instead of %s: %w", m.identity, old.identity, errChangedIdentity)
	}
	k.current.Store(m)
	k.warned = fresh
	k.conf.Logger.Info("certificate replaced", "identity", string(m.identity), "serial", serial(m.leaf), "expires", stamp(m.leaf.NotAfter))
	return nil
}

// settle records how the last attempt went, for Status.
func (k *keeper) settle(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && (k.lastErr == nil || k.lastErr.Error() != err.Error()) {
		k.errAt = k.now()
	}
	k.lastErr = err
}

// warn logs when the end comes near, and when it has come; each once.
func (k *keeper) warn() {
	m := k.current.Load()
	now := k.now()
	left := slog.Duration("left", m.leaf.NotAfter.Sub(now).Round(time.Second))
	switch {
	case now.After(m.leaf.NotAfter):
		if k.warned < gone {
			k.warned = gone
			k.conf.Logger.Error("our certificate has expired: peers refuse us", "identity", string(m.identity), "expires", stamp(m.leaf.NotAfter))
		}
	case !now.Before(m.warnAt()):
		if k.warned < soon {
			k.warned = soon
			k.conf.Logger.Warn("our certificate expires soon", "identity", string(m.identity), "expires", stamp(m.leaf.NotAfter), left)
		}
	}
}
