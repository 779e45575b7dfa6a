package httpcache

import (
	"hash/maphash"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// key is the primary key of a request: as text, which is compared, and as its hash, by which it is found. The text points into a buffer
// of whoever makes the key.
type key struct {
	hash uint64
	text []byte
}

// keyRoom is the size of the buffer for the text of a key; longer ones cost an allocation.
const keyRoom = 384

// portMark divides a service's name and port in keys. It is in no name, and not a colon: "app:80" is this sidecar's own app, and never port 80 of a service app.
const portMark = '/'

// siteOf is the name of the service in the text of a key.
func siteOf(text string) string {
	name, _, _ := strings.Cut(text, " ")
	name, _, _ = strings.Cut(name, string(portMark))
	return name
}

// appendKey appends service, authority and path, divided by spaces, which are in none of them. Authorities are in lower case and without the port that the scheme
// has anyway: how a client writes them must not matter. The path is as it came, byte for byte: what an app takes for the same is not known here.
func appendKey(b []byte, service proxy.Service, scheme, authority, path string) []byte {
	b = append(b, service.Name...)
	if service.Port != 0 {
		b = append(b, portMark)
		b = strconv.AppendUint(b, uint64(service.Port), 10)
	}
	b = append(b, ' ')
	if scheme == "https" {
		b = append(b, "https://"...)
	}
	b = appendAuthority(b, scheme, authority)
	b = append(b, ' ')
	return append(b, path...)
}

func appendAuthority(b []byte, scheme, a string) []byte {
	host, port := a, ""
	if i := strings.LastIndexByte(a, ':'); i >= 0 && !strings.HasSuffix(a, "]") {
		host, port = a[:i], a[i+1:]
	}
	host = strings.TrimSuffix(host, ".")
	for i := range len(host) {
		c := host[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	if port == "" || port == "80" && scheme != "https" || port == "443" && scheme == "https" {
		return b
	}
	b = append(b, ':')
	return append(b, port...)
}

func (c *Cache) hash(text []byte) uint64 { return maphash.Bytes(c.seed, text) }

// resource finds what is kept under a key, and nothing that merely has the same hash.
func (c *Cache) resource(k key) *resource {
	r, ok := c.store.Get(k.hash)
	if !ok || r.key != string(k.text) {
		return nil
	}
	return r
}

// pathOf is the path within the text of a key.
func pathOf(text string) string {
	_, rest, _ := strings.Cut(text, " ")
	_, rest, _ = strings.Cut(rest, " ")
	path, _, _ := strings.Cut(rest, " ") // what follows is the mark of a unary call
	return path
}
