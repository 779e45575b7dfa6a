package limit

import (
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// RateSettings bound requests per time.
type RateSettings struct {
	// Requests per Per are let through in the long run, Burst at once. If Requests is zero, all are.
	Requests int
	Per      time.Duration
	Burst    int
	// By is what is counted apart: ByAll, ByCaller, or the name of a field.
	By string
}

// Values of RateSettings.By that are no fields.
const (
	ByAll    = "all"
	ByCaller = "caller" // the identity of the calling sidecar; outbound, where all are one app, its address
)

// maxKeys bounds the callers that are counted apart; of more, the one that has been quiet for longest is forgotten.
const maxKeys = 10_000

// Rate counts the requests of one service or app entry. It outlives its settings, which are given to Layer. It is safe for all shards.
type Rate struct {
	what    string
	refused atomic.Uint64

	mu  sync.Mutex // never held over a wait or a call
	due *simplelru.LRU[key, task.Instant]
}

// key is one token bucket.
type key struct {
	rule int
	who  string
}

// NewRate returns a Rate without requests, for what, as errors call it.
func NewRate(what string) *Rate {
	due, err := simplelru.NewLRU[key, task.Instant](maxKeys, nil)
	if err != nil {
		panic("limit: " + err.Error()) // cannot happen: the size is positive
	}
	return &Rate{what: what, due: due}
}

// Refused is how many requests were refused so far.
func (r *Rate) Refused() uint64 { return r.refused.Load() }

// Layer returns the layer for rules: [0] for requests of no route, [n] for those of the n-th.
func (r *Rate) Layer(rules []RateSettings) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			set := proxy.SettingsOf(req, rules)
			if set.Requests == 0 {
				return next.RoundTrip(req, resp)
			}
			if wait := r.take(key{req.Rule, who(req, set.By)}, req.Shard.Now(), set); wait > 0 {
				r.refused.Add(1)
				req.Note("rate", "refused: too many requests, ms until the next", wait.Milliseconds())
				return r.limited(set, wait)
			}
			return next.RoundTrip(req, resp)
		})
	}
}

// take takes a token, or says in how long there will be one. The bucket is the instant at which it will be full again.
func (r *Rate) take(k key, now task.Instant, set *RateSettings) time.Duration {
	each := max(1, set.Per/time.Duration(set.Requests))
	full := each * min(time.Duration(max(1, set.Burst)), math.MaxInt64/2/each) // longer is for ever
	r.mu.Lock()
	defer r.mu.Unlock()
	due, known := r.due.Get(k)
	if !known {
		k.who = clone(k.who)
	}
	due = max(due, now) + task.Instant(each)
	if wait := due.Sub(now) - full; wait > 0 {
		return wait
	}
	r.due.Add(k, due)
	return 0
}

func who(req *proxy.Request, by string) string {
	switch by {
	case ByAll, "":
		return ""
	case ByCaller:
		if req.Peer != nil {
			return string(req.Peer.Identity)
		}
		return ""
	}
	const most = 256 // bytes
	value := req.Fields.Get(by)
	return value[:min(len(value), most)]
}

// clone copies what points into a request.
func clone(s string) string { return string([]byte(s)) }

func (r *Rate) limited(set *RateSettings, wait time.Duration) error {
	seconds := int64((wait + time.Second - 1) / time.Second)
	whose := "requests for " + r.what
	switch set.By {
	case ByAll, "":
	case ByCaller:
		whose += " from this caller"
	default:
		whose += " with this " + set.By
	}
	return &proxy.Error{Code: proxy.RateLimited, Unsent: true, Detail: "more than " + strconv.Itoa(set.Requests) + " " + whose + " in " + set.Per.String(),
		Fields: proxy.Fields{{Name: "Retry-After", Value: strconv.FormatInt(seconds, 10)}}}
}
