package upstream

import (
	"errors"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// pending is one request in flight; it counts itself out when the Response is closed.
type pending struct {
	sh       *shardState
	st       *balance.State
	aperture *balance.Aperture // may be nil
	began    task.Instant
	head     task.Instant // when the head of the answer was there
	stream   bool
	others   bool       // there are other Endpoints
	body     proxy.Body // of the answer, while it is not known how that ends
	inner    proxy.ResponseCloser
	turning  *turning // the Stream of the answer, if it may not last for ever
	next     *pending // when free
}

// neverConnected reports whether err came before a byte of the request, or of its body, was read.
func neverConnected(err error) bool {
	var e *proxy.Error
	if !errors.As(err, &e) || !e.Unsent {
		return false
	}
	switch e.Code {
	case proxy.ConnectFailed, proxy.BadIdentity, proxy.AppUnreachable:
		return true
	}
	return false
}

// blames says whether err is the Endpoint's fault.
func blames(err error) health.Outcome {
	var e *proxy.Error
	if !errors.As(err, &e) {
		return health.Bad
	}
	switch e.Code {
	case proxy.PeerReset, proxy.Refused, proxy.AppClosed, proxy.AppBadAnswer, proxy.AppUnreachable, proxy.Timeout, proxy.Internal:
		return health.Bad
	}
	return health.Unknown // the client left, or the request could not be sent to anybody
}

// errorField is where the sidecar of an Endpoint says, in an answer of its own, what failed; its codes are those of proxy.Error. An app that passes
// on what another service answered may have it too: only with Response.Unsent it is sure to be the sidecar's.
const errorField = "Pillion-Error"

// verdict is what the head of an answer says of the Endpoint.
type verdict int

const (
	well    verdict = iota
	failing         // it failed, and counts for ejection
	full            // it has too much to do: others are better, but to eject it would only give them its load
	down            // its sidecar cannot reach the app, or is going away: nothing ran, and nothing will
)

// judge reads the head of an answer: 5xx is a failure, but for what a request alone can cause, and so are gRPC's counterparts in an answer that is nothing
// but a head. What the sidecar there says in an answer of its own is known more exactly.
func judge(resp *proxy.Response) verdict {
	switch {
	case resp.Status >= 500:
		return judgeStatus(resp)
	case resp.Body == nil && resp.Stream == nil && resp.Status == 200 && failedGRPC(resp.Fields):
		return failing
	}
	return well
}

func judgeStatus(resp *proxy.Response) verdict {
	code := proxy.Code(resp.Fields.Get(errorField))
	if !resp.Unsent && code != proxy.AttemptForgotten {
		code = "" // it may be what the app was answered elsewhere
	}
	switch code {
	case proxy.AppUnreachable, proxy.Draining:
		return down
	case proxy.Overloaded:
		return full
	case proxy.NoEndpoints, proxy.UnknownService, proxy.LoopDetected, proxy.Unsupported, proxy.NotCached, proxy.AttemptForgotten:
		return well // it is the request's fault, or the configuration's
	}
	if resp.Status == 501 || resp.Status == 505 {
		return well
	}
	return failing
}

// failedGRPC reports whether fields have a status of gRPC that is the server's fault.
func failedGRPC(fields proxy.Fields) bool {
	switch strings.TrimSpace(fields.Get("grpc-status")) {
	case "2", "4", "13", "14", "15": // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return false
}

// answered notes the head of an answer.
func (sh *shardState) answered(p *pending, resp *proxy.Response) {
	v := judge(resp)
	p.inner = resp.Closer()
	resp.OnClose(p)
	sh.shard.Lock()
	defer sh.shard.Unlock()
	now := sh.shard.Now()
	p.head = now
	p.st.Answered(now, now.Sub(p.began), v != well)
	switch {
	case v == down:
		p.st.Health.Lost(now, "the sidecar there says "+resp.Fields.Get(errorField))
		p.st.Ended(now, true)
		return
	case v == full:
		p.st.Ended(now, true)
	case v == failing:
		p.report(now, health.Bad)
	case resp.Body == nil, resp.Stream != nil:
		p.report(now, health.Good)
	default:
		p.body = resp.Body
	}
	p.st.Health.Reached(now)
}

// report tells how a request ended. The lock is held.
func (p *pending) report(now task.Instant, o health.Outcome) {
	p.st.Ended(now, o != health.Good)
	p.st.Health.Report(now, o, p.head.Sub(p.began))
}

// failed notes that there was no answer.
func (sh *shardState) failed(svc *service, p *pending, req *proxy.Request, err error) {
	lost, o := neverConnected(err), blames(err)
	first := false
	h := p.st.Health
	sh.shard.Lock()
	now := sh.shard.Now()
	took := now.Sub(p.began) // p is another's once it is done
	p.head = now
	switch {
	case lost:
		first = h.Lost(now, err.Error())
	case o == health.Bad:
		p.st.Answered(now, took, true)
		p.report(now, health.Bad)
		if !unsent(err) {
			h.Reached(now)
		}
	}
	sh.doneLocked(p)
	sh.shard.Unlock()
	switch {
	case first:
		req.Note("balance", "no connection can be made to this endpoint: requests go elsewhere until one can", 0)
		sh.probe(svc, req, h)
	case lost:
		req.Note("balance", "no connection can be made to this endpoint", 0)
	case o == health.Bad:
		req.Note("balance", "this endpoint failed; ms since it was chosen", took.Milliseconds())
	}
}

// unsent reports whether err came before the Endpoint had the request.
func unsent(err error) bool {
	var e *proxy.Error
	return errors.As(err, &e) && e.Unsent
}

// CloseResponse implements proxy.ResponseCloser.
func (p *pending) CloseResponse(r *proxy.Response) {
	o := p.bodyEnded()
	if p.inner != nil {
		p.inner.CloseResponse(r)
	}
	p.sh.shard.Lock()
	if o != health.Unknown {
		p.report(p.sh.shard.Now(), o)
	}
	p.sh.doneLocked(p)
	p.sh.shard.Unlock()
}

// bodyEnded says whether the content of the answer broke off, or ended in a failure. It is Unknown where that was told with the head.
func (p *pending) bodyEnded() health.Outcome {
	if p.body == nil {
		return health.Unknown
	}
	if t, ok := p.body.(proxy.Truncater); ok {
		if err := t.Truncated(); err != nil && blames(err) == health.Bad {
			return health.Cut
		} else if err != nil {
			return health.Unknown
		}
	}
	if p.body.Buffered() < 0 && failedGRPC(p.body.Trailers()) { // else its reader has left early
		return health.Bad
	}
	return health.Good
}

func (sh *shardState) doneLocked(p *pending) {
	p.st.Done(p.stream)
	if p.turning != nil {
		p.turning.stopLocked()
	}
	if p.aperture != nil {
		p.aperture.Ended(sh.shard.Index())
	}
	*p = pending{sh: sh, next: sh.free}
	sh.free = p
}

// subset is the value of the label that req asks for, "" for none.
func (svc *service) subset(req *proxy.Request) string {
	if svc.Subset == "" {
		return ""
	}
	return req.Fields.Get(svc.Subset)
}
