package http3

// staticTable is that of RFC 9204 appendix A. It is never written to.
var staticTable = [...]struct{ name, value string }{
	{":authority", ""},
	{":path", "/"},
	{"age", "0"},
	{"content-disposition", ""},
	{"content-length", "0"},
	{"cookie", ""},
	{"date", ""},
	{"etag", ""},
	{"if-modified-since", ""},
	{"if-none-match", ""},
	{"last-modified", ""},
	{"link", ""},
	{"location", ""},
	{"referer", ""},
	{"set-cookie", ""},
	{":method", "CONNECT"},
	{":method", "DELETE"},
	{":method", "GET"},
	{":method", "HEAD"},
	{":method", "OPTIONS"},
	{":method", "POST"},
	{":method", "PUT"},
	{":scheme", "http"},
	{":scheme", "https"},
	{":status", "103"},
	{":status", "200"},
	{":status", "304"},
	{":status", "404"},
	{":status", "503"},
	{"accept", "*/*"},
	{"accept", "application/dns-message"},
	{"accept-encoding", "gzip, deflate, br"},
	{"accept-ranges", "bytes"},
	{"access-control-allow-headers", "cache-control"},
	{"access-control-allow-headers", "content-type"},
	{"access-control-allow-origin", "*"},
	{"cache-control", "max-age=0"},
	{"cache-control", "max-age=2592000"},
	{"cache-control", "max-age=604800"},
	{"cache-control", "no-cache"},
	{"cache-control", "no-store"},
	{"cache-control", "public, max-age=31536000"},
	{"content-encoding", "br"},
	{"content-encoding", "gzip"},
	{"content-type", "application/dns-message"},
	{"content-type", "application/javascript"},
	{"content-type", "application/json"},
	{"content-type", "application/x-www-form-urlencoded"},
	{"content-type", "image/gif"},
	{"content-type", "image/jpeg"},
	{"content-type", "image/png"},
	{"content-type", "text/css"},
	{"content-type", "text/html; charset=utf-8"},
	{"content-type", "text/plain"},
	{"content-type", "text/plain;charset=utf-8"},
	{"range", "bytes=0-"},
	{"strict-transport-security", "max-age=31536000"},
	{"strict-transport-security", "max-age=31536000; includesubdomains"},
	{"strict-transport-security", "max-age=31536000; includesubdomains; preload"},
	{"vary", "accept-encoding"},
	{"vary", "origin"},
	{"x-content-type-options", "nosniff"},
	{"x-xss-protection", "1; mode=block"},
	{":status", "100"},
	{":status", "204"},
	{":status", "206"},
	{":status", "302"},
	{":status", "400"},
	{":status", "403"},
	{":status", "421"},
	{":status", "425"},
	{":status", "500"},
	{"accept-language", ""},
	{"access-control-allow-credentials", "FALSE"},
	{"access-control-allow-credentials", "TRUE"},
	{"access-control-allow-headers", "*"},
	{"access-control-allow-methods", "get"},
	{"access-control-allow-methods", "get, post, options"},
	{"access-control-allow-methods", "options"},
	{"access-control-expose-headers", "content-length"},
	{"access-control-request-headers", "content-type"},
	{"access-control-request-method", "get"},
	{"access-control-request-method", "post"},
	{"alt-svc", "clear"},
	{"authorization", ""},
	{"content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"},
	{"early-data", "1"},
	{"expect-ct", ""},
	{"forwarded", ""},
	{"if-range", ""},
	{"origin", ""},
	{"purpose", "prefetch"},
	{"server", ""},
	{"timing-allow-origin", "*"},
	{"upgrade-insecure-requests", "1"},
	{"user-agent", ""},
	{"x-forwarded-for", ""},
	{"x-frame-options", "deny"},
	{"x-frame-options", "sameorigin"},
}

// staticIndex returns the index of the line in the static table, and whether the value is the same too; -1 if not even the name
// is there.
func staticIndex(name, value string) (index int, whole bool) {
	first, last, more := staticRange(name)
	for i := first; i >= 0 && i <= last; i++ {
		if staticTable[i].value == value {
			return i, true
		}
	}
	if more > 0 { // names that the table has in two places
		for i := more; i < len(staticTable) && staticTable[i].name == name; i++ {
			if staticTable[i].value == value {
				return i, true
			}
		}
	}
	return first, false
}

// staticRange returns the lines with a name: first to last, and the beginning of further ones, or 0. first is -1 if there are none.
func staticRange(name string) (first, last, more int) {
	switch name {
	case ":authority":
		return 0, 0, 0
	case ":path":
		return 1, 1, 0
	case "age":
		return 2, 2, 0
	case "content-disposition":
		return 3, 3, 0
	case "content-length":
		return 4, 4, 0
	case "cookie":
		return 5, 5, 0
	case "date":
		return 6, 6, 0
	case "etag":
		return 7, 7, 0
	case "if-modified-since":
		return 8, 8, 0
	case "if-none-match":
		return 9, 9, 0
	case "last-modified":
		return 10, 10, 0
	case "link":
		return 11, 11, 0
	case "location":
		return 12, 12, 0
	case "referer":
		return 13, 13, 0
	case "set-cookie":
		return 14, 14, 0
	case ":method":
		return 15, 21, 0
	case ":scheme":
		return 22, 23, 0
	case ":status":
		return 24, 28, 63
	case "accept":
		return 29, 30, 0
	case "accept-encoding":
		return 31, 31, 0
	case "accept-ranges":
		return 32, 32, 0
	case "access-control-allow-headers":
		return 33, 34, 75
	case "access-control-allow-origin":
		return 35, 35, 0
	case "cache-control":
		return 36, 41, 0
	case "content-encoding":
		return 42, 43, 0
	case "content-type":
		return 44, 54, 0
	case "range":
		return 55, 55, 0
	case "strict-transport-security":
		return 56, 58, 0
	case "vary":
		return 59, 60, 0
	case "x-content-type-options":
		return 61, 61, 0
	case "x-xss-protection":
		return 62, 62, 0
	case "accept-language":
		return 72, 72, 0
	case "access-control-allow-credentials":
		return 73, 74, 0
	case "access-control-allow-methods":
		return 76, 78, 0
	case "access-control-expose-headers":
		return 79, 79, 0
	case "access-control-request-headers":
		return 80, 80, 0
	case "access-control-request-method":
		return 81, 82, 0
	case "alt-svc":
		return 83, 83, 0
	case "authorization":
		return 84, 84, 0
	case "content-security-policy":
		return 85, 85, 0
	case "early-data":
		return 86, 86, 0
	case "expect-ct":
		return 87, 87, 0
	case "forwarded":
		return 88, 88, 0
	case "if-range":
		return 89, 89, 0
	case "origin":
		return 90, 90, 0
	case "purpose":
		return 91, 91, 0
	case "server":
		return 92, 92, 0
	case "timing-allow-origin":
		return 93, 93, 0
	case "upgrade-insecure-requests":
		return 94, 94, 0
	case "user-agent":
		return 95, 95, 0
	case "x-forwarded-for":
		return 96, 96, 0
	case "x-frame-options":
		return 97, 98, 0
	}
	return -1, -1, 0
}
