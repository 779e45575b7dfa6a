package upstream

import (
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/upstream/balance"
)

// Key says what makes requests belong together. At most one of its fields is set.
type Key struct {
	Field  string // the value of a field
	Cookie string // the value of a cookie
	Client bool   // the client's IP address
}

// of returns the key of req, if it has one.
func (k *Key) of(req *proxy.Request) (key uint64, ok bool) {
	var value string
	switch {
	case k.Field != "":
		value = req.Fields.Get(k.Field)
	case k.Cookie != "":
		value = cookie(req.Fields, k.Cookie)
	case k.Client && req.Client.IsValid():
		ip := req.Client.Addr().As16()
		return balance.Hash(ip[:]), true
	}
	return balance.Hash(value), value != ""
}

// cookie returns the value of a cookie, or "". HTTP/2 may have them in several fields (RFC 9113 section 8.2.3).
func cookie(fields proxy.Fields, name string) string {
	for i := range fields {
		if len(fields[i].Name) != len("Cookie") || !strings.EqualFold(fields[i].Name, "Cookie") {
			continue
		}
		for rest := fields[i].Value; rest != ""; {
			var one string
			one, rest, _ = strings.Cut(rest, ";")
			if k, v, found := strings.Cut(strings.TrimSpace(one), "="); found && k == name {
				return v
			}
		}
	}
	return ""
}

// subset is the value of the label that req asks for, "" for none.
func (svc *service) subset(req *proxy.Request) string {
	if svc.Subset == "" {
		return ""
	}
	return req.Fields.Get(svc.Subset)
}
