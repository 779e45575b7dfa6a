package sfv

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestItems(t *testing.T) {
	for in, want := range map[string]Value{
		"5":               {Kind: Integer, Int: 5},
		" -15 ":           {Kind: Integer, Int: -15},
		"999999999999999": {Kind: Integer, Int: 999999999999999},
		"1.5":             {Kind: Decimal, Dec: 1.5},
		`"a\"b\\"`:        {Kind: String, Str: `a"b\`},
		"foo/*bar":        {Kind: Token, Str: "foo/*bar"},
		"*a:b":            {Kind: Token, Str: "*a:b"},
		":aGVsbG8=:":      {Kind: Bytes, Str: "hello"},
		"?1":              {Kind: Boolean, Bool: true},
		"@1659578233":     {Kind: Date, Int: 1659578233},
		`%"f%c3%bc"`:      {Kind: DisplayString, Str: "fü"},
	} {
		if got, err := ParseItem(in); err != nil || !reflect.DeepEqual(got.Value, want) {
			t.Errorf("ParseItem(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "1000000000000000", "1.", "1.2345", "1234567890123.1", "-", "--1", `"a`, `"\x"`, "\"\x7f\"", ":a", ":*:", "?2", "?", "@1.5", "@",
		`%"%C3"`, `%"%c3"`, "5,", "5 5", "é", "a;A", "a;", "=5"} {
		if got, err := ParseItem(in); err == nil {
			t.Errorf("ParseItem(%q) = %+v, want an error", in, got)
		}
	}
}

func TestDictionaries(t *testing.T) {
	got, err := ParseDictionary("max-age=60, a,\tb;x=1;x=2, l=(\"p\" q;r)  , max-age=70")
	if err != nil || len(got) != 4 || got[0].Key != "max-age" || got[0].Int != 70 || !got[1].Bool || got[2].Params[0].Value.Int != 2 || len(got[2].Params) != 1 ||
		got[3].Kind != InnerList || got[3].List[0].Str != "p" || got[3].List[1].Params[0].Key != "r" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, in := range []string{"Max-Age=1", "a=1,", "a=1 b", "a==1", "max-age=100, &&&", "a=(1", "a=(1\"b\")", ",a"} {
		if got, err := ParseDictionary(in); err == nil {
			t.Errorf("ParseDictionary(%q) = %+v, want an error", in, got)
		}
	}
	if list, err := ParseList(`a;b=1, (c d), "e"`); err != nil || len(list) != 3 || list[1].Kind != InnerList {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// FuzzSFV checks that what parses has no more values than bytes, and parses again when a space is around it.
func FuzzSFV(f *testing.F) {
	for _, s := range []string{"max-age=60, a;b=?0, c=(1 2.5 \"x\")", ":aGk=:", `%"%e2%82%ac"`, "@-5", "a=1,", "*;*=*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDictionary(s); err == nil {
			again, err := ParseDictionary("  " + s + " ")
			if err != nil || len(again) != len(d) || len(d) > len(s) {
				t.Errorf("%q: %+v, with spaces around it %+v, %v", s, d, again, err)
			}
			for _, m := range d {
				if m.Key == "" || strings.ToLower(m.Key) != m.Key || math.Abs(float64(m.Int)) >= 1e15 {
					t.Errorf("%q: member %+v", s, m)
				}
			}
		}
		_, _ = ParseList(s)
		_, _ = ParseItem(s)
	})
}
