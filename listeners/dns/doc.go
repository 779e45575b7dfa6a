// Package dns answers the app's DNS questions on loopback. The name of a service, alone or below the suffix, gets a loopback address of its own, on
// which the service's port is really open, so that "psql -h db" just works; every other name is passed on to the system's
// name servers and their answer comes back as it is. Who opens the ports is not its matter.
//
// A name of a service exists whether or not the service is up: A has its address, SRV (_any._tcp.name) its port, PTR of the address its name, and
// every other type, AAAA first among them, is an empty answer (NODATA), so that clients go on with A at once. TTLs are short. Names
// below the suffix that are no service do not exist. No port, no address.
//
// Questions passed on keep their EDNS options and get an ID and a port of their own (RFC 5452). They go over UDP; over TCP if the answer is truncated and the client
// came over TCP; else the client hears that it is truncated. The listener never asks itself, and a chain of
// servers that leads back to it ends in SERVFAIL, because the same question is only passed on a few times at once.
//
// https://www.rfc-editor.org/rfc/rfc1035, RFC 2782 (SRV), RFC 6891 (EDNS).
package dns
