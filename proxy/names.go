package proxy

import "strings"

// Names is a set of names of fields, some of them in groups, that layers look for in every request and find in few. A codec that knows which of
// them a request has saves each layer a search.
type Names uint16

const (
	NamesKnown   Names = 1 << iota // somebody has looked: what is not in the set is not in Fields
	NamePath                       // Pillion-Path
	NameTo                         // ToField
	NameOwn                        // any other that begins with "Pillion-"
	NameDeadline                   // grpc-timeout, X-Request-Timeout-Ms, x-envoy-expected-rq-timeout-ms
	NameClaim                      // who calls: Forwarded, X-Forwarded-For, X-Forwarded-Client-Cert, X-Pillion-Identity; also with underscores
	NameTrace                      // traceparent, tracestate, b3, and all that begin with "X-B3-"
	NameHost                       // Host
	NameLength                     // Content-Length
	NameType                       // Content-Type
)

// NamesOf returns what of the set a field's name is, or nothing. Most names are told from their length or their first letter.
func NamesOf(name string) Names {
	if len(name) < 2 {
		return 0
	}
	switch name[0] | 0x20 {
	case 'p':
		if len(name) > len("Pillion-") && sameLetters(name[:len("Pillion-")], "pillion-") {
			return nameOwn(name)
		}
	case 'x':
		return nameX(name)
	case 't':
		if len(name) == len("traceparent") && sameLetters(name, "traceparent") || len(name) == len("tracestate") && sameLetters(name, "tracestate") {
			return NameTrace
		}
	case 'b':
		if len(name) == 2 && name[1] == '3' {
			return NameTrace
		}
	case 'f':
		if len(name) == len("forwarded") && sameLetters(name, "forwarded") {
			return NameClaim
		}
	case 'g':
		if len(name) == len("grpc-timeout") && sameLetters(name, "grpc-timeout") {
			return NameDeadline
		}
	case 'h':
		if len(name) == len("host") && sameLetters(name, "host") {
			return NameHost
		}
	case 'c':
		if len(name) == len("content-length") && sameLetters(name, "content-length") {
			return NameLength
		}
		if len(name) == len("content-type") && sameLetters(name, "content-type") {
			return NameType
		}
	}
	return 0
}

func nameOwn(name string) Names {
	switch {
	case SameName(name, "Pillion-Path"):
		return NamePath
	case SameName(name, ToField):
		return NameTo
	}
	return NameOwn
}

func nameX(name string) Names {
	switch len(name) {
	case len("x-forwarded-for"):
		if sameDashed(name, "x-forwarded-for") {
			return NameClaim
		}
	case len("x-pillion-identity"):
		if sameDashed(name, "x-pillion-identity") {
			return NameClaim
		}
	case len("x-forwarded-client-cert"):
		if sameDashed(name, "x-forwarded-client-cert") {
			return NameClaim
		}
	case len("x-request-timeout-ms"):
		if sameLetters(name, "x-request-timeout-ms") {
			return NameDeadline
		}
	case len("x-envoy-expected-rq-timeout-ms"):
		if sameLetters(name, "x-envoy-expected-rq-timeout-ms") {
			return NameDeadline
		}
	}
	if len(name) > len("x-b3-") && sameLetters(name[:len("x-b3-")], "x-b3-") {
		return NameTrace
	}
	return 0
}

// sameLetters compares a name with one in lower case of the same length.
func sameLetters(name, lower string) bool {
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// sameDashed is sameLetters with underscores taken for dashes: many apps cannot tell them apart.
func sameDashed(name, lower string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '_':
			c = '-'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// Lacks reports whether Fields surely have no line with any of these names. Of a request that no codec has looked through it is false. A layer that adds one of these
// for layers behind it to find says so by Gains.
func (r *Request) Lacks(n Names) bool { return r.Names&(n|NamesKnown) == NamesKnown }

// Gains notes that Fields may have lines with these names from now on.
func (r *Request) Gains(n Names) { r.Names |= n }

// Lacks is that of Request, for the fields that the answer came with.
func (r *Response) Lacks(n Names) bool { return r.Names&(n|NamesKnown) == NamesKnown }

// Secret reports whether a field with this name has a value that no memory of a codec may keep: neither a compression table (RFC 7541 section 7.1.3, RFC 9204 section 7.1.3)
// nor that of lines of HTTP/1.
func Secret(name string) bool {
	switch len(name) {
	case len("cookie"):
		return strings.EqualFold(name, "cookie")
	case len("set-cookie"):
		return strings.EqualFold(name, "set-cookie")
	case len("authorization"):
		return strings.EqualFold(name, "authorization")
	case len("proxy-authorization"):
		return strings.EqualFold(name, "proxy-authorization")
	}
	return false
}
