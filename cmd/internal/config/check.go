package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// check fills the defaults that depend on other keys, and finds what is wrong between keys.
func (d *decoder) check(c *Config) {
	if n := d.places["service"]; n != nil && !d.bad["service"] {
		if err := CheckServiceName(c.Service); err != nil {
			d.report(n, "service", "%v", err)
		}
	}
	d.checkKubernetes(c)
	d.checkRegistries(c)
	d.checkXDS(c)
	d.checkIdentity(c)
	d.checkPeer(c)
	d.checkCache(c)
	d.checkAdmin(c)
	d.checkApps(c)
	d.checkServices(c)
	d.checkDNS(c)
	d.checkHTTP3(c)
	d.checkListens(c)
	d.checkTracing(c)
	d.checkAccessLog(c)
	d.checkLoops(c)
}

// warn notes what is allowed and yet probably not meant.
func (d *decoder) warn(c *Config, key, format string, args ...any) {
	c.Warnings = append(c.Warnings, d.problem(d.places[key], key, format, args...))
}

func (d *decoder) checkAdmin(c *Config) {
	const key = "admin.token"
	a := c.Admin
	d.checkToken(key, a.Token)
	d.checkToken("admin.write_token", a.WriteToken)
	if a.WriteToken != "" && a.WriteToken == a.Token {
		d.report(d.places["admin.write_token"], "admin.write_token", "is the same as token, so that who may look may change things; write another one")
	}
	if !a.Listen.Loopback() && a.Token == "" && !d.bad[key] {
		d.report(d.places["admin.listen"], "admin.listen", "%s can be reached from other machines; add a token to admin, or write 127.0.0.1:%d", a.Listen, a.Listen.Port)
	}
}

func (d *decoder) checkToken(key, token string) {
	n := d.places[key]
	switch {
	case n == nil || d.bad[key]:
	case len(token) < 16:
		d.report(n, key, "too short to be secret; write 16 characters or more, as from: openssl rand -hex 16")
	case strings.Trim(token, " ") != token || !printable(token):
		d.report(n, key, "a token is made of visible ASCII characters; write one as from: openssl rand -hex 16")
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (d *decoder) checkApps(c *Config) {
	ports := make(map[appPort]string)
	for i := range c.App {
		a := &c.App[i]
		path := d.appPath(i)
		portKey, toKey := sub(path, "port"), sub(path, "to")
		hasPort, hasTo := d.places[portKey] != nil, d.places[toKey] != nil
		switch {
		case d.bad[portKey] || d.bad[toKey] || d.bad[path]:
			continue
		case !hasPort && !hasTo:
			d.report(d.places[path], path, "says nothing; write the port that the app listens on, as in port: 8080")
			continue
		case !hasPort && a.To.Unix != "":
			d.report(d.places[toKey], toKey, "a socket has no port; add port:, the one that peers ask for, as in {port: 8080, to: %q}", a.To.String())
			continue
		case !hasPort:
			a.Port = a.To.Addr.Port()
			portKey = toKey
		case !hasTo:
			a.To = Target{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port)}
		}
		if a.Protocol.UDP() && a.To.Unix != "" {
			d.report(d.places[toKey], toKey, "datagrams go to an address and port, not to a socket; write one, as in 127.0.0.1:%d", a.Port)
			continue
		}
		if at := sub(path, "proxy_protocol"); a.Protocol.UDP() && a.ProxyProtocol == ProxyV1 {
			d.report(d.places[at], at, "version 1 knows no datagrams; write v2")
			continue
		}
		if at := sub(path, "streams"); a.Streams == StreamsRefuse && (a.Protocol == AppTCP || a.Protocol.UDP()) {
			d.report(d.places[at], at, "protocol %s takes no requests, so that nothing would be left; remove this line, or write protocol: http", a.Protocol)
			continue
		}
		if first := a.claim(ports, portKey); first != "" {
			d.report(d.places[portKey], portKey, "port %d is also %s; give each its own, as in {port: %d, to: ...}", a.Port, d.where(first), a.Port+1)
			continue
		}
		if d.says(sub(path, "idle")) && (a.Protocol == AppTCP || a.Protocol.UDP()) {
			d.warn(c, sub(path, "idle"), "has no effect: connections of protocol %s are not kept", a.Protocol)
		}
	}
}

// appPort is what two entries may not share.
type appPort struct {
	number uint16
	udp    bool
}

// claim notes that the entry at key has its port, or returns the key of the one that has it already.
func (a *App) claim(ports map[appPort]string, key string) (first string) {
	for _, udp := range []bool{false, true} {
		if udp && !a.Protocol.UDP() || !udp && !a.Protocol.TCP() {
			continue
		}
		p := appPort{a.Port, udp}
		if ports[p] != "" {
			return ports[p]
		}
		ports[p] = key
	}
	return ""
}

// appPath is the path of entry i, which is "app" in the short form of one entry.
func (d *decoder) appPath(i int) string {
	if path := fmt.Sprintf("app[%d]", i); d.places[path] != nil {
		return path
	}
	return "app"
}

func (d *decoder) checkServices(c *Config) {
	for i := range c.Services {
		s := &c.Services[i]
		path := sub("services", s.Name)
		d.checkEndpoints(s, sub(path, "endpoints"))
		d.checkRoutes(c, s, path)
		d.checkBalance(c, s, path)
		d.checkSplits(c, s, path)
		d.checkWayIn(c, path, s.Listen, s.ProxyProtocol)
		if s.Listen.On || d.bad[sub(path, "listen")] {
			d.checkServiceProtocol(c, s, path)
			continue
		}
		if c.DNSPort(s) != 0 {
			continue
		}
		if d.says(sub(path, "protocol")) {
			d.warn(c, sub(path, "protocol"), "has no effect without listen")
		}
		if !c.Outbound.Listen.On && !d.bad["outbound.listen"] {
			d.warn(c, path, "cannot be reached by the app: outbound.listen is none and the service has no listen")
		}
	}
	d.checkWayIn(c, "outbound", c.Outbound.Listen, c.Outbound.ProxyProtocol)
	if l := c.Outbound.Listen; !l.Loopback() {
		d.warn(c, "outbound.listen", "%s lets other machines call peers with the identity of this service; write 127.0.0.1:%d unless that is meant", l, l.Port)
	}
}

// checkWayIn warns of what says something about a listener that it cannot mean.
func (d *decoder) checkWayIn(c *Config, path string, l Listen, h ProxyHeader) {
	socket, from := sub(path, "socket"), sub(path, "proxy_protocol.from")
	if d.bad[sub(path, "listen")] {
		return
	}
	if d.says(socket) && l.Unix == "" {
		d.warn(c, socket, "has no effect: listen is no socket, as in listen: unix:/run/pillion.sock")
	}
	switch {
	case d.places[from] == nil || d.bad[from]:
	case !l.On:
		d.warn(c, from, "has no effect without listen")
	case l.Unix == "" && h.From.Unix:
		d.warn(c, from, "unix has no effect: listen is no socket")
	case l.Unix != "" && len(h.From.Nets) > 0:
		d.warn(c, from, "networks have no effect: listen is a socket, whose clients have no address; write unix")
	}
}

// checkServiceProtocol is for a service with a port of its own.
func (d *decoder) checkServiceProtocol(c *Config, s *Service, path string) {
	if s.Protocol != ServiceHTTP && s.Protocol != ServiceAuto && d.says(sub(path, "timeout")) {
		d.warn(c, sub(path, "timeout"), "has no effect on listen: protocol %s has no requests", s.Protocol)
	}
	if s.Protocol.UDP() && s.Listen.Unix != "" {
		d.report(d.places[sub(path, "listen")], sub(path, "listen"), "datagrams come to an address and port, not to a socket; write one, as in 127.0.0.1:5353")
	}
	if !s.Protocol.UDP() && d.says(sub(path, "flow_idle")) {
		d.warn(c, sub(path, "flow_idle"), "has no effect: it is for protocol udp")
	}
	if !s.Protocol.UDP() && d.says(sub(path, "cache.dns")) {
		d.warn(c, sub(path, "cache.dns"), "has no effect: it is for protocol udp")
	}
	for i := range s.Routes {
		if at := fmt.Sprintf("%s[%d].cache.dns", sub(path, "routes"), i); d.says(at) {
			d.warn(c, at, "has no effect: datagrams take no route")
		}
	}
}

// checkEndpoints fills in ports: the sidecar's, or else there must be one.
func (d *decoder) checkEndpoints(s *Service, path string) {
	if d.bad[path] {
		return
	}
	e := &s.Endpoints
	if e.DNS != "" && e.Kind == DNSHosts && e.Port == 0 {
		if !s.Mesh {
			d.report(d.places[path], path, "has no port; with mesh: false write the app's, as in dns:%s:8080", e.DNS)
			return
		}
		e.Port = PeerPort
	}
	for i := range e.Static {
		t := &e.Static[i]
		at := path
		if p := fmt.Sprintf("%s[%d]", path, i); d.places[p] != nil {
			at = p
		}
		switch {
		case t.Unix != "" && s.Mesh:
			d.report(d.places[at], at, "no sidecar listens on a socket; write its address, or add mesh: false")
		case t.Unix != "" || t.Addr.Port() != 0:
		case !s.Mesh:
			d.report(d.places[at], at, "has no port; with mesh: false write the app's, as in %s", netip.AddrPortFrom(t.Addr.Addr(), 8080))
		default:
			t.Addr = netip.AddrPortFrom(t.Addr.Addr(), PeerPort)
		}
	}
}

// waiting is one listener of the configuration.
type waiting struct {
	key      string
	listen   Listen
	tcp, udp bool
}

func (d *decoder) listens(c *Config) []waiting {
	all := []waiting{{"peer.listen", c.Peer.Listen, true, c.Peer.Transport != OverTCP}, {"outbound.listen", c.Outbound.Listen, true, false}, {"admin.listen", c.Admin.Listen, true, false},
		{"outbound.dns", c.Outbound.DNS, true, true}, {"outbound.http3", c.Outbound.HTTP3, false, true}}
	for _, s := range c.Services {
		all = append(all, waiting{"services." + s.Name + ".listen", s.Listen, s.Protocol.TCP(), s.Protocol.UDP()})
	}
	kept := all[:0]
	for _, w := range all {
		if w.listen.On && !d.bad[w.key] {
			kept = append(kept, w)
		}
	}
	return kept
}

// checkListens finds two listeners on one address.
func (d *decoder) checkListens(c *Config) {
	all := d.listens(c)
	for i, a := range all {
		for _, b := range all[:i] {
			if !(a.tcp && b.tcp || a.udp && b.udp) || !a.listen.overlaps(b.listen) {
				continue
			}
			if d.places[a.key] == nil { // a default: the mistake is where something was written
				a, b = b, a
			}
			d.report(d.places[a.key], a.key, "%s is taken by %s; choose another port", a.listen, d.where(b.key))
			break
		}
	}
}

// where names a key and, if it was written and not a default, its line.
func (d *decoder) where(key string) string {
	n := d.places[key]
	switch {
	case n == nil:
		return key + " (its default)"
	case d.flags[n] != "":
		return d.flags[n]
	default:
		return fmt.Sprintf("%s (line %d)", key, n.Line)
	}
}

// overlaps reports whether both cannot be bound at the same time.
func (l Listen) overlaps(o Listen) bool {
	if l.Unix != "" || o.Unix != "" {
		return l.Unix == o.Unix
	}
	if l.Port != o.Port || l.Port == 0 {
		return false
	}
	return l.serves(o.IP) || o.serves(l.IP)
}

// serves reports whether a connection to ip arrives at l, its port left aside. The zero ip stands for every address.
func (l Listen) serves(ip netip.Addr) bool {
	switch {
	case !l.IP.IsValid():
		return true
	case !ip.IsValid():
		return false
	case l.IP == ip:
		return true
	case !l.IP.IsUnspecified():
		return false
	default:
		return l.IP.Is6() || ip.Is4()
	}
}

// reaches reports whether a connection to t arrives at l on this machine. Of addresses that are not loopback
// it is only known when l names them.
func (l Listen) reaches(t Target) bool {
	if l.Unix != "" || t.Unix != "" {
		return l.Unix == t.Unix
	}
	if l.Port == 0 || l.Port != t.Addr.Port() {
		return false
	}
	ip := t.Addr.Addr()
	return l.IP == ip || ip.IsLoopback() && l.serves(ip)
}

// checkLoops finds targets that are listeners of our own.
func (d *decoder) checkLoops(c *Config) {
	all := d.listens(c)
	for i, a := range c.App {
		key := sub(d.appPath(i), "to")
		if d.places[key] == nil {
			key = sub(d.appPath(i), "port")
		}
		for _, w := range all {
			if d.bad[key] || d.places[key] == nil || !w.listen.reaches(a.To) || !(w.tcp && a.Protocol.TCP() || w.udp && a.Protocol.UDP()) {
				continue
			}
			d.report(d.places[key], key, "%s is %s, pillion's own: calls would go round in a circle; write where the app listens", a.To, d.where(w.key))
		}
	}
	for _, s := range c.Services {
		for i, t := range s.Endpoints.Static {
			d.checkEndpointLoop(c, all, s, i, t)
		}
	}
}

func (d *decoder) checkEndpointLoop(c *Config, all []waiting, s Service, i int, t Target) {
	key := "services." + s.Name + ".endpoints"
	if p := fmt.Sprintf("%s[%d]", key, i); d.places[p] != nil {
		key = p
	}
	for _, w := range all {
		if d.bad[key] || !w.listen.reaches(t) {
			continue
		}
		if w.key == "peer.listen" && s.Mesh && s.Identity == c.ID() {
			continue // calls to the service of this very sidecar
		}
		d.report(d.places[key], key, "%s is %s, pillion's own; write where %s runs", t, d.where(w.key), s.Name)
	}
}

// expand returns the SPIFFE ID that a name stands for, or reports one of another trust domain.
func (d *decoder) expand(c *Config, key string, id proxy.Identity) proxy.Identity {
	if d.bad[key] || d.bad["identity.trust_domain"] || c.Identity.TrustDomain == "" {
		return id
	}
	if !strings.Contains(string(id), "/") {
		return proxy.NewIdentity(c.Identity.TrustDomain, string(id))
	}
	if id.TrustDomain() != c.Identity.TrustDomain {
		d.report(d.places[key], key, "%s is of another trust domain than this sidecar's, %s, and can never connect", id, c.Identity.TrustDomain)
	}
	return id
}
