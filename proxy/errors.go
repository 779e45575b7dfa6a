package proxy

import "fmt"

// Error is a failure that pillion can name. It becomes an answer in one place (package answer).
type Error struct {
	Code   Code
	Detail string // one sentence: what was being done, to whom, and what to do next
	// Unsent is true if the request provably never ran: no byte of it was handed to the app.
	Unsent bool
	Err    error // the cause, may be nil
	// Status, if not 0, is that of the answer in place of Code's.
	Status int
	// Fields are more fields for the answer that it becomes, such as Retry-After.
	Fields Fields
}

// Error returns code, sentence and cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Detail, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Detail)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrNoStream is what a multiplexed connection returns for a request for which it has no stream: it is full or going away. Nothing of the
// request, nor of its body, has been read, so that another connection can take it.
var ErrNoStream error = &Error{Code: Refused, Detail: "no stream is free on this connection", Unsent: true}

// Code is the documented, stable name of a failure.
type Code string

// The codes, with the HTTP status that each becomes.
const (
	BadRequest     Code = "bad_request"     // 400: the request cannot be forwarded
	Denied         Code = "denied"          // 403: the caller may not call this
	UnknownService Code = "unknown_service" // 404 is the app's; this is 502: no such service is configured
	HeadTooLarge   Code = "head_too_large"  // 431
	NotPermitted   Code = "not_permitted"   // 403: the outbound port is no open proxy
	ConnectFailed  Code = "connect_failed"  // 503: no connection to the endpoint
	BadIdentity    Code = "bad_identity"    // 503: the peer is not who discovery says
	NoEndpoints    Code = "no_endpoints"    // 503: discovery knows none
	Draining       Code = "draining"        // 503: this sidecar is going away
	Refused        Code = "refused"         // 503: the peer refused the stream before it ran
	PeerReset      Code = "peer_reset"      // 502: the link or the stream broke before the answer
	AppUnreachable Code = "app_unreachable" // 503: the local app does not accept connections
	AppClosed      Code = "app_closed"      // 502: the app closed before it answered
	AppBadAnswer   Code = "app_bad_answer"  // 502: the app's answer is not HTTP
	Timeout        Code = "timeout"         // 504
	NotCached      Code = "not_cached"      // 504: the request has only-if-cached, and nothing may be given
	Overloaded     Code = "overloaded"      // 503: as many requests run and wait as may
	RateLimited    Code = "rate_limited"    // 429: more requests than this caller may send
	// AttemptForgotten is 500: an earlier attempt may have run, and it is not known what came of it.
	AttemptForgotten Code = "attempt_forgotten"
	Injected         Code = "injected"      // as configured: a fault that was asked for
	LoopDetected     Code = "loop_detected" // 508
	Unsupported      Code = "unsupported"   // 501: such as an unknown :protocol
	ClientGone       Code = "client_gone"   // 499, seen only in logs
	Internal         Code = "internal"      // 500: a bug of pillion's
)

// Status returns the HTTP status that the code becomes.
func (c Code) Status() int {
	switch c {
	case BadRequest:
		return 400
	case Denied, NotPermitted:
		return 403
	case HeadTooLarge:
		return 431
	case UnknownService, PeerReset, AppClosed, AppBadAnswer:
		return 502
	case ConnectFailed, BadIdentity, NoEndpoints, Draining, Refused, AppUnreachable, Overloaded, Injected:
		return 503
	case RateLimited:
		return 429
	case Timeout, NotCached:
		return 504
	case LoopDetected:
		return 508
	case Unsupported:
		return 501
	case ClientGone:
		return 499
	default:
		return 500
	}
}
