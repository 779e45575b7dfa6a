package balance

import (
	"slices"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

func hashing() map[string]Policy { return map[string]Policy{"ring hash": RingHash, "maglev": Maglev} }

// owners returns whom each key leads to.
func owners(b *Balancer, keys int) []proxy.Endpoint {
	all := make([]proxy.Endpoint, keys)
	for i := range all {
		st := b.Pick(&Pick{Now: start, Keyed: true, Key: stir(uint64(i))})
		all[i] = *st.Endpoint
		st.Done(false)
	}
	return all
}

// moved counts keys that lead elsewhere.
func moved(a, b []proxy.Endpoint) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

func TestHashIsStable(t *testing.T) {
	const keys = 20_000
	for name, policy := range hashing() {
		set := endpoints(20)
		b := balancer(Config{Policy: policy}, set)
		first := owners(b, keys)
		// Another sidecar, which knows the same in another order, agrees.
		shuffled := slices.Clone(set)
		slices.Reverse(shuffled)
		other := New(Config{Policy: policy, Seed: 99}, b.service)
		other.Update(shuffled, shuffled, start)
		if n := moved(first, owners(other, keys)); policy == RingHash && n > 0 || n > keys/20 {
			t.Errorf("%s: %d of %d keys differ between two sidecars", name, n, keys)
		}
		// One of 20 less: its keys move, and few others.
		b.Update(set[:19:19], set[:19:19], start)
		if n := moved(first, owners(b, keys)); n < keys/20/2 || n > keys/20*2 {
			t.Errorf("%s: one of 20 is gone: %d of %d keys moved, want about %d", name, n, keys, keys/20)
		}
		// It is back: so are they.
		b.Update(set, set, start)
		if n := moved(first, owners(b, keys)); n != 0 {
			t.Errorf("%s: it is back: %d keys are elsewhere", name, n)
		}
		// Out without leaving the set: the same, and only its keys move.
		b.states[7].Health.Lost(start, "refused")
		now := owners(b, keys)
		for i := range now {
			if first[i] != now[i] && first[i] != set[7] || now[i] == set[7] {
				t.Fatalf("%s: key %d moved from %v to %v", name, i, &first[i], &now[i])
			}
		}
	}
}

// Each gets about its part of the keys.
func TestHashIsEven(t *testing.T) {
	for name, policy := range hashing() {
		b := balancer(Config{Policy: policy}, endpoints(20))
		count := make(map[proxy.Endpoint]int)
		for _, ep := range owners(b, 20_000) {
			count[ep]++
		}
		tolerance := 0.1
		if policy == RingHash {
			tolerance = 0.4
		}
		for ep, n := range count {
			within(t, name+": "+ep.String(), n, 1000, tolerance)
		}
	}
}

// One key cannot bring down the one that it belongs to.
func TestBoundedLoad(t *testing.T) {
	for name, policy := range hashing() {
		b := balancer(Config{Policy: policy, Bound: 1.25}, endpoints(10))
		for range 1000 {
			b.Pick(&Pick{Now: start, Keyed: true, Key: 42})
		}
		b.Each(func(st *State) {
			if st.Pending() > 126 {
				t.Errorf("%s: %v has %d of 1000, want 1.25 times its part at most", name, st.Endpoint, st.Pending())
			}
		})
		if b.Stats().Moved == 0 {
			t.Errorf("%s: stats %+v, want moves counted", name, b.Stats())
		}
		few := balancer(Config{Policy: policy}, endpoints(10))
		first := few.Pick(&Pick{Now: start, Keyed: true, Key: 42})
		for range room {
			if st := few.Pick(&Pick{Now: start, Keyed: true, Key: 42}); st != first {
				t.Errorf("%s: hardly any load, and the key went to %v too", name, st.Endpoint)
			}
		}
	}
}

// The table of many Endpoints is made elsewhere; until then keys go by load, or by the last table.
func TestPrepare(t *testing.T) {
	for name, policy := range hashing() {
		set := endpoints(largeTable + 50)
		b := balancer(Config{Policy: policy}, set)
		build := b.Prepare()
		if build == nil {
			t.Fatalf("%s: nothing to prepare for %d endpoints", name, len(set))
		}
		if b.Pick(&Pick{Now: start, Keyed: true, Key: 1}) == nil {
			t.Errorf("%s: no pick without a table", name)
		}
		b.Install(build())
		if b.Prepare() != nil {
			t.Errorf("%s: still something to prepare", name)
		}
		first := owners(b, 1000)
		b.Update(set[:largeTable+40:largeTable+40], set[:largeTable+40:largeTable+40], start)
		build = b.Prepare()
		if n := moved(first, owners(b, 1000)); n == 0 || n > 100 {
			t.Errorf("%s: with the last table %d of 1000 keys moved, want those of the endpoints that are gone", name, n)
		}
		b.Update(set[:largeTable+30:largeTable+30], set[:largeTable+30:largeTable+30], start)
		b.Install(build()) // too late: it is another set
		if b.Prepare() == nil {
			t.Errorf("%s: took a table of another set", name)
		}
	}
}

func FuzzHash(f *testing.F) {
	f.Add("a", 3)
	f.Fuzz(func(t *testing.T, key string, n int) {
		n = n&63 + 1
		for name, policy := range hashing() {
			b := balancer(Config{Policy: policy}, endpoints(n))
			p := Pick{Now: start, Keyed: true, Key: proxy.Hash(key)}
			if first := b.Pick(&p); first == nil || b.Pick(&p) != first {
				t.Errorf("%s: %q of %d: not the same one twice", name, key, n)
			}
		}
	})
}
