package dns

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/discovery/dns/resolvconf"
)

// FuzzParse checks that no packet harms the process, and that what is accepted makes sense.
func FuzzParse(f *testing.F) {
	const id = 0x1234
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("billing.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeSRV, dnsmessage.TypeSVCB} {
			other := q
			other.Type = kind
			a, err := parse(msg, id, other)
			if len(a.records) > len(msg)/12 || err != nil && len(a.records) > 0 {
				t.Errorf("%d records out of %d bytes, %v", len(a.records), len(msg), err)
			}
		}
		a, err := parse(msg, id, q)
		if err != nil && len(a.addrs) > 0 {
			t.Errorf("both addresses and %v", err)
		}
		if len(a.addrs) > len(msg)/12 {
			t.Errorf("%d addresses out of %d bytes", len(a.addrs), len(msg))
		}
		if a.ttl < 0 {
			t.Errorf("TTL %v", a.ttl)
		}
		for _, ip := range a.addrs {
			if !ip.IsValid() || ip.Is4In6() {
				t.Errorf("address %v", ip)
			}
		}
	})
}

// FuzzFiles does the same for the two files.
func FuzzFiles(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		rc := resolvconf.Parse(text)
		if len(rc.Servers) == 0 || len(rc.Servers) > 3 || rc.Attempts < 1 || rc.Timeout <= 0 || rc.Ndots < 0 {
			t.Errorf("resolv.conf %q = %+v", text, rc)
		}
		for _, name := range candidates(rc, "billing") {
			if err := resolvconf.CheckName(name); err != nil {
				t.Errorf("candidate %q: %v", name, err)
			}
		}
		parseHosts(text, "billing")
	})
}
