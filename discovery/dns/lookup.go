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
)

// The two families of addresses, as indices.
const (
	ipv4 = iota
	ipv6
	families
)

// questions by family.
func question(family int) dnsmessage.Type {
	if family == ipv4 {
		return dnsmessage.TypeA
	}
	return dnsmessage.TypeAAAA
}

// errNone is an answer: the name, or its addresses of this family, do not exist.
var errNone = errors.New("no such name or no address")

var errNobody = errors.New("there is no name server to ask but this sidecar's own")

// result is what a lookup found, by family.
type result [families]found

// found are the addresses of one family, or err: errNone if there are none, anything else if nobody could tell.
type found struct {
	name    string // that was asked
	addrs   []netip.Addr
	records []record
	ttl     time.Duration
	err     error
}

func (f found) none() bool   { return f.err == errNone }
func (f found) failed() bool { return f.err != nil && f.err != errNone }

// none means that there certainly is no address.
func (r result) none() bool { return r[ipv4].none() && r[ipv6].none() }

// failed means that at least one family could not be told.
func (r result) failed() bool { return r[ipv4].failed() || r[ipv6].failed() }

// dead means that there is no address because somebody could not tell.
func (r result) dead() bool { return r.failed() && r[ipv4].err != nil && r[ipv6].err != nil }

// ttl is the shortest TTL of the answers there are. The absence of one family beside the other does not count.
func (r result) ttl() time.Duration {
	ttl := time.Duration(-1)
	for _, f := range r {
		if f.failed() || f.none() && !r.none() {
			continue
		}
		if ttl < 0 || f.ttl < ttl {
			ttl = f.ttl
		}
	}
	return max(ttl, 0)
}

// err describes the result for Report, nil if all is well.
func (r result) err() error {
	for _, f := range r {
		if f.failed() {
			return fmt.Errorf("resolve %s: %w", f.name, f.err)
		}
	}
	if r.none() {
		return fmt.Errorf("resolve %s: %w", r[ipv4].name, errNone)
	}
	return nil
}

// lookup resolves the name once.
func (r *Resolver) lookup(ctx context.Context) result {
	if ip, err := netip.ParseAddr(r.conf.Name); err == nil {
		return literal(r.conf.Name, []netip.Addr{ip}, r.conf.MaxTTL)
	}
	if addrs := readHosts(r.conf.Hosts, r.conf.Name); len(addrs) > 0 {
		return literal(r.conf.Name, addrs, hostsTTL)
	}
	rc := r.resolvConf()
	var last result
	for _, name := range candidates(rc, r.conf.Name) {
		last = r.lookupName(ctx, rc, name)
		if !last.none() {
			return last // found, or nobody could tell
		}
	}
	return last
}

// resolvConf says whom to ask, and how.
func (r *Resolver) resolvConf() resolvconf.Conf {
	rc := resolvconf.Read(r.conf.ResolvConf)
	if len(r.conf.Servers) > 0 {
		rc.Servers = r.conf.Servers
	}
	if skip := r.conf.Skip; skip != nil {
		rc.Servers = slices.DeleteFunc(slices.Clone(rc.Servers), skip)
	}
	return rc
}

// literal sorts addresses that need no DNS into their families.
func literal(name string, addrs []netip.Addr, ttl time.Duration) result {
	r := result{{name: name, ttl: ttl, err: errNone}, {name: name, ttl: ttl, err: errNone}}
	for _, a := range addrs {
		family := ipv6
		if a = a.Unmap(); a.Is4() {
			family = ipv4
		}
		r[family].addrs, r[family].err = append(r[family].addrs, a), nil
	}
	return r
}

// lookupName asks for both families of one full name at once.
func (r *Resolver) lookupName(ctx context.Context, rc resolvconf.Conf, name string) result {
	var res result
	var wg sync.WaitGroup
	for family := range families {
		wg.Go(func() { res[family] = r.lookupType(ctx, rc, name, question(family)) })
	}
	wg.Wait()
	return res
}

// lookupType goes round the servers until one answers.
func (r *Resolver) lookupType(ctx context.Context, rc resolvconf.Conf, name string, kind dnsmessage.Type) found {
	f := found{name: strings.TrimSuffix(name, "."), err: errNobody}
	packed, err := dnsmessage.NewName(name)
	if err != nil {
		f.err = err
		return f
	}
	q := dnsmessage.Question{Name: packed, Type: kind, Class: dnsmessage.ClassINET}
	for range rc.Attempts {
		for _, server := range rc.Order() {
			a, err := r.exchange(ctx, server, rc, q)
			if ctx.Err() != nil {
				f.err = ctx.Err()
				return f
			}
			if err == nil {
				f.addrs, f.records, f.ttl, f.err = a.addrs, a.records, a.ttl, nil
				if !a.has(kind) {
					f.err = errNone
				}
				return f
			}
			f.err = fmt.Errorf("ask %v for %s: %w", server, strings.TrimPrefix(kind.String(), "Type"), err)
		}
	}
	return f
}
