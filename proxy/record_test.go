package proxy

import "testing"

func TestRecordIsBounded(t *testing.T) {
	var r Record
	for i := range maxEvents + 3 {
		r.Add(Event{Layer: "test", N: int64(i)})
	}
	events, dropped := r.Events()
	if len(events) != maxEvents || dropped != 3 || events[maxEvents-1].N != maxEvents-1 {
		t.Errorf("%d events, %d dropped, the last is %+v", len(events), dropped, events[len(events)-1])
	}
	r.Reset()
	if events, dropped = r.Events(); len(events) != 0 || dropped != 0 {
		t.Errorf("after Reset: %d events, %d dropped", len(events), dropped)
	}
}

func TestNoteWithoutRecord(t *testing.T) {
	if n := testing.AllocsPerRun(10, func() { new(Request).Note("test", "nothing takes it", 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
