package dns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// record is one place that an SRV or SVCB record names.
type record struct {
	target   string // in lower case, with a dot at its end; "." of SRV: there is no service
	port     uint16 // 0: none is said
	priority int    // the lowest are used while any of them can be reached
	weight   int    // relative, among the same priority; 0 is as little as can be
	alias    bool   // SVCB: target has the records
	hints    []netip.Addr
}

// fromSRV: RFC 2782.
func fromSRV(v dnsmessage.SRVResource) record {
	return record{target: strings.ToLower(v.Target.String()), port: v.Port, priority: int(v.Priority), weight: int(v.Weight)}
}

// fromSVCB reads a record of owner. ok is false for one that must be ignored: it "depends on" keys that we do not know (RFC 9460 section 8).
func fromSVCB(owner string, v dnsmessage.SVCBResource) (r record, ok bool) {
	r = record{target: strings.ToLower(v.Target.String()), priority: int(v.Priority), alias: v.Priority == 0, weight: 1}
	if r.target == "." && !r.alias { // RFC 9460 section 2.5.2: "." is the owner's name
		r.target = owner
	}
	for _, p := range v.Params {
		switch p.Key {
		case dnsmessage.SVCParamMandatory:
			if !knownKeys(p.Value) {
				return record{}, false
			}
		case dnsmessage.SVCParamPort:
			if len(p.Value) != 2 {
				return record{}, false
			}
			r.port = binary.BigEndian.Uint16(p.Value)
		case dnsmessage.SVCParamIPv4Hint:
			r.hints = append(r.hints, hints(p.Value, 4)...)
		case dnsmessage.SVCParamIPv6Hint:
			r.hints = append(r.hints, hints(p.Value, 16)...)
		}
	}
	return r, true
}

// knownKeys reports whether the value of "mandatory" names only keys that are understood, or mean nothing to a link: which protocols
// an endpoint speaks is found out by connecting.
func knownKeys(value []byte) bool {
	known := []dnsmessage.SVCParamKey{
		dnsmessage.SVCParamALPN, dnsmessage.SVCParamNoDefaultALPN, dnsmessage.SVCParamPort, dnsmessage.SVCParamIPv4Hint, dnsmessage.SVCParamIPv6Hint,
	}
	for ; len(value) >= 2; value = value[2:] {
		if !slices.Contains(known, dnsmessage.SVCParamKey(binary.BigEndian.Uint16(value))) {
			return false
		}
	}
	return len(value) == 0
}

func hints(value []byte, size int) []netip.Addr {
	var all []netip.Addr
	for ; len(value) >= size; value = value[size:] {
		if a, ok := netip.AddrFromSlice(value[:size]); ok {
			all = append(all, a.Unmap())
		}
	}
	return all
}
