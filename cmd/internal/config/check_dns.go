package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// checkDNS finds what is wrong with the DNS server.
func (d *decoder) checkDNS(c *Config) {
	const at, suffix = "outbound.dns", "outbound.dns_suffix"
	o := &c.Outbound
	if l := o.DNS; l.On && !d.bad[at] && !l.Loopback() {
		d.report(d.places[at], at, "%s can be reached from other machines, for which its answers mean nothing; write 127.0.0.1:%d", l, l.Port)
	}
	o.DNSSuffix = strings.TrimSuffix(o.DNSSuffix, ".")
	if !d.bad[suffix] && o.DNSSuffix != "" {
		if err := checkHostName(o.DNSSuffix); err != nil {
			d.report(d.places[suffix], suffix, "%v", err)
		}
	}
	if !o.DNS.On && !d.bad[at] {
		for _, key := range []string{suffix, "outbound.dns_range", "outbound.dns_forward"} {
			if d.says(key) {
				d.warn(c, key, "has no effect without dns")
			}
		}
		return
	}
	d.checkDNSForward(o)
	for i := range c.Services {
		if s := &c.Services[i]; c.DNSPort(s) == 0 {
			d.warn(c, sub("services", s.Name), "its name has no address in outbound.dns: add port:, the one that its clients connect to, as in port: 5432")
		}
	}
}

// checkDNSForward finds the server among those that it asks itself.
func (d *decoder) checkDNSForward(o *Outbound) {
	const key = "outbound.dns_forward"
	if d.bad[key] {
		return
	}
	for i, server := range o.DNSForward {
		at := key
		if p := fmt.Sprintf("%s[%d]", key, i); d.places[p] != nil {
			at = p
		}
		if o.DNS.reaches(Target{Addr: server}) {
			d.report(d.places[at], at, "%v is %s, which would ask itself; write another name server", server, d.where("outbound.dns"))
		}
	}
}

// DNSPort is the port that is open where the name of s leads; 0 if none is known, or there is no DNS server.
func (c *Config) DNSPort(s *Service) uint16 {
	switch {
	case !c.Outbound.DNS.On:
		return 0
	case s.Port != 0:
		return s.Port
	case s.Listen.On && s.Listen.Unix == "":
		return s.Listen.Port
	}
	return 0
}

// NameServers are those of dns_forward, for who resolves names itself where the system's own would ask this sidecar; nil if none are given.
func (o *Outbound) NameServers() []netip.AddrPort {
	if !o.DNS.On {
		return nil
	}
	return o.DNSForward
}
