package tracing

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

const (
	anID   = "0af7651916cd43dd8448eb211c80319c"
	aSpan  = "b7ad6b7169203331"
	aTrace = "00-" + anID + "-" + aSpan
)

// TestTraceparent goes through section 3.2 of W3C Trace Context, and the cases of its own test suite.
func TestTraceparent(t *testing.T) {
	for value, want := range map[string]string{
		aTrace + "-01":                  "sampled",
		aTrace + "-00":                  "unsampled",
		aTrace + "-03":                  "sampled random",
		aTrace + "-02":                  "unsampled random",
		aTrace + "-ff":                  "sampled random", // the other flags are none of level 2: "MUST ignore"
		" " + aTrace + "-01 ":           "sampled",
		"cc" + aTrace[2:] + "-01":       "sampled", // a later version
		"cc" + aTrace[2:] + "-01-what":  "sampled",
		"cc" + aTrace[2:] + "-01.what":  "new",
		"cc" + aTrace[2:] + "-01what":   "new",
		"ff" + aTrace[2:] + "-01":       "new",
		aTrace + "-01-what":             "new", // version 00 has no more
		aTrace + "-01.":                 "new",
		aTrace + "-1":                   "new",
		aTrace + "-0g":                  "new",
		aTrace:                          "new",
		"":                              "new",
		"0" + aTrace + "-01":            "new",
		".0" + aTrace[2:] + "-01":       "new",
		strings.ToUpper(aTrace) + "-01": "new", // "vendors MUST ignore the traceparent when the trace-id is invalid (for example if it contains non-allowed characters)"
		"00-" + strings.Repeat("0", 32) + "-" + aSpan + "-01": "new",
		"00-" + anID + "-" + strings.Repeat("0", 16) + "-01":  "new",
		"00-" + anID[:31] + "--" + aSpan + "-01":              "new",
		"00-" + anID + "0-" + aSpan + "-01":                   "new",
	} {
		fields := proxy.Fields{{Name: "TraceParent", Value: value}, {Name: "tracestate", Value: "a=1"}}
		var tr proxy.Trace
		Propagation{}.Enter(&fields, &tr)
		if got := describe(&tr); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
		if kept := fields.Has(tracestate); kept != (want != "new") {
			t.Errorf("%q: tracestate kept: %v", value, kept)
		}
		if !tr.Valid() || tr.Span == (proxy.SpanID{}) || tr.Span == tr.Parent {
			t.Errorf("%q: %+v", value, tr)
		}
	}
}

func describe(t *proxy.Trace) string {
	if t.Parent == (proxy.SpanID{}) {
		return "new"
	}
	s := "unsampled"
	if t.Sampled {
		s = "sampled"
	}
	if t.Random {
		s += " random"
	}
	if fmt.Sprintf("%x-%x", t.ID, t.Parent) != anID+"-"+aSpan {
		s += " of another trace"
	}
	return s
}

// Section 3.2: "If more than one traceparent header is received, the vendor MUST ..." start anew.
func TestTwoParents(t *testing.T) {
	fields := proxy.Fields{{Name: "traceparent", Value: aTrace + "-01"}, {Name: "traceparent", Value: aTrace + "-01"}}
	var tr proxy.Trace
	Propagation{}.Enter(&fields, &tr)
	if describe(&tr) != "new" || len(fields) != 0 {
		t.Errorf("%+v, %v", tr, fields)
	}
}

func TestTracestate(t *testing.T) {
	many := func(n int) string {
		var s []string
		for i := range n {
			s = append(s, fmt.Sprintf("k%d=v", i))
		}
		return strings.Join(s, ",")
	}
	for _, c := range []struct {
		lines []string
		kept  bool
	}{
		{[]string{"foo=1"}, true},
		{[]string{"foo=1 , bar=2"}, true},
		{[]string{"foo=1,,bar=2"}, true},
		{[]string{""}, true},
		{[]string{"foo=1", "bar=2"}, true},
		{[]string{"foo=1", "foo=2"}, false},
		{[]string{"foo=1,foo=1"}, false},
		{[]string{"foo"}, false},
		{[]string{"=1"}, false},
		{[]string{"foo="}, false},
		{[]string{"foo =1"}, false},
		{[]string{"FOO=1"}, false},
		{[]string{"fo.o=1"}, false},
		{[]string{"foo@bar=1"}, true},
		{[]string{"0foo-*/_@=1"}, true},
		{[]string{"-foo=1"}, false},
		{[]string{"foo=bar=baz"}, false},
		{[]string{"foo=1,bar\t=2"}, false},
		{[]string{"foo=a b"}, true},
		{[]string{"foo=\x7f"}, false},
		{[]string{many(32)}, true},
		{[]string{many(33)}, false},
		{[]string{many(16), "a=1"}, true},
		{[]string{strings.Repeat("a", 256) + "=" + strings.Repeat("b", 256)}, true},
		{[]string{strings.Repeat("a", 257) + "=1"}, false},
		{[]string{"a=" + strings.Repeat("b", 257)}, false},
	} {
		fields := proxy.Fields{{Name: "traceparent", Value: aTrace + "-01"}}
		for _, l := range c.lines {
			fields.Add("tracestate", l)
		}
		var tr proxy.Trace
		Propagation{}.Enter(&fields, &tr)
		if fields.Has(tracestate) != c.kept || describe(&tr) != "sampled" {
			t.Errorf("%q: kept %v, %s", c.lines, !c.kept, describe(&tr))
		}
	}
}

func TestB3(t *testing.T) {
	multi := func(id, span, sampled, flags string) proxy.Fields {
		return proxy.Fields{{Name: "x-b3-traceid", Value: id}, {Name: "x-b3-spanid", Value: span}, {Name: "x-b3-sampled", Value: sampled}, {Name: "x-b3-flags", Value: flags}}
	}
	single := func(s string) proxy.Fields { return proxy.Fields{{Name: "B3", Value: s}} }
	const short = "8448eb211c80319c"
	for _, c := range []struct {
		name   string
		fields proxy.Fields
		id     string // "" for a new one
		kept   bool   // sampled, with a ratio of 0
	}{
		{"single", single(anID + "-" + aSpan + "-1"), anID, true},
		{"single, with a parent", single(anID + "-" + aSpan + "-0-05e3ac9a4f6e3b90"), anID, false},
		{"single, debug", single(anID + "-" + aSpan + "-d"), anID, true},
		{"single, undecided", single(anID + "-" + aSpan), anID, false},
		{"single, 64 bits", single(short + "-" + aSpan + "-1"), strings.Repeat("0", 16) + short, true},
		{"single, a decision", single("1"), "", true},
		{"single, rejected", single("0"), "", false},
		{"single, nonsense", single("x-y-1"), "", false},
		{"single, zero", single(strings.Repeat("0", 32) + "-" + aSpan + "-1"), "", false},
		{"several", multi(anID, aSpan, "1", ""), anID, true},
		{"several, debug", multi(anID, aSpan, "", "1"), anID, true},
		{"several, 64 bits", multi(short, aSpan, "0", ""), strings.Repeat("0", 16) + short, false},
		{"several, a decision", multi("", "", "1", ""), "", true},
		{"several, an id too few", multi(anID, "", "1", ""), "", true},
		{"several, nonsense", multi("zz", aSpan, "0", ""), "", false},
		{"W3C first", append(single(anID+"-"+aSpan+"-0"), proxy.Field{Name: "traceparent", Value: "00-" + strings.Repeat("1", 32) + "-" + aSpan + "-01"}), strings.Repeat("1", 32), true},
	} {
		var tr proxy.Trace
		Propagation{}.Enter(&c.fields, &tr)
		if id := fmt.Sprintf("%x", tr.ID); (id == c.id) != (c.id != "") || tr.Sampled != c.kept || (tr.Parent != proxy.SpanID{}) != (c.id != "") {
			t.Errorf("%s: %s, sampled %v, parent %x", c.name, id, tr.Sampled, tr.Parent)
		}
	}
}

func TestTell(t *testing.T) {
	fields := proxy.Fields{{Name: "A", Value: "1"}, {Name: "TraceParent", Value: aTrace + "-03"}, {Name: "tracestate", Value: "x=1"}, {Name: "baggage", Value: "k=v"}}
	var tr proxy.Trace
	p := Propagation{B3: true}
	p.Enter(&fields, &tr)
	var header [64]byte
	p.Tell(&fields, &tr, proxy.SpanID{1, 2, 3, 4, 5, 6, 7, 8}, &header)
	want := fmt.Sprint(proxy.Fields{{Name: "A", Value: "1"}, {Name: "TraceParent", Value: "00-" + anID + "-0102030405060708-03"}, {Name: "tracestate", Value: "x=1"},
		{Name: "baggage", Value: "k=v"}, {Name: "b3", Value: anID + "-0102030405060708-1"}})
	if got := fmt.Sprint(fields); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

// TestRatio: the share that is recorded is the one asked for, and who asks for more records what others do.
func TestRatio(t *testing.T) {
	const n = 20_000
	for _, ratio := range []float64{0, 0.01, 0.25, 1} {
		kept := 0
		for range n {
			var tr proxy.Trace
			Propagation{Ratio: ratio}.Enter(new(proxy.Fields), &tr)
			if tr.Sampled {
				kept++
			}
			if tr.Sampled && !(Propagation{Ratio: ratio + 0.1}).sampled(tr.ID) || !tr.Random {
				t.Fatalf("ratio %v: %+v", ratio, tr)
			}
		}
		// Eight standard deviations: a run that fails by chance is not to be expected.
		if got, slack := float64(kept)/n, 8*math.Sqrt(ratio*(1-ratio)/n); math.Abs(got-ratio) > slack {
			t.Errorf("ratio %v: %v were sampled", ratio, got)
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	fields := proxy.Fields{{Name: "traceparent", Value: aTrace + "-01"}, {Name: "tracestate", Value: "a=1,b=2"}}
	var tr proxy.Trace
	var header [64]byte
	if n := testing.AllocsPerRun(100, func() {
		Propagation{}.Enter(&fields, &tr)
		Propagation{}.Tell(&fields, &tr, tr.Span, &header)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPropagation(b *testing.B) {
	fields := proxy.Fields{{Name: "host", Value: "x"}, {Name: "traceparent", Value: aTrace + "-01"}, {Name: "accept", Value: "*/*"}}
	var tr proxy.Trace
	var header [64]byte
	b.ReportAllocs()
	for b.Loop() {
		Propagation{}.Enter(&fields, &tr)
		Propagation{}.Tell(&fields, &tr, tr.Span, &header)
	}
}

// FuzzEnter: whatever the fields are, there is a trace afterwards, and what is told reads back.
func FuzzEnter(f *testing.F) {
	f.Add(aTrace+"-01", "a=1", anID+"-"+aSpan+"-1")
	f.Add("cc"+aTrace[2:]+"-01-x", "a=1,a=2", "0")
	f.Fuzz(func(t *testing.T, parent, state, b3 string) {
		fields := proxy.Fields{{Name: "traceparent", Value: parent}, {Name: "tracestate", Value: state}, {Name: "b3", Value: b3}}
		var tr, back proxy.Trace
		p := Propagation{Ratio: 0.5, B3: true}
		p.Enter(&fields, &tr)
		var header [64]byte
		p.Tell(&fields, &tr, tr.Span, &header)
		if !readW3C(fields, &back) || back.ID != tr.ID || back.Parent != tr.Span || back.Sampled != tr.Sampled || back.Random != tr.Random {
			t.Fatalf("%v: %+v read back as %+v", fields, tr, back)
		}
		if fields.Has(tracestate) && !validState(fields) {
			t.Fatalf("bad tracestate kept: %v", fields)
		}
	})
}
