package proxy

import (
	"testing"
	"time"
)

// What a peer's sidecar says of its time is taken only if it is two numbers, the second no larger than the first.
func TestParseTook(t *testing.T) {
	for value, want := range map[string][2]time.Duration{
		"830;520":         {830 * time.Microsecond, 520 * time.Microsecond},
		"5;0":             {5 * time.Microsecond, 0},
		"1099511627775;1": {1099511627775 * time.Microsecond, time.Microsecond},
	} {
		if all, app, ok := ParseTook(value); !ok || all != want[0] || app != want[1] {
			t.Errorf("%q: %v, %v, %v, want %v", value, all, app, ok, want)
		}
		if got := string(AppendTook(nil, want[0], want[1])); got != value {
			t.Errorf("%v is said as %q, want %q", want, got, value)
		}
	}
	for _, value := range []string{"", ";", "1", "1;", ";1", "1;2", "1;1;", "2;1 ", " 2;1", "+2;1", "-2;1", "2;-1", "a;1", "1099511627776;1", "18446744073709551617;1",
		"18446744073709551617;18446744073709551616"} {
		if all, app, ok := ParseTook(value); ok || all != 0 || app != 0 {
			t.Errorf("%q is taken for %v and %v", value, all, app)
		}
	}
}
