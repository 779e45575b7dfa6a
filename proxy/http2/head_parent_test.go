package http2

import (
	"strings"
	"testing"
)

// TestParentsAreOwned: the traceparent of each request is its own, and costs no garbage.
func TestParentsAreOwned(t *testing.T) {
	var out []byte
	var enc headEncoder
	enc.init(&out)
	var dec headDecoder
	dec.init(1 << 10)
	dec.requests = true
	value := func(c string) string { return "00-" + strings.Repeat(c, 32) + "-" + strings.Repeat(c, 16) + "-01" }
	block := func(value string) {
		out = out[:0]
		enc.begin()
		enc.field("x", "y")
		enc.field(traceparent, value)
		enc.field("baggage", "a=b")
		dec.begin()
		if err := dec.write(out); err != nil {
			t.Fatal(err)
		}
		if err := dec.finish(); err != nil || dec.Bad != "" {
			t.Fatal(err, dec.Bad)
		}
	}
	values := [4]string{value("a"), value("b"), value("c"), value("d")}
	var room [4][parentLen]byte
	var got [4]string
	for i, v := range values {
		block(v)
		dec.own(&room[i])
		if got[i] = dec.Fields.Get(traceparent); len(dec.Fields) != 3 {
			t.Fatalf("%v", dec.Fields)
		}
	}
	if got != values {
		t.Errorf("got %q, want %q", got, values)
	}
	if n := testing.AllocsPerRun(100, func() { block(values[1]); dec.own(&room[1]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBadParent: what stands in the place of a traceparent is checked as any other value.
func TestBadParent(t *testing.T) {
	var out []byte
	var enc headEncoder
	enc.init(&out)
	var dec headDecoder
	dec.init(1 << 10)
	dec.requests = true
	for i, bad := range []string{strings.Repeat("0", parentLen), strings.Repeat("0", 20) + "\n" + strings.Repeat("0", parentLen-21)} {
		out = out[:0]
		enc.begin()
		enc.field(traceparent, bad)
		dec.begin()
		if err := dec.write(out); err != nil {
			t.Fatal(err)
		}
		if got := dec.Bad != ""; got != (i == 1) {
			t.Errorf("%q: %q", bad, dec.Bad)
		}
	}
}
