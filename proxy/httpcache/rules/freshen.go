package rules

import (
	"net/url"
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// Kept reports whether a field of an answer is stored. RFC 9111 section 3.1 leaves out what belongs to one connection or one proxy (the codecs have removed Connection
// and what it names), and 5.5 lets go of Warning.
func Kept(name string, drop []string) bool {
	switch {
	case strings.EqualFold(name, "Proxy-Authenticate"), strings.EqualFold(name, "Proxy-Authentication-Info"), strings.EqualFold(name, "Proxy-Authorization"),
		strings.EqualFold(name, "Warning"), strings.EqualFold(name, "Age"):
		return false
	}
	return !dropped(drop, name)
}

// Freshen merges the fields of a 304, or of an answer to HEAD, into stored ones. RFC 9111 section 3.2: "the cache MUST add each header field in the provided response to the
// stored response, replacing field values that are already present", with the exception of those that describe the stored content.
func Freshen(stored, with proxy.Fields) proxy.Fields {
	merged := make(proxy.Fields, 0, len(stored)+len(with))
	for _, f := range stored {
		if !freshens(f.Name) || !with.Has(f.Name) {
			merged = append(merged, f)
		}
	}
	for _, f := range with {
		if freshens(f.Name) {
			merged = append(merged, f)
		}
	}
	return merged
}

func freshens(name string) bool {
	switch len(name) {
	case len("Content-Length"): // Content-Range is one shorter, Content-Encoding longer
		return !strings.EqualFold(name, "Content-Length")
	case len("Content-Range"):
		return !strings.EqualFold(name, "Content-Range")
	case len("Content-Encoding"):
		return !strings.EqualFold(name, "Content-Encoding")
	case len("Content-Type"):
		return !strings.EqualFold(name, "Content-Type")
	}
	return true
}

// in304 reports whether a field goes into a 304 that a cache makes of a stored answer: not what describes a content that does not come.
func in304(name string) bool { return freshens(name) }

// For304 reports whether a stored field belongs into a 304.
func For304(name string) bool { return in304(name) }

// Origin is where a request went.
type Origin struct{ Scheme, Authority, Path string }

// Invalidated lists the paths, beside that of the request itself, that an answer to an unsafe request invalidates. RFC 9111 section 4.4: "A cache MAY invalidate other URIs when it
// receives a non-error status code [...]. In particular, the URI(s) in the Location and Content-Location response header fields (if present) are candidates [...].
// However, a cache MUST NOT trigger an invalidation under these conditions if the origin of the URI to be invalidated differs from that of the target URI".
func Invalidated(o Origin, fields proxy.Fields) []string {
	var paths []string
	for i := range fields {
		if !is(&fields[i], "Location") && !is(&fields[i], "Content-Location") {
			continue
		}
		if p, ok := o.resolve(fields[i].Value); ok && p != o.Path && !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return paths
}

// resolve returns the path and query of a reference, if it leads to the same origin.
func (o Origin) resolve(ref string) (string, bool) {
	if strings.HasPrefix(ref, "/") && !strings.HasPrefix(ref, "//") && !strings.Contains(ref, "#") && !strings.Contains(ref, "/.") {
		return ref, true
	}
	base, err := url.Parse(o.Path)
	if err != nil {
		return "", false
	}
	base.Scheme, base.Host = o.Scheme, o.Authority
	u, err := base.Parse(ref)
	if err != nil || !strings.EqualFold(u.Scheme, o.Scheme) || Authority(u.Host, u.Scheme) != Authority(o.Authority, o.Scheme) || u.User != nil {
		return "", false
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		path += "?" + u.RawQuery
	}
	return path, true
}

// Authority writes an authority in the form in which it is compared: in lower case, without the dot that may end a name and without the port that the scheme has anyway.
func Authority(a, scheme string) string {
	host, port := a, ""
	if i := strings.LastIndexByte(a, ':'); i >= 0 && !strings.HasSuffix(a, "]") {
		host, port = a[:i], a[i+1:]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if port == "" || port == "80" && scheme != "https" || port == "443" && scheme == "https" {
		return host
	}
	return host + ":" + port
}
