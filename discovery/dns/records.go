package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/discovery/dns/resolvconf"
	"github.com/pillion-proxy/pillion/proxy"
)

const (
	maxAliases = 8  // of SVCB in a row
	maxAsking  = 16 // hosts whose addresses are asked for at a time
)

// recordsWatch is what is remembered of SRV or SVCB records between two lookups.
type recordsWatch struct {
	watch
	known   bool // there was an answer
	none    absence
	records []record           // of the last good answer
	targets map[string]*target // of records
}

// listing is what one lookup of the records, and then of their hosts, found.
type listing struct {
	found
	hosts map[string]result
}

// records returns the function that looks the records up once, and says when to do so again.
func (r *Resolver) records(update func([]proxy.Endpoint)) func(ctx context.Context) (time.Duration, error) {
	w := recordsWatch{watch: watch{Resolver: r, update: update}, targets: make(map[string]*target)}
	return func(ctx context.Context) (time.Duration, error) {
		l := r.list(ctx)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return w.take(l, time.Now()), l.problem()
	}
}

// list asks for the records, and for the addresses of the hosts they name.
func (r *Resolver) list(ctx context.Context) listing {
	rc := r.resolvConf()
	var l listing
	for _, name := range candidates(rc, r.conf.Name) {
		if l.found = r.lookupRecords(ctx, rc, name); !l.none() {
			break // found, or nobody could tell
		}
	}
	l.hosts = r.lookupTargets(ctx, rc, l.records)
	return l
}

// lookupRecords follows SVCB's own aliases, which are records too: RFC 9460 section 2.4.2.
func (r *Resolver) lookupRecords(ctx context.Context, rc resolvconf.Conf, name string) found {
	if r.conf.Kind == SRV {
		return r.lookupType(ctx, rc, name, dnsmessage.TypeSRV)
	}
	first := strings.TrimSuffix(name, ".")
	ttl := time.Duration(-1)
	for range maxAliases {
		f := r.lookupType(ctx, rc, name, dnsmessage.TypeSVCB)
		if f.name = first; ttl >= 0 {
			f.ttl = min(f.ttl, ttl)
		}
		if f.err != nil || !f.records[0].alias {
			return f
		}
		if name, ttl = f.records[0].target, f.ttl; name == "." {
			return f // "the service is not available or does not exist": RFC 9460 section 2.5.1
		}
	}
	return found{name: first, err: errors.New("its aliases lead to no end")}
}

// lookupTargets asks for the addresses of each host once.
func (r *Resolver) lookupTargets(ctx context.Context, rc resolvconf.Conf, records []record) map[string]result {
	var names []string
	for _, rec := range records {
		if rec.target != "." && !rec.alias && !slices.Contains(names, rec.target) {
			names = append(names, rec.target)
		}
	}
	results := make([]result, len(names))
	var asking sync.WaitGroup
	slots := make(chan struct{}, maxAsking)
	for i, name := range names {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			results[i] = r.lookupName(ctx, rc, name)
		})
	}
	asking.Wait()
	all := make(map[string]result, len(names))
	for i, name := range names {
		all[name] = results[i]
	}
	return all
}

// problem describes what failed, nil if all is well.
func (l *listing) problem() error {
	if l.err != nil {
		return fmt.Errorf("resolve %s: %w", l.name, l.err)
	}
	for _, rec := range l.records {
		if h, ok := l.hosts[rec.target]; ok && h.err() != nil {
			return h.err()
		}
	}
	return nil
}

// unavailable reports whether the records say that there is no service: RFC 2782, "A Target of "." means that the service is
// decidedly not available at this domain."
func (l *listing) unavailable() bool {
	return len(l.records) > 0 && l.records[0].target == "."
}

// take draws the consequences of a lookup and says how long to wait for the next.
func (w *recordsWatch) take(l listing, now time.Time) time.Duration {
	ttl, failed := l.ttl, l.failed()
	switch {
	case failed:
		w.count(true)
		return w.jitter(w.backoff())
	case l.none():
		w.count(false)
		if w.none.heard(&w.conf, now) || !w.known {
			w.become(nil)
		}
		return w.pauseNone(l.ttl)
	case l.unavailable():
		w.count(false)
		w.become(nil)
		return w.pause(l.ttl, false)
	}
	w.none = absence{}
	none := false
	for name, h := range l.hosts {
		t := w.targets[name]
		if t == nil {
			t = new(target)
			w.targets[name] = t
		}
		t.take(&w.conf, h, now)
		failed, none = failed || h.failed(), none || h.none()
		if !h.dead() {
			ttl = min(ttl, h.ttl())
		}
	}
	w.count(failed)
	w.become(l.records)
	if none {
		return min(w.pause(ttl, failed), w.pauseNone(ttl))
	}
	return w.pause(ttl, failed)
}

// become makes records the present ones and passes their endpoints on, unless there are none only because nobody could tell.
func (w *recordsWatch) become(records []record) {
	w.records = records
	wanted := make(map[string]bool)
	for _, rec := range records {
		wanted[rec.target] = true
	}
	for name := range w.targets {
		if !wanted[name] {
			delete(w.targets, name)
		}
	}
	set, sure := w.endpoints()
	if len(set) == 0 && !sure {
		return
	}
	w.known = true
	w.sender.Send(set, w.update)
}

// endpoints are those of the present records. sure is false if the addresses of a host have never been heard.
func (w *recordsWatch) endpoints() (set []proxy.Endpoint, sure bool) {
	sure = true
	most := 1 // addresses of a host
	for _, t := range w.targets {
		most = max(most, len(t.addrs()))
	}
	for _, rec := range w.records {
		t := w.targets[rec.target]
		if t == nil {
			continue
		}
		addrs := t.addrs()
		if !t.known {
			addrs, sure = rec.hints, sure && len(rec.hints) > 0
		}
		for _, a := range addrs {
			e := w.conf.Defaults.Endpoint(netip.AddrPortFrom(a, w.port(rec)))
			e.Priority, e.Weight = rec.priority, max(1, rec.weight*most/len(addrs)) // a host's weight is for all its addresses
			set = append(set, e)
		}
	}
	return best(set), sure
}

// port is that of the configuration, else the record's; 0 is the default.
func (w *recordsWatch) port(rec record) uint16 {
	if w.conf.Port != 0 {
		return w.conf.Port
	}
	return rec.port
}

// best leaves of each address the one with the lowest priority.
func best(set []proxy.Endpoint) []proxy.Endpoint {
	at := make(map[netip.AddrPort]int, len(set))
	kept := set[:0]
	for _, e := range set {
		if i, again := at[e.Addr]; again {
			if e.Priority < kept[i].Priority {
				kept[i] = e
			}
			continue
		}
		at[e.Addr] = len(kept)
		kept = append(kept, e)
	}
	return kept
}
