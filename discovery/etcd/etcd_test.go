package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

const orders = "spiffe://example.org/orders"

func TestParseValue(t *testing.T) {
	meshed := discovery.Defaults{Port: 15008, Identity: orders, Mesh: true}
	for _, c := range []struct{ value, want string }{
		{`{"address": "10.0.0.7:99"}`, "10.0.0.7:99 " + orders + ` true 0 ""`},
		{`{"address": "10.0.0.7", "more": [1]}`, "10.0.0.7:15008 " + orders + ` true 0 ""`},
		{" 10.0.0.7\n", "10.0.0.7:15008 " + orders + ` true 0 ""`},
		{"[2001:db8::1]:99", "[2001:db8::1]:99 " + orders + ` true 0 ""`},
		{`{"address":"10.0.0.7","identity":"spiffe://example.org/x","weight":2,"zone":"a","mesh":true,"transport":"quic","ports":[80]}`, `10.0.0.7:15008 spiffe://example.org/x true 2 "a"quic`},
		{`{"address":"10.0.0.7","labels":{"version":"v2","stage":"canary"}}`, "10.0.0.7:15008 " + orders + ` true 0 ""stage=canary,version=v2`},
		{`{"address":"10.0.0.7","labels":{"version":2}}`, "error: the value is no JSON"},
		{"", "error: the value has no address"},
		{"{}", "error: the value has no address"},
		{`{"address":"10.0.0.7"`, "error: the value is no JSON"},
		{`{"address":"10.0.0.7"} {}`, "error: the value is no JSON"},
		{`{"address":"10.0.0.7","weight":"2"}`, "error: the value is no JSON"},
		{`{"address":"10.0.0.7","weight":-1}`, `error: endpoint 10.0.0.7:0: weight: "-1"`},
		{`{"address":"10.0.0.7","mesh":false}`, "error: endpoint 10.0.0.7:0: it has no sidecar"},
		{"orders.internal:80", `error: "orders.internal:80" is no address`},
	} {
		e, err := parseValue([]byte(c.value), meshed)
		got := fmt.Sprintf("%v %s %v %d %q%s%s", &e, e.Identity, e.Mesh, e.Weight, e.Zone, e.Transport, e.Labels)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want && (err == nil || !strings.HasPrefix(got, c.want)) {
			t.Errorf("parseValue(%s) = %s, want %s", c.value, got, c.want)
		}
	}
}

// What a sidecar enters is what another reads.
func TestDescribe(t *testing.T) {
	r := &discovery.Registration{Addr: netip.MustParseAddrPort("10.0.0.7:15008"), Identity: orders, Weight: 2, Zone: "a", Transport: "quic", Labels: map[string]string{"version": "v2"}}
	text, err := json.Marshal(describe(r))
	if err != nil {
		t.Fatal(err)
	}
	e, err := parseValue(text, discovery.Defaults{})
	if want := (proxy.Endpoint{Addr: r.Addr, Identity: orders, Mesh: true, Weight: 2, Zone: "a", Transport: "quic", Labels: "version=v2"}); err != nil || e != want {
		t.Errorf("parseValue(%s) = %+v, %v; want %+v", text, e, err, want)
	}
}

// What is written by hand is read by hand: the two agree, and the e2e tests say that etcd does too.
func TestWire(t *testing.T) {
	head := message(nil).number(1, 7).number(3, 42)
	kv := message(nil).bytes(1, []byte("k")).number(3, 41).bytes(5, []byte("v")).number(6, 9)
	l, err := parseListing(message(nil).bytes(1, head).bytes(2, kv).bytes(2, kv).number(3, 1))
	if err != nil || l.header != (header{7, 42}) || len(l.pairs) != 2 || string(l.pairs[1].key) != "k" || string(l.pairs[1].value) != "v" || l.pairs[1].revision != 41 || l.pairs[1].lease != 9 {
		t.Errorf("parseListing = %+v, %v", l, err)
	}
	if _, err := parseListing(nil); err == nil {
		t.Error("a listing without a revision was taken")
	}
	event := message(nil).number(1, 1).bytes(2, kv)
	h, err := parseHappened(message(nil).bytes(1, head).number(2, 3).number(3, 1).number(4, 1).number(5, 6).bytes(6, []byte("why")).bytes(11, event))
	if err != nil || h.id != 3 || !h.created || !h.canceled || h.compacted != 6 || h.reason != "why" || len(h.events) != 1 || !h.events[0].deleted || string(h.events[0].key) != "k" {
		t.Errorf("parseHappened = %+v, %v", h, err)
	}
	for _, bad := range []string{"\xff", "\x0a\x05x", "\x0a\x02\x08\xff"} {
		if _, err := parseHappened([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{Endpoints: []string{"http://127.0.0.1:2379"}}); err == nil {
		t.Error("New with a URL succeeded")
	}
	cl, err := New(Config{Prefix: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Resolver("", discovery.Defaults{}); err == nil {
		t.Error("a Resolver for no service was made")
	}
	if r, err := cl.Resolver("orders", discovery.Defaults{}); err != nil || string(r.begin) != "/x/orders/" || string(r.end) != "/x/orders0" {
		t.Errorf("Resolver = %q to %q, %v", r.begin, r.end, err)
	}
}

// What is hurt on its way, in one byte or two, is refused or read again, if it is not read as it was meant.
func TestHurt(t *testing.T) {
	key := func(n int) []byte { return fmt.Appendf(nil, "/pillion/services/orders/i%d", n) }
	kv := func(n int, rev int64) message {
		return message(nil).bytes(1, key(n)).number(2, rev).number(3, rev).number(4, 1).bytes(5, fmt.Appendf(nil, `{"address":"10.0.0.%d:80"}`, n))
	}
	head := message(nil).number(1, -3031163274307131350).number(2, 4711<<40).number(3, 6).number(4, 2)
	put := message(nil).bytes(2, kv(4, 5))
	remove := message(nil).number(1, 1).bytes(2, message(nil).bytes(1, key(3)).number(3, 6))
	for what, whole := range map[string]message{
		"put":    message(nil).bytes(1, head).number(2, 1).bytes(11, put),
		"remove": message(nil).bytes(1, head).number(2, 1).bytes(11, remove),
		"both":   message(nil).bytes(1, head).number(2, 1).bytes(11, put).bytes(11, remove),
	} {
		want := map[string]string{"put": "10.0.0.3:80 10.0.0.4:80", "remove": "", "both": "10.0.0.4:80"}[what]
		for i := range whole {
			for j := range i + 1 {
				data := slices.Clone(whole)
				data[i] |= 0x80
				data[j] |= 0x80
				cl, err := New(Config{})
				if err != nil {
					t.Fatal(err)
				}
				r, err := cl.Resolver("orders", discovery.Defaults{})
				if err != nil {
					t.Fatal(err)
				}
				var got string
				one := &sub{Resolver: r, ctx: t.Context(), update: func(set []proxy.Endpoint) {
					var all []string
					for _, e := range set {
						all = append(all, e.String())
					}
					got = strings.Join(all, " ")
				}}
				one.load(listing{header{-3031163274307131350, 4}, []pair{{key: key(3), value: []byte("10.0.0.3:80")}}})
				one.publish()
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				s := &session{client: cl, last: 1, watch: map[int64]*sub{1: one}, subs: map[*sub]bool{one: true}, armed: true, ctx: ctx}
				h, err := parseHappened(data)
				if err == nil {
					err = s.hear(h)
				}
				one.publish()
				if err == nil && got != want && !one.suspect && one.retryAt.IsZero() && s.watch[1] != nil {
					t.Errorf("%s with bytes %d and %d hurt is read as %q, of %+v", what, i, j, got, h)
				}
			}
		}
	}
}

// FuzzWire: whatever a server says is read or refused.
func FuzzWire(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := parseListing(data); err == nil && (len(l.pairs) > len(data) || l.header.revision <= 0) {
			t.Errorf("%+v", l)
		}
		if h, err := parseHappened(data); err == nil && len(h.events) > len(data) {
			t.Errorf("%+v", h)
		}
	})
}

// FuzzValue: what is taken of a value can be used.
func FuzzValue(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := parseValue(data, discovery.Defaults{Mesh: true, Port: 15008, Identity: orders}); err == nil && discovery.Check(&e) != nil {
			t.Errorf("took %+v: %v", e, discovery.Check(&e))
		}
	})
}
