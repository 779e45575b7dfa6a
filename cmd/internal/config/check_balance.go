package config

import (
	"fmt"
	"strings"

	"github.com/pillion-proxy/pillion/proxy/routing"
)

// checkBalance finds what is wrong between the keys of balance and health of a service.
func (d *decoder) checkBalance(c *Config, s *Service, path string) {
	b, at := &s.Balance, sub(path, "balance")
	key := sub(at, "key")
	d.checkKey(key, b.Key)
	switch {
	case b.Policy.Hashes() && b.Key == "" && !d.bad[key] && !d.bad[sub(at, "policy")]:
		d.report(d.places[sub(at, "policy")], sub(at, "policy"), "%s needs a key; write key: header:NAME, cookie:NAME or client", b.Policy)
	case !b.Policy.Hashes() && b.Key != "" && !d.bad[key]:
		d.warn(c, key, "has no effect: policy %s goes by no key", b.Policy)
	}
	sn := &b.Subset
	for _, x := range []struct{ have, want, value string }{{"header", "label", sn.Label}, {"label", "header", sn.Header}} {
		if have := sub(at, "subset."+x.have); d.says(have) && x.value == "" && !d.bad[have] {
			d.report(d.places[have], have, "stands alone; write %s beside it, as in subset: {header: x-version, label: version}", x.want)
		}
	}
	if name := sub(at, "subset.header"); sn.Header != "" && !d.bad[name] {
		if err := routing.CheckFieldName(sn.Header); err != nil {
			d.report(d.places[name], name, "%v", err)
		}
	}
	d.checkHealth(c, s, sub(path, "health"))
}

// checkKey checks header:NAME, cookie:NAME or client.
func (d *decoder) checkKey(path string, k KeyFrom) {
	if d.places[path] == nil || d.bad[path] {
		return
	}
	if err := k.check(); err != nil {
		d.report(d.places[path], path, "%v", err)
	}
}

func (k KeyFrom) check() error {
	kind, name, named := strings.Cut(string(k), ":")
	switch {
	case k == "client":
		return nil
	case named && (kind == "header" || kind == "cookie"):
		if err := routing.CheckFieldName(name); err != nil {
			return fmt.Errorf("%q is no name of a %s", clip(name), kind)
		}
		return nil
	}
	return fmt.Errorf("%q is no key; write header:NAME, cookie:NAME or client", clip(string(k)))
}

// Header, Cookie and Client are what k says; one of them at most is set.
func (k KeyFrom) Header() string { return k.after("header:") }

// Cookie is the name of the cookie, or "".
func (k KeyFrom) Cookie() string { return k.after("cookie:") }

// Client reports whether it is the client's address.
func (k KeyFrom) Client() bool { return k == "client" }

func (k KeyFrom) after(prefix string) string {
	if name, ok := strings.CutPrefix(string(k), prefix); ok {
		return name
	}
	return ""
}

func (d *decoder) checkHealth(c *Config, s *Service, path string) {
	h := &s.Health
	if key := sub(path, "timeout"); h.Check != NoCheck && h.Timeout > h.Interval && !d.bad[key] && !d.bad[sub(path, "interval")] {
		at := key
		if d.places[at] == nil {
			at = sub(path, "interval")
		}
		d.report(d.places[at], at, "a check may take longer than the time between two; write a timeout of %s at most", formatDuration(h.Interval))
	}
	if key := sub(path, "path"); d.places[key] != nil && !d.bad[key] && !strings.HasPrefix(h.Path, "/") {
		d.report(d.places[key], key, "%q does not begin with /; write a path, as in /healthz", clip(h.Path))
	}
	if e, key := &h.Ejection, sub(path, "ejection.max"); e.Max < e.Base && !d.bad[key] && !d.bad[sub(path, "ejection.base")] {
		at := key
		if d.places[at] == nil {
			at = sub(path, "ejection.base")
		}
		d.report(d.places[at], at, "the longest ejection would be shorter than the first; write max: %s or more", formatDuration(e.Base))
	}
	kinds := map[string][]CheckKind{
		"path": {CheckHTTP}, "service": {CheckGRPC}, "port": {CheckHTTP, CheckGRPC, CheckTCP}, "interval": {CheckHTTP, CheckGRPC, CheckTCP},
		"timeout": {CheckHTTP, CheckGRPC, CheckTCP}, "healthy": {CheckHTTP, CheckGRPC, CheckTCP}, "unhealthy": {CheckHTTP, CheckGRPC, CheckTCP},
	}
	for _, name := range []string{"path", "service", "port", "interval", "timeout", "healthy", "unhealthy"} {
		useful := false
		for _, k := range kinds[name] {
			useful = useful || k == h.Check
		}
		if key := sub(path, name); d.says(key) && !useful && !d.bad[key] {
			d.warn(c, key, "has no effect with check: %s", h.Check)
		}
	}
}
