package rules

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy/httpcache/cachecontrol"
)

// Verdict is what may be done with a stored answer.
type Verdict uint8

// The verdicts.
const (
	Fresh      Verdict = iota + 1 // use it
	Accepted                      // it is stale, and the client takes it
	Revalidate                    // use it, stale as it is, and validate it meanwhile (stale-while-revalidate)
	Validate                      // ask the origin first
)

// Age is current_age of RFC 9111 section 4.2.3: corrected_initial_age + resident_time.
func (p *Policy) Age(now Time) time.Duration { return p.InitialAge + max(0, now.Sub(p.Received)) }

// TTL is how long it is still fresh; negative once it is stale.
func (p *Policy) TTL(now Time) time.Duration { return p.Lifetime - p.Age(now) }

// Reuse decides whether a stored answer may be used for a request now, by RFC 9111 sections 4.2, 5.2.1 and 5.2.2.
func (p *Policy) Reuse(q *Request, now Time) Verdict {
	if p.NoCache || q.CC.NoCache {
		return Validate
	}
	age := p.Age(now)
	left := p.Lifetime - age
	if left > 0 {
		// RFC 8246 section 2: proxies "SHOULD skip conditionally revalidating fresh responses containing the immutable extension unless there is a signal from the
		// client that a validation is necessary (e.g., a no-cache Cache-Control request directive)".
		if q.CC.MaxAge != cachecontrol.Absent && age > seconds(q.CC.MaxAge) && !p.Immutable {
			if stale := age - seconds(q.CC.MaxAge); !p.accepts(q, stale) {
				return Validate
			}
		}
		if q.CC.MinFresh != cachecontrol.Absent && left < seconds(q.CC.MinFresh) {
			return Validate
		}
		return Fresh
	}
	if q.CC.MinFresh != cachecontrol.Absent {
		return Validate
	}
	switch stale := -left; {
	case p.Strict:
		return Validate
	case q.CC.MaxAge != cachecontrol.Absent && age > seconds(q.CC.MaxAge) && !p.accepts(q, age-seconds(q.CC.MaxAge)):
		return Validate
	case p.accepts(q, stale):
		return Accepted
	case p.WhileFresh > 0 && stale <= p.WhileFresh:
		return Revalidate
	}
	return Validate
}

// accepts reports whether the request's max-stale covers stale. RFC 9111 section 4.2.4: a stale response is not used "if it is prohibited by an explicit in-protocol
// directive", whatever the client says.
func (p *Policy) accepts(q *Request, stale time.Duration) bool {
	return !p.Strict && (q.CC.AnyStale || q.CC.MaxStale != cachecontrol.Absent && stale <= seconds(q.CC.MaxStale))
}

// UsableOnError reports whether a stale answer may stand in for an error, RFC 5861 section 4, of which the request may have an opinion too. fallback is what
// counts if nobody says anything.
func (p *Policy) UsableOnError(q *Request, now Time, fallback time.Duration) bool {
	if p.NoCache || p.Strict || q.CC.NoCache {
		return false
	}
	allowed := fallback
	if p.IfError >= 0 {
		allowed = p.IfError
	}
	if q.CC.StaleIfError != cachecontrol.Absent {
		allowed = max(allowed, seconds(q.CC.StaleIfError))
		if p.IfError >= 0 {
			allowed = min(allowed, max(p.IfError, seconds(q.CC.StaleIfError)))
		}
	}
	stale := -p.TTL(now)
	return stale <= 0 || stale <= allowed
}
