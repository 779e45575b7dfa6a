// Package deadline carries the time that a request has left from hop to hop: as remaining time, since clocks differ. What a caller says
// (grpc-timeout, X-Request-Timeout-Ms, Envoy's x-envoy-expected-rq-timeout-ms) becomes the request's deadline, a request that has no time left is refused at once, and
// what is left when a request is sent on is said in the same words.
package deadline

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Names of fields, in the case in which they are compared and sent.
const (
	grpcField  = "grpc-timeout"
	Field      = "X-Request-Timeout-Ms"
	envoyField = "x-envoy-expected-rq-timeout-ms"
)

// longest is the most that a field may say; what says more says nothing.
const longest = 24 * time.Hour

// Read is the layer that takes the deadline from the request, if it has one; the earlier of this and what is there already counts.
func Read(next proxy.RoundTripper) proxy.RoundTripper { return proxy.Before(read).Layer(next) }

func read(req *proxy.Request) error {
	if req.Lacks(proxy.NameDeadline) {
		return nil
	}
	left, said := time.Duration(0), false
	for i := range req.Fields {
		d, ok := parse(&req.Fields[i])
		if ok && (!said || d < left) {
			left, said = d, true
		}
	}
	if !said {
		return nil
	}
	if left <= 0 {
		return late("the request came with no time left")
	}
	at := req.Shard.Now().Add(left)
	if req.Deadline == 0 || at < req.Deadline {
		req.Deadline = at
	}
	return nil
}

// Send is the layer that says what is left of the deadline, if there is one: of a request that runs once for several attempts, of the deadline of all of them.
func Send(next proxy.RoundTripper) proxy.RoundTripper {
	return proxy.Before(new(millis).send).Layer(next)
}

func (m *millis) send(req *proxy.Request) error {
	by := req.Deadline
	if req.AttemptID != "" {
		by = req.AllBy
	}
	if by == 0 || req.IsConnect() || req.Upgrade != "" {
		return nil
	}
	left := by.Sub(req.Shard.Now())
	if left <= 0 {
		return late("no time was left to send the request")
	}
	if !req.Lacks(proxy.NameDeadline) {
		m.write(&req.Fields, left)
		return nil
	}
	req.Fields.Add(Field, m.format(left))
	req.Gains(proxy.NameDeadline)
	return nil
}

func late(detail string) error {
	return &proxy.Error{Code: proxy.Timeout, Detail: detail, Unsent: true}
}

// parse reads one field. Most are told from their length.
func parse(f *proxy.Field) (time.Duration, bool) {
	switch len(f.Name) {
	case len(grpcField):
		if proxy.SameName(f.Name, grpcField) {
			return parseGRPC(f.Value)
		}
	case len(Field):
		if proxy.SameName(f.Name, Field) {
			return parseMillis(f.Value)
		}
	case len(envoyField):
		if proxy.SameName(f.Name, envoyField) {
			return parseMillis(f.Value)
		}
	}
	return 0, false
}

func parseMillis(s string) (time.Duration, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > longest.Milliseconds() {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}

// parseGRPC reads "TimeoutValue TimeoutUnit": "positive integer as ASCII string of at most 8 digits", and one of H M S m u n.
func parseGRPC(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	units := [...]struct {
		letter byte
		unit   time.Duration
	}{{'H', time.Hour}, {'M', time.Minute}, {'S', time.Second}, {'m', time.Millisecond}, {'u', time.Microsecond}, {'n', 1}}
	for _, u := range units {
		if u.letter == s[len(s)-1] {
			if n > uint64(longest/u.unit) {
				return 0, false
			}
			return time.Duration(n) * u.unit, true
		}
	}
	return 0, false
}

// write replaces what says a time, and adds a field where none does.
func (m *millis) write(fields *proxy.Fields, left time.Duration) {
	said := false
	for i := range *fields {
		f := &(*fields)[i]
		if _, ok := parse(f); !ok {
			continue
		}
		said = true
		if len(f.Name) == len(grpcField) {
			f.Value = formatGRPC(left)
			continue
		}
		f.Value = m.format(left)
	}
	if !said {
		fields.Add(Field, m.format(left))
	}
}

// millis remembers the text of the last number: most requests have the whole timeout of their service left.
type millis struct{ last atomic.Pointer[text] }

type text struct {
	n int64
	s string
}

// format rounds up, so that it never says 0 of what is left.
func (m *millis) format(left time.Duration) string {
	n := int64((left + time.Millisecond - 1) / time.Millisecond)
	if t := m.last.Load(); t != nil && t.n == n {
		return t.s
	}
	t := &text{n, strconv.FormatInt(n, 10)}
	m.last.Store(t)
	return t.s
}

func formatGRPC(left time.Duration) string {
	if us := left.Microseconds(); us < 100_000 {
		return strconv.FormatInt(max(1, us), 10) + "u"
	}
	return strconv.FormatInt(min(left.Milliseconds(), 99_999_999), 10) + "m"
}
