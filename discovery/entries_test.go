package discovery

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// told is what Publish says.
type told struct {
	sets         []string
	report, flaw error
}

func (x *told) publish(t *testing.T, e *Entries) time.Duration {
	ctx := WithFlaw(WithReport(t.Context(), func(err error) { x.report = err }), func(err error) { x.flaw = err })
	return e.Publish(ctx, func(set []proxy.Endpoint) { x.sets = append(x.sets, names(set)) })
}

func TestEntries(t *testing.T) {
	var (
		e    Entries
		x    told
		oops = errors.New("oops")
	)
	expect := func(step string, n int, last, report, flaw string) {
		t.Helper()
		x.publish(t, &e)
		text := func(err error) string {
			if err == nil {
				return ""
			}
			return err.Error()
		}
		if len(x.sets) != n || n > 0 && x.sets[n-1] != last || text(x.report) != report || text(x.flaw) != flaw {
			t.Errorf("%s: sets %q, report %v, flaw %v; want %d, the last %q, %q, %q", step, x.sets, x.report, x.flaw, n, last, report, flaw)
		}
	}
	e.Put("a", proxy.Endpoint{}, oops)
	expect("all wrong", 0, "", "entry a: oops", "")
	e.Put("b", set(2)[0], nil)
	expect("one right", 1, "10.0.0.2:80", "", "entry a: oops")
	e.Put("a", set(1)[0], nil)
	expect("both right", 2, "10.0.0.1:80 10.0.0.2:80", "", "")
	e.Put("a", proxy.Endpoint{}, oops)
	e.Put("c", proxy.Endpoint{}, oops)
	expect("wrong again", 2, "10.0.0.1:80 10.0.0.2:80", "", "entry a: oops (and 1 more)")
	e.Retain(func(key string) bool { return key != "b" })
	expect("one is left, as it was", 3, "10.0.0.1:80", "", "entry a: oops (and 1 more)")
	e.Delete("c")
	e.Delete("a")
	expect("none", 4, "", "", "")
}

// What is gone after a failure is believed to be gone later; the rest at once.
func TestEntriesDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			e Entries
			x told
		)
		e.Doubt()
		if left := x.publish(t, &e); left != 0 || len(x.sets) != 1 {
			t.Errorf("none at first: %q, and %v left; want it told at once", x.sets, left)
		}
		e.Put("a", set(1)[0], nil)
		x.publish(t, &e)
		e.Doubt()
		e.Delete("a")
		left := x.publish(t, &e)
		if left != grace || len(x.sets) != 2 || x.report == nil {
			t.Errorf("none after a failure: %q, %v left, report %v; want the set kept for %v", x.sets, left, x.report, grace)
		}
		e.Put("b", set(2)[0], nil)
		if left := x.publish(t, &e); left != 0 || len(x.sets) != 3 || x.report != nil {
			t.Errorf("one after a failure: %q, %v left, report %v; want it at once", x.sets, left, x.report)
		}
		e.Delete("b")
		time.Sleep(x.publish(t, &e))
		if left := x.publish(t, &e); left != 0 || len(x.sets) != 4 || x.sets[3] != "" || x.report != nil {
			t.Errorf("none after the time is over: %q, %v left, report %v; want it believed", x.sets, left, x.report)
		}
	})
}

func TestDescribed(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	const orders, other = "spiffe://example.org/orders", "spiffe://example.org/other"
	meshed, plain := Defaults{Port: 15008, Identity: orders, Mesh: true, Transport: proxy.TCP}, Defaults{}
	pinned := meshed
	pinned.Pinned = true
	for _, c := range []struct {
		d    Defaults
		say  Labels
		want proxy.Endpoint
		err  string
	}{
		{meshed, Labels{}, proxy.Endpoint{Identity: orders, Mesh: true, Transport: proxy.TCP}, ""},
		{meshed, Labels{Identity: other, Weight: "7", Zone: "a", Transport: "quic", Mesh: "true"}, proxy.Endpoint{Identity: other, Mesh: true, Weight: 7, Zone: "a", Transport: proxy.QUIC}, ""},
		{plain, Labels{Weight: "7", Zone: "a", Transport: "quic", Mesh: "false"}, proxy.Endpoint{Weight: 7, Zone: "a"}, ""},
		{plain, Labels{More: map[string]string{"version": "v2", "stage": "", "a=b": "1", "list": "1,2", "": "x", "long": strings.Repeat("x", 129)}}, proxy.Endpoint{Labels: "stage=,version=v2"}, ""},
		{plain, Labels{Mesh: "true", Identity: orders}, proxy.Endpoint{Mesh: true, Identity: orders}, ""},
		{pinned, Labels{Identity: orders}, proxy.Endpoint{Identity: orders, Mesh: true, Transport: proxy.TCP}, ""},
		{pinned, Labels{Identity: other}, proxy.Endpoint{}, "the configuration wants spiffe://example.org/orders"},
		{plain, Labels{Mesh: "true"}, proxy.Endpoint{}, "nobody is expected"},
		{meshed, Labels{Mesh: "false"}, proxy.Endpoint{}, "without encryption"},
		{meshed, Labels{Mesh: "yes"}, proxy.Endpoint{}, `"yes" is neither`},
		{meshed, Labels{Identity: "orders"}, proxy.Endpoint{}, "identity: "},
		{meshed, Labels{Transport: "sctp"}, proxy.Endpoint{}, `"sctp" is neither`},
		{meshed, Labels{Weight: "0"}, proxy.Endpoint{}, `weight: "0"`},
		{meshed, Labels{Weight: strings.Repeat("9", 1000)}, proxy.Endpoint{}, "…"},
	} {
		c.want.Addr = addr
		got, err := c.d.Described(addr, c.say)
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("Described(%+v) with %+v = %+v, %v; want %+v, %q", c.say, c.d, got, err, c.want, c.err)
		}
	}
	if _, err := plain.Described(netip.AddrPort{}, Labels{}); err == nil {
		t.Error("an endpoint without an address was taken")
	}
}

func TestWatcherKeepsFlaws(t *testing.T) {
	w, err := New(Config{Resolver: resolverFunc(func(ctx context.Context, update func([]proxy.Endpoint)) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	w.flawed(errors.New("entry a: oops"))
	w.update(set(1))
	if st := w.Status(); st.Err != nil || st.Flaw == nil || st.Flaw.Error() != "entry a: oops" {
		t.Errorf("Status = %+v; want the flaw, and no error", st)
	}
	w.flawed(nil)
	if st := w.Status(); st.Flaw != nil {
		t.Errorf("Status = %+v; want no flaw", st)
	}
}
