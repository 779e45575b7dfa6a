package main

// Go collects garbage each time the heap has doubled. Where little is in use and much is allocated all the time, as by QUIC, some 5 KiB for each request, that is
// many times a second, and a tenth of all processor time. While it goes on the heap may therefore grow by more.

const (
	paceBytes   = 64 << 20 // of allocation in one step: as much is worth another pace
	paceGarbage = 24 << 20 // bytes of it that may lie about then
	usualPace   = 100      // percent of what is in use that may be added before it is collected: Go's own
	widestPace  = 400
)

// pace sets how far the heap may grow. It stays as it is while the rate is in between, so that it does not change at each step.
func (m *memory) pace(allocated, live uint64) {
	want := m.percent
	switch {
	case allocated >= paceBytes:
		want = usualPace
		if live < paceGarbage {
			want = int(min(widestPace, usualPace*paceGarbage/max(live, 1)))
		}
	case allocated < paceBytes/4:
		want = usualPace
	}
	if want != m.percent {
		m.percent = want
		m.setPace(want)
	}
}
