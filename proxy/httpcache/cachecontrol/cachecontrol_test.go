package cachecontrol

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
)

func parse(lines ...string) Directives {
	d := None()
	for _, l := range lines {
		d.Add(l)
	}
	return d
}

// RFC 9111 section 5.2: "cache-directive = token [ "=" ( token / quoted-string ) ]"; "Cache directives are identified by a token, to be compared case-insensitively,
// and have an optional argument that can use both token and quoted-string syntax." 1.2.2 about numbers, 4.2.1 about invalid and duplicate ones.
func TestFreshness(t *testing.T) {
	for line, want := range map[string]Seconds{
		"max-age=60":                     60,
		"MAX-AGE=60":                     60,
		`max-age="60"`:                   60,
		"public,max-age=60,foo":          60,
		" , ,max-age=060 ,":              60,
		"max-age=99999999999999999999":   Most,
		"max-age":                        0,
		"max-age=":                       0,
		"max-age=-1":                     0,
		"max-age=1.5":                    0,
		"max-age='60'":                   0,
		"max-age=60s":                    0,
		"max-age =60":                    0,
		"max-age= 60":                    0,
		"max-age=60 70":                  0,
		`max-age="60`:                    0,
		`max-age="60"x`:                  0,
		"max-age=60, max-age=60":         60,
		"max-age=60, max-age=70":         0,
		`foo="max-age=60"`:               Absent,
		`foo="a\",max-age=60"`:           Absent,
		`foo="x", max-age=60`:            60,
		"max-age:60":                     Absent,
		"x-max-age=60":                   Absent,
		`foo="\\", max-age=60, bar="\""`: 60,
	} {
		if d := parse(line); d.MaxAge != want {
			t.Errorf("%q: max-age %d, want %d", line, d.MaxAge, want)
		}
	}
	if d := parse("max-age=60", "max-age=70"); d.MaxAge != 0 {
		t.Errorf("on two lines: max-age %d, want 0", d.MaxAge)
	}
}

func TestFlags(t *testing.T) {
	d := parse(`No-Store, no-cache="Set-Cookie, a", private="x"`, "public, must-revalidate, proxy-revalidate, must-understand, immutable, stale-while-revalidate=5, stale-if-error=6")
	if !d.NoStore || d.NoCache || d.Private || !reflect.DeepEqual(d.NoCacheFields, []string{"Set-Cookie", "a"}) || !reflect.DeepEqual(d.PrivateFields, []string{"x"}) ||
		!d.Public || !d.MustRevalidate || !d.ProxyRevalidate || !d.MustUnderstand || !d.Immutable || d.StaleWhileRevalidate != 5 || d.StaleIfError != 6 {
		t.Errorf("got %+v", d)
	}
	for _, line := range []string{"no-cache, private", "no-cache=a, private=a", `no-cache="", private=","`, `no-cache="a, private="b`, "no-cache =\"a\", private"} {
		if d := parse(line); !d.NoCache || line != `no-cache="a, private="b` && !d.Private {
			t.Errorf("%q: %+v, want them without limits", line, d)
		}
	}
	d = parse("max-stale=5, min-fresh=7, only-if-cached, max-stale")
	if d.MaxStale != 5 || d.MinFresh != 7 || !d.OnlyIfCached || !d.AnyStale {
		t.Errorf("got %+v", d)
	}
	if d = parse("min-fresh=x, max-stale=x, stale-while-revalidate, stale-if-error=-"); d.MinFresh != Most || d.MaxStale != 0 || d.StaleWhileRevalidate != 0 || d.StaleIfError != 0 {
		t.Errorf("malformed: %+v", d)
	}
}

// RFC 9213 section 2.1: "targeted fields are Dictionary Structured Fields"; 2.2 as quoted at Targeted.
func TestTargeted(t *testing.T) {
	d, ok := Targeted(`max-age=60, must-revalidate, private="a b";x, no-cache=?0, foo`)
	if !ok || d.MaxAge != 60 || !d.MustRevalidate || d.NoCache || len(d.PrivateFields) != 1 {
		t.Errorf("got %+v, %v", d, ok)
	}
	for in, want := range map[string]Seconds{`max-age="60"`: 0, "max-age=1.5": 0, "max-age=-1": 0, "max-age": 0, "max-age=token": 0} {
		if d, ok := Targeted(in); !ok || d.MaxAge != want {
			t.Errorf("%q: %+v, %v", in, d, ok)
		}
	}
	for _, in := range []string{"", "  ", "MAX-AGE=60", "max-age=60, &&&", "max-age=60,"} {
		if d, ok := Targeted(in); ok {
			t.Errorf("%q: %+v, want it to be ignored", in, d)
		}
	}
}

func TestDate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
		if got, ok := Date(s, now); !ok || !got.Equal(want) {
			t.Errorf("Date(%q) = %v, %v", s, got, ok)
		}
	}
	if got, ok := Date("Friday, 06-Nov-70 08:49:37 GMT", now); !ok || got.Year() != 2070 {
		t.Errorf("44 years ahead: %v, %v", got, ok)
	}
	for _, s := range []string{"", "0", "-1", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT", "784111777"} {
		if got, ok := Date(s, now); ok {
			t.Errorf("Date(%q) = %v", s, got)
		}
	}
	if got := FormatDate(want); got != "Sun, 06 Nov 1994 08:49:37 GMT" {
		t.Errorf("FormatDate = %q", got)
	}
}

func TestAge(t *testing.T) {
	for in, want := range map[string]Seconds{"5": 5, " 5 , 7": 5, "-5": Absent, "x": Absent, "": Absent, "99999999999": Most, "1.5": Absent} {
		if got := Number(in); got != want {
			t.Errorf("Number(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestRequestsAllocateNothing(t *testing.T) {
	if n := proxytest.Allocs(100, func() { parse("no-cache, max-age=0") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCacheControl checks against a second look: nothing forbidding may be missed that stands in plain sight, and what is quoted counts for nothing.
func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{"no-store", `a="no-store", max-age="5"`, "max-age=1,max-age=2", `private="x`, "no-cache =5", "=,=,;", `"`, `x="\"",no-store`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := parse(s)
		if !strings.ContainsAny(s, `"=`) {
			for part := range strings.SplitSeq(s, ",") {
				if strings.EqualFold(strings.Trim(part, " \t"), "no-store") && !d.NoStore {
					t.Errorf("%q: no-store is missed", s)
				}
			}
		}
		if two := parse(s, "no-store, max-age=1"); !two.NoStore || two.MaxAge > 1 || two.MaxAge == Absent {
			t.Errorf("%q and another line: %+v", s, two)
		}
		if d.MaxAge > Most || d.MaxAge < Absent {
			t.Errorf("%q: max-age %d", s, d.MaxAge)
		}
		Targeted(s)
		Number(s)
		Date(s, time.Unix(1e9, 0))
	})
}
