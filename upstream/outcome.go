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
	body     proxy.Body // of the answer, while it is not known how that ends
	inner    proxy.ResponseCloser
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

// errorField is where the sidecar of an Endpoint says, in an answer of its own, what failed; its codes are those of proxy.Error.
const errorField = "Pillion-Error"

// appIsDown reports whether the sidecar there says that it cannot connect to its app.
func appIsDown(resp *proxy.Response) bool {
	return resp.Status == 503 && resp.Fields.Get(errorField) == string(proxy.AppUnreachable)
}

// failedHead reports whether the head of an answer says that the Endpoint failed: 5xx, but for what a request alone can cause, and gRPC's
// counterparts in an answer that is nothing but a head.
func failedHead(resp *proxy.Response) bool {
	switch {
	case resp.Status == 501 || resp.Status == 505:
		return false
	case resp.Status >= 500:
		return true
	case resp.Body != nil || resp.Stream != nil || resp.Status != 200:
		return false
	}
	return failedGRPC(resp.Fields)
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
	bad := failedHead(resp)
	down := bad && appIsDown(resp)
	p.inner = resp.Closer()
	resp.OnClose(p)
	sh.shard.Lock()
	defer sh.shard.Unlock()
	now := sh.shard.Now()
	p.head = now
	p.st.Answered(now, now.Sub(p.began), bad)
	switch {
	case down:
		p.st.Health.Lost(now, "the app there cannot be reached: app_unreachable")
		p.st.Ended(now, true)
		return
	case resp.Body == nil || bad || resp.Stream != nil:
		p.report(now, bad)
	default:
		p.body = resp.Body
	}
	p.st.Health.Reached(now)
}

// report tells how a request ended. The lock is held.
func (p *pending) report(now task.Instant, failed bool) {
	o := health.Good
	if failed {
		o = health.Bad
	}
	p.st.Ended(now, failed)
	p.st.Health.Report(now, o, p.head.Sub(p.began))
}

// failed notes that there was no answer.
func (sh *shardState) failed(svc *service, p *pending, req *proxy.Request, err error) {
	lost, o := neverConnected(err), blames(err)
	first := false
	h := p.st.Health
	sh.shard.Lock()
	now := sh.shard.Now()
	p.head = now
	switch {
	case lost:
		first = h.Lost(now, err.Error())
	case o == health.Bad:
		p.st.Answered(now, now.Sub(p.began), true)
		p.report(now, true)
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
		req.Note("balance", "this endpoint failed", int64(now.Sub(p.began)))
	}
}

// unsent reports whether err came before the Endpoint had the request.
func unsent(err error) bool {
	var e *proxy.Error
	return errors.As(err, &e) && e.Unsent
}

// CloseResponse implements proxy.ResponseCloser.
func (p *pending) CloseResponse(r *proxy.Response) {
	failed, known := p.bodyFailed()
	if p.inner != nil {
		p.inner.CloseResponse(r)
	}
	p.sh.shard.Lock()
	if known {
		p.report(p.sh.shard.Now(), failed)
	}
	p.sh.doneLocked(p)
	p.sh.shard.Unlock()
}

// bodyFailed says whether the content of the answer broke off, or ended in a failure. It is not known where that was told with the head.
func (p *pending) bodyFailed() (failed, known bool) {
	if p.body == nil {
		return false, false
	}
	if t, ok := p.body.(proxy.Truncater); ok {
		if err := t.Truncated(); err != nil {
			return true, blames(err) == health.Bad
		}
	}
	if p.body.Buffered() >= 0 {
		return false, true // its reader has left early
	}
	return failedGRPC(p.body.Trailers()), true
}

func (sh *shardState) doneLocked(p *pending) {
	p.st.Done(p.stream)
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
