// Package dns is the discovery source that resolves a name: A and AAAA, or SRV (RFC 2782) or SVCB records (RFC 9460) and then the addresses of the hosts
// they name, again and again as their TTLs say.
//
// Of SRV, the priority becomes the endpoint's, and the weight, too, shared by the addresses of its host. Of SVCB, the priority, the port, and
// alias records are followed; hints of addresses are used until the host itself can be asked; what depends on unknown keys is ignored.
//
// It is a stub resolver of its own, because the standard library's hides TTLs and cannot tell "there is no such
// name" from every kind of failure. Like that of the C library it honours /etc/hosts and /etc/resolv.conf (nameserver, search,
// domain, ndots, timeout, attempts, rotate, use-vc), both read anew at each lookup. Names are asked over UDP, and over TCP when
// the answer says that it is truncated. https://www.rfc-editor.org/rfc/rfc1035
//
// # When DNS has no answer
//
// A failure (no server answers, SERVFAIL, REFUSED, nonsense) says nothing about the endpoints: the last good ones stay, for as long
// as it lasts, and the lookup is repeated with back-off. If only one of A and AAAA fails, the last good addresses of that family stay.
// With records, the same holds for the records and for each of the hosts by itself.
// A failure also ends the walk through the search list, lest the name be found in another domain.
//
// "There is no such name" (NXDOMAIN), or a name without addresses, is an answer. As the first one it is believed at once: the set is
// empty and requests fail quickly. Later it empties the set only after it has been repeated three times over 30 seconds, because
// a server that is restarting, or a zone that is being reloaded, often says so for a moment, while endpoints that are really gone only cost refused
// connections.
//
// An SRV target, or an SVCB alias, of "." says that there decidedly is no service: that is believed at once.
package dns
