package httpcache

import (
	"strconv"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// StatusField is where a cache says what it did, RFC 9211.
const StatusField = "Cache-Status"

// forward is why a request was passed on, in the words of RFC 9211 section 2.2.
type forward uint8

const (
	fwdBypass forward = iota
	fwdMethod
	fwdURIMiss
	fwdVaryMiss
	fwdRequest
	fwdStale
	fwdPartial
	forwards // how many there are
)

var forwardWords = [forwards]string{"bypass", "method", "uri-miss", "vary-miss", "request", "stale", "partial"}

// statuses are the values of Cache-Status that need no figures, made once.
type statuses struct {
	name      string
	plain     [forwards]string
	stored    [forwards]string
	collapsed [forwards]string
	validated [forwards]string
	detailed  [forwards][len(reasons)]string
	ifCached  string
}

func makeStatuses(name string) statuses {
	s := statuses{name: name}
	for f, word := range forwardWords {
		s.plain[f] = name + "; fwd=" + word
		s.stored[f] = s.plain[f] + "; stored"
		s.collapsed[f] = s.plain[f] + "; collapsed"
		s.validated[f] = s.plain[f] + "; fwd-status=304"
		for i, why := range reasons {
			s.detailed[f][i] = s.plain[f] + "; detail=" + string(why)
		}
	}
	s.ifCached = name + "; detail=only-if-cached"
	return s
}

// detail is the status of an answer that was passed on and not stored.
func (s *statuses) detail(f forward, why rules.Reason) string {
	for i := range reasons {
		if reasons[i] == why {
			return s.detailed[f][i]
		}
	}
	return s.plain[f]
}

// ageText is what an entry's age is, as text; it is made anew once a second.
type ageText struct {
	age    int64 // seconds
	field  string
	status string
}

// ageNow returns the texts for the Age and the Cache-Status of a hit.
func (e *entry) ageNow(now rules.Time, name string) *ageText {
	age := e.policy.Age(now)
	seconds := int64(age / time.Second)
	if t := e.text.Load(); t != nil && t.age == seconds {
		return t
	}
	t := &ageText{age: seconds, field: strconv.FormatInt(seconds, 10)}
	t.status = name + "; hit; ttl=" + strconv.FormatInt(int64(e.policy.Lifetime/time.Second)-seconds, 10)
	e.text.Store(t)
	return t
}

// addStatus appends a member to Cache-Status: RFC 9211 section 2: "each intermediary [...] appending to the end of the list".
func addStatus(resp *proxy.Response, value string) { resp.Fields.Add(StatusField, value) }
