package main

import (
	"fmt"
	"slices"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy/retry"
)

// retrySaid and cacheSaid are the settings that apply.
func (q *question) retrySaid() config.Retry {
	if q.route != nil {
		return q.route.Retry
	}
	return q.service.Retry
}

func (q *question) cacheSaid() config.Caching {
	if q.route != nil {
		return q.route.Cache
	}
	return q.service.Cache
}

// The settings of a layer that has nothing to do are not told; "" tells them.

func explainFaults(q *question) string {
	c := q.service.Faults
	if q.route != nil {
		c = q.route.Faults
	}
	if c.Delay == 0 && c.Abort == 0 && c.Throttle == 0 {
		return "none"
	}
	return ""
}

func explainRate(q *question) string {
	c := q.service.Rate
	if q.route != nil {
		c = q.route.Rate
	}
	if c.Requests == 0 {
		return "no limit"
	}
	return ""
}

func explainLimits(q *question) string {
	c := q.service.Limits
	if q.route != nil {
		c = q.route.Limits
	}
	if c.Requests == 0 && !c.Adaptive && c.Connections == 0 {
		return "none"
	}
	return ""
}

func explainHedge(q *question) string {
	c := q.service.Hedge
	if q.route != nil {
		c = q.route.Hedge
	}
	if c.Percentile == 0 {
		return "none: one endpoint is asked at a time"
	}
	return ""
}

func explainTimeout(q *question) string {
	d := q.service.Timeout
	if q.route != nil {
		d = q.route.Timeout
	}
	switch {
	case d == 0:
		return "none"
	case q.req.Upgrade != "":
		return d.String() + " until it is open, and none after"
	}
	return d.String() + " to the head of the answer, all attempts together"
}

func explainRetry(q *question) string {
	c := q.retrySaid()
	if c.Attempts < 2 {
		return "never sent again"
	}
	text := fmt.Sprintf("%d attempts at most, and %v of the service's requests of late (and %d/s); ", c.Attempts, c.Budget, c.Floor)
	switch {
	case retry.Idempotent(q.req):
		text += "after broken connections, 502, 503 and 504, because " + q.req.Method + " is harmless to repeat"
	case c.Unsafe:
		text += "after broken connections, 502, 503 and 504, because unsafe says so"
	default:
		text += "only what provably never ran, because " + q.req.Method + " may not be repeated"
	}
	if c.PerTry > 0 {
		text += "; " + c.PerTry.String() + " for each"
	}
	return text
}

func explainCache(q *question) string {
	c, req := q.cacheSaid(), q.req
	switch {
	case c.Mode == config.CacheOff:
		return "off: nothing is kept"
	case req.Method == "POST" && slices.ContainsFunc(c.GRPC, func(m config.MethodTTL) bool { return m.Method == req.Path }):
		return "a gRPC call: answered from memory if the same was asked lately; else its answer is kept if it succeeds"
	case req.Method != "GET" && req.Method != "HEAD":
		return "goes past it: answers to " + req.Method + " are not kept"
	case req.Fields.Has("Authorization"), req.Fields.Has("Range"):
		return "goes past it, as a request with Authorization or Range is nobody else's"
	case c.Mode == config.CacheOn:
		return "answered from memory if there is a fresh answer; else its answer is kept if it may be"
	}
	return "answered from memory if there is a fresh answer, once the service has sent one that may be kept"
}
