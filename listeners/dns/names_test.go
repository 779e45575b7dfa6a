package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

var prefix = netip.MustParsePrefix("127.80.0.0/16")

func assign(t *testing.T, r netip.Prefix, names ...string) map[string]netip.Addr {
	t.Helper()
	all, err := Assign(r, names)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The addresses are part of what users write down: they must never change.
func TestAddressesAreStable(t *testing.T) {
	all := assign(t, prefix, "db", "billing", "orders.v2", "cache")
	for name, want := range map[string]string{"db": "127.80.239.228", "billing": "127.80.133.94", "orders.v2": "127.80.98.240", "cache": "127.80.242.127"} {
		if got := all[name].String(); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
}

// Each name has an address of its own, whatever the order and the others, unless two would have had the same.
func TestAddressesAreDistinct(t *testing.T) {
	var names []string
	for i := range 2000 {
		names = append(names, fmt.Sprintf("service-%d", i))
	}
	all := assign(t, prefix, names...)
	slices.Reverse(names)
	again := assign(t, prefix, append(names, names[0])...)
	seen := make(map[netip.Addr]string)
	alone := 0
	for _, n := range names {
		a := all[n]
		if !prefix.Contains(a) || a == prefix.Addr() || a.As4()[3] == 255 && a.As4()[2] == 255 {
			t.Errorf("%s has %v", n, a)
		}
		if seen[a] != "" {
			t.Errorf("%s and %s have %v", n, seen[a], a)
		}
		seen[a] = n
		if again[n] != a {
			t.Errorf("%s has %v and, in another order, %v", n, a, again[n])
		}
		if assign(t, prefix, n)[n] == a {
			alone++
		}
	}
	if alone < 1900 {
		t.Errorf("only %d of 2000 have the address that they have alone", alone)
	}
}

func TestSmallAndBadRanges(t *testing.T) {
	small := netip.MustParsePrefix("127.1.2.0/28")
	var names []string
	for i := range 8 {
		names = append(names, fmt.Sprint("s", i))
	}
	if got := assign(t, small, names...); len(got) != 8 {
		t.Errorf("%d addresses, want 8", len(got))
	}
	for r, n := range map[string]int{"127.1.2.0/28": 9, "10.0.0.0/8": 1, "127.0.0.0/7": 1, "::1/128": 1, "127.0.0.0/24": 1} {
		if all, err := Assign(netip.MustParsePrefix(r), append(names, "more")[:n]); err == nil {
			t.Errorf("%s for %d names: %v, want an error", r, n, all)
		}
	}
	for _, a := range assign(t, netip.MustParsePrefix("127.0.0.0/8"), names...) {
		if netip.MustParsePrefix("127.0.0.0/24").Contains(a) {
			t.Errorf("%v is where other things listen", a)
		}
	}
}
