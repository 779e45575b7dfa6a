package main

// Go collects garbage each time the heap has doubled. Where little is in use and much is allocated all the time, as by QUIC, some 5 KiB for each request, that is
// many times a second, and a tenth of all processor time. While it goes on the heap may therefore grow by more.
//
// A heap as small as that of most sidecars may grow somewhat further than Go would let it, too: the first collection costs 1.5 MiB, of the collector's own memory and of
// code and tables that nothing else needs, which is more than the garbage of 2,000 new connections.

const (
	paceBytes   = 64 << 20 // of allocation in one step: as much is worth another pace
	paceGarbage = 24 << 20 // bytes of it that may lie about then
	usualPace   = 100      // percent of what is in use that may be added before it is collected: Go's own
	smallPace   = 150      // Go takes 4 MiB for the least that is in use: the first collection is at 6 MiB
	smallHeap   = 4 << 20  // bytes in use: less is small
	widestPace  = 400
)

// pace sets how far the heap may grow. It stays as it is while the rate is in between, so that it does not change at each step.
func (m *memory) pace(allocated, live uint64) {
	usual := usualPace
	if live < smallHeap {
		usual = smallPace
	}
	want := m.percent
	switch {
	case allocated >= paceBytes:
		want = usual
		if live < paceGarbage {
			want = int(min(widestPace, usualPace*paceGarbage/max(live, 1)))
		}
	case allocated < paceBytes/4:
		want = usual
	}
	if want != m.percent {
		m.percent = want
		m.setPace(want)
	}
}
