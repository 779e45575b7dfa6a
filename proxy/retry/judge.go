package retry

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// reason is why a request may be sent again.
type reason uint8

const (
	no       reason = iota // it may not
	neverRan               // it provably did not run
	harmless               // its method is idempotent
	allowed                // it may have run, and the configuration allows it
)

// judge says whether what an attempt brought is worth another, and whether that is safe.
func (c *call) judge(req *proxy.Request, resp *proxy.Response, err error) reason {
	unsent, worth := false, false
	if err != nil {
		unsent, worth = failure(err)
	} else {
		unsent = resp.Unsent
		worth = resp.Status == 502 || resp.Status == 503 || resp.Status == 504 || unavailable(resp)
	}
	switch {
	case !worth || req.Cancel.Err() != nil:
		return no
	case unsent:
		return neverRan
	case nested(req, c.fields):
		return no
	case idempotent(req), c.set.Unavailable && err == nil && unavailable(resp):
		return harmless
	case !c.set.Unsafe || req.Upgrade != "" || req.IsConnect():
		return no
	case err == nil && req.Endpoint != nil && req.Endpoint.Mesh:
		return no // it ran, and this is what came of it
	}
	return allowed
}

// failure says of an error whether the request provably never ran, and whether another attempt could do better.
func failure(err error) (unsent, worth bool) {
	var e *proxy.Error
	if !errors.As(err, &e) {
		return false, false
	}
	switch e.Code {
	case proxy.ConnectFailed, proxy.BadIdentity, proxy.AppUnreachable, proxy.Refused:
		return e.Unsent, e.Unsent
	case proxy.PeerReset, proxy.AppClosed, proxy.AppBadAnswer, proxy.Timeout:
		return e.Unsent, true
	}
	return false, false
}

// nested reports whether the request itself is a repeated attempt, of somebody before the app.
func nested(req *proxy.Request, own int) bool { return req.Fields[:own].Has(AttemptField) }

// Idempotent reports whether the layer takes req for harmless to repeat, whatever became of it. It is pure.
func Idempotent(req *proxy.Request) bool { return idempotent(req) }

// idempotent is RFC 9110 section 9.2.2.
func idempotent(req *proxy.Request) bool {
	if req.Upgrade != "" {
		return false
	}
	switch req.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// unavailable reports whether the answer is gRPC's UNAVAILABLE with nothing before it: the status is in the head ("Trailers-Only").
func unavailable(resp *proxy.Response) bool {
	return resp.Body == nil && resp.Status == 200 && resp.Fields.Get("grpc-status") == "14"
}

// pause is the time before attempt n+1. What never ran, and has another Endpoint to go to, does not wait for its second attempt.
func (c *call) pause(why reason, n int) time.Duration {
	if why == neverRan && n == 1 {
		return 0
	}
	most := min(2*c.set.Backoff<<min(n-1, 16), 2*c.set.MaxBackoff)
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// retryAfter reads the field of RFC 9110 section 10.2.3.
func retryAfter(resp *proxy.Response) (time.Duration, bool) {
	s := strings.TrimSpace(resp.Fields.Get("Retry-After"))
	if s == "" {
		return 0, false
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 1<<31 {
		return time.Duration(n) * time.Second, true
	}
	if at, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", s); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}

// newID returns an id that no other request of this caller has: peers keep them per caller.
func newID() string {
	var b [16]byte
	for i := 0; i < len(b); i += 8 {
		x := rand.Uint64()
		for j := range 8 {
			b[i+j] = byte(x >> (8 * j))
		}
	}
	return hex.EncodeToString(b[:])
}
