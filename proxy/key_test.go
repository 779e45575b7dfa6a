package proxy

import (
	"net/netip"
	"testing"
)

func TestKey(t *testing.T) {
	client := netip.MustParseAddrPort("10.1.2.3:4000")
	req := &Request{Client: client, Fields: Fields{{Name: "X-User", Value: "u"}, {Name: "cookie", Value: "a=1;b=2"}, {Name: "Cookie", Value: "c=3"}}}
	ip := client.Addr().As16()
	for _, c := range []struct {
		key  Key
		want uint64
		ok   bool
	}{
		{Key{}, 0, false},
		{Key{Field: "x-user"}, Hash("u"), true},
		{Key{Field: "x-other"}, 0, false},
		{Key{Cookie: "b"}, Hash("2"), true},
		{Key{Cookie: "c"}, Hash("3"), true},
		{Key{Cookie: "d"}, 0, false},
		{Key{Client: true}, Hash(ip[:]), true},
	} {
		got, ok := c.key.Of(req)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%+v: %x %v, want %x %v", c.key, got, ok, c.want, c.ok)
		}
	}
}

func TestKeyDoesNotAllocate(t *testing.T) {
	req := &Request{Client: netip.MustParseAddrPort("10.1.2.3:4000"), Fields: Fields{{Name: "Cookie", Value: "a=1; session=xyz"}}}
	for _, k := range []Key{{Client: true}, {Cookie: "session"}, {Field: "cookie"}} {
		if n := testing.AllocsPerRun(100, func() { k.Of(req) }); n != 0 {
			t.Errorf("%+v: %v allocations, want 0", k, n)
		}
	}
}
