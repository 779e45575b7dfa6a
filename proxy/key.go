package proxy

import "strings"

// Key says what makes requests belong together. At most one of its fields is set; the zero value is nothing.
type Key struct {
	Field  string // the value of a field
	Cookie string // the value of a cookie
	Client bool   // the client's IP address
}

// Of returns a hash of what req has there, and whether it has anything. It is the same on every machine.
func (k *Key) Of(req *Request) (hash uint64, ok bool) {
	var value string
	switch {
	case k.Field != "":
		value = req.Fields.Get(k.Field)
	case k.Cookie != "":
		value = cookie(req.Fields, k.Cookie)
	case k.Client && req.Client.IsValid():
		ip := req.Client.Addr().As16()
		return Hash(ip[:]), true
	}
	if value == "" {
		return 0, false
	}
	return Hash(value), true
}

// cookie returns the value of a cookie, or "". HTTP/2 may have them in several fields (RFC 9113 section 8.2.3).
func cookie(fields Fields, name string) string {
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

// Hash spreads texts over all numbers, the same on every machine: FNV-1a, and then splitmix64's end, because FNV spreads little into the highest bits.
func Hash[T string | []byte](s T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}
