package proxy

import (
	"maps"
	"testing"
)

func TestFlowStats(t *testing.T) {
	var none *FlowStats // counts nothing, and harms nobody
	none.Opened()
	none.Closed()
	none.Evicted()
	none.Request()
	none.Answer()
	none.Drop(DropNoRoom, 1)
	if c := none.Counts(); c.Open != 0 || c.Dropped != nil {
		t.Errorf("nil counts %+v", c)
	}
	var s FlowStats
	s.Opened()
	s.Opened()
	s.Closed()
	s.Evicted()
	s.Request()
	s.Answer()
	for d := range drops {
		s.Drop(d, int(d)) // the first not at all
	}
	c := s.Counts()
	want := map[string]uint64{"socket": 1, "overflow": 2, "too_long": 3, "refused": 4, "unopened": 5, "foreign": 6}
	if c.Open != 1 || c.Opened != 2 || c.Evicted != 1 || c.Requests != 1 || c.Answers != 1 || !maps.Equal(c.Dropped, want) {
		t.Errorf("counts %+v, want the drops %v", c, want)
	}
}
