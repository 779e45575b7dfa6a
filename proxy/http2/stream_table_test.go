package http2

import (
	"math/rand/v2"
	"testing"
)

// TestStreamTable compares with a map, with streams that stay while many come and go.
func TestStreamTable(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		var table streamTable
		want := map[uint32]*stream{}
		most := 1 + rnd.IntN(100)
		next := uint32(1 + seed%2)
		for range 5000 {
			if len(want) < most && rnd.IntN(2) == 0 {
				st := new(stream)
				st.id = next
				next += 2
				table.put(st)
				want[st.id] = st
			} else {
				id := next - 2*uint32(rnd.IntN(2*most))
				if rnd.IntN(50) == 0 {
					id = next - 2*uint32(rnd.IntN(5000))
				}
				table.remove(id)
				delete(want, id)
			}
			if id := next - 2*uint32(rnd.IntN(5000)); table.get(id) != want[id] {
				t.Fatalf("seed %d: stream %d: got %p, want %p", seed, id, table.get(id), want[id])
			}
		}
		n := 0
		for st := range table.all() {
			if want[st.id] != st {
				t.Fatalf("seed %d: all yields stream %d", seed, st.id)
			}
			table.remove(st.id)
			n++
		}
		if n != len(want) || table.len() != 0 {
			t.Fatalf("seed %d: all yields %d of %d, %d are left", seed, n, len(want), table.len())
		}
	}
}
