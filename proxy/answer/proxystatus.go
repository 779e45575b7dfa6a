package answer

import (
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// proxyStatus is the field of RFC 9209, with one of the error types of its section 2.3.
func proxyStatus(code proxy.Code, sentence string) string {
	return `pillion; error=` + errorType(code) + `; details="` + quoted(sentence) + `"`
}

func errorType(code proxy.Code) string {
	switch code {
	case proxy.BadRequest, proxy.HeadTooLarge, proxy.Unsupported:
		return "http_request_error"
	case proxy.Denied, proxy.NotPermitted, proxy.RateLimited:
		return "http_request_denied"
	case proxy.UnknownService:
		return "destination_not_found"
	case proxy.NoEndpoints, proxy.Draining, proxy.Refused, proxy.Overloaded:
		return "destination_unavailable"
	case proxy.ConnectFailed, proxy.AppUnreachable:
		return "connection_refused"
	case proxy.BadIdentity:
		return "tls_certificate_error"
	case proxy.PeerReset, proxy.AppClosed:
		return "connection_terminated"
	case proxy.Timeout:
		return "connection_timeout"
	case proxy.LoopDetected:
		return "proxy_loop_detected"
	default:
		return "proxy_internal_error"
	}
}

// quoted is s as the inside of a String of RFC 8941 section 3.3.3: ASCII, with escapes.
func quoted(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}
