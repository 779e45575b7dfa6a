package store

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
)

func put(s *Store[int], key uint64, v int, size int64) {
	s.Update(key, func(int, bool) (int, int64, bool) { return v, size, true })
}

func del(s *Store[int], key uint64) {
	s.Update(key, func(int, bool) (int, int64, bool) { return 0, 0, false })
}

// sum counts what is there by hand.
func sum(s *Store[int]) (bytes, entries, guarded int64) {
	for i := range s.stripes {
		st := &s.stripes[i]
		for _, k := range st.trial.Keys() {
			c, _ := st.trial.Peek(k)
			bytes, entries = bytes+c.size, entries+1
		}
		here := int64(0)
		for _, k := range st.protected.Keys() {
			c, _ := st.protected.Peek(k)
			bytes, entries, here = bytes+c.size, entries+1, here+c.size
		}
		if here != st.guarded {
			return -1, -1, -1
		}
		guarded += here
	}
	return bytes, entries, guarded
}

func TestAccounting(t *testing.T) {
	var evicted int
	s := New(Config{Max: 100 << 10}, func(int) { evicted++ })
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		key := r.Uint64N(400)
		switch r.IntN(4) {
		case 0:
			s.Get(key)
		case 1:
			del(s, key)
		default:
			put(s, key, int(key), r.Int64N(3000))
		}
		if st := s.Stats(); st.Bytes > st.Max {
			t.Fatalf("%d bytes of %d", st.Bytes, st.Max)
		}
	}
	bytes, entries, _ := sum(s)
	if st := s.Stats(); st.Bytes != bytes || st.Entries != entries || st.Evictions != uint64(evicted) || evicted == 0 {
		t.Errorf("stats %+v, counted by hand %d bytes, %d entries, %d evictions", st, bytes, entries, evicted)
	}
	s.Resize(10 << 10)
	if st := s.Stats(); st.Bytes > 10<<10 {
		t.Errorf("after Resize: %+v", st)
	}
	s.Each(func(key uint64, v int) bool { del(s, key); return true })
	if st := s.Stats(); st.Bytes != 0 || st.Entries != 0 {
		t.Errorf("emptied: %+v", st)
	}
}

// A scan over many more things than there is room for leaves what is wanted again and again in place.
func TestScanResistance(t *testing.T) {
	s := New[int](Config{Max: 1 << 20}, nil)
	const wanted = 300
	for key := range uint64(wanted) {
		put(s, key, 1, 1<<10)
		s.Get(key)
	}
	for key := range uint64(50_000) {
		put(s, 1_000_000+key, 1, 1<<10)
	}
	found := 0
	for key := range uint64(wanted) {
		if _, ok := s.Get(key); ok {
			found++
		}
	}
	if found != wanted {
		t.Errorf("%d of %d survive a scan", found, wanted)
	}
}

// What was wanted once must be able to leave.
func TestOldFavouritesLeave(t *testing.T) {
	s := New[int](Config{Max: 256 << 10}, nil)
	for round := range uint64(2) {
		for key := range uint64(1000) {
			put(s, round*1000+key, 1, 1<<10)
			s.Get(round*1000 + key)
		}
	}
	old := 0
	for key := range uint64(1000) {
		if _, ok := s.Get(key); ok {
			old++
		}
	}
	if old > 100 {
		t.Errorf("%d old favourites are left", old)
	}
}

func TestConcurrently(t *testing.T) {
	s := New[int](Config{Max: 64 << 10}, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 2000 {
				key := r.Uint64N(100)
				if v, ok := s.Get(key); ok && v != int(key) {
					t.Errorf("key %d has %d", key, v)
				}
				put(s, key, int(key), r.Int64N(2000))
				if r.IntN(3) == 0 {
					del(s, r.Uint64N(100))
				}
				if r.IntN(100) == 0 {
					s.Each(func(uint64, int) bool { return true })
				}
			}
		})
	}
	wg.Wait()
	bytes, entries, _ := sum(s)
	if st := s.Stats(); st.Bytes != bytes || st.Entries != entries || bytes > st.Max {
		t.Errorf("stats %+v, counted by hand %d bytes, %d entries", st, bytes, entries)
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	s := New[int](Config{Max: 1 << 20}, nil)
	put(s, 5, 5, 5)
	s.Get(5)
	if n := proxytest.Allocs(100, func() { s.Get(5); s.Get(6) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
