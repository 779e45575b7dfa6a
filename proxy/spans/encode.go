package spans

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/proxy/tracing"
)

// The fields of Span.
const (
	fieldTraceID = iota + 1
	fieldSpanID
	fieldState
	fieldParent
	fieldName
	fieldKind
	fieldStart
	fieldEnd
	fieldAttributes
	fieldDroppedAttributes
	fieldEvents
	fieldDroppedEvents
	fieldLinks
	fieldDroppedLinks
	fieldStatus
	fieldFlags

	// fieldSpans is that of ScopeSpans.
	fieldSpans = 2
)

const (
	kindServer = 2
	kindClient = 3

	statusError = 2

	flagHasRemote = 0x100 // "SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK"
	flagRemote    = 0x200
)

// add encodes the spans of e. s.mu is held.
func (s *Spans) add(e *observe.Entry) {
	b := s.span(s.scratch[:0], e)
	s.pending, s.count = AppendBytes(s.pending, fieldSpans, b), s.count+1
	if e.Direction == observe.Outbound {
		all := e.Record().Attempts()
		for i := range all {
			b = s.attempt(b[:0], e, &all[i], i, i == len(all)-1)
			s.pending, s.count = AppendBytes(s.pending, fieldSpans, b), s.count+1
		}
	}
	s.scratch = b
}

func (s *Spans) at(i task.Instant) uint64 { return uint64(s.base.Load() + int64(i)) }

// span encodes the span of the request itself.
func (s *Spans) span(b []byte, e *observe.Entry) []byte {
	req, r := e.Request, e.Record()
	kind := uint64(kindClient)
	if e.Direction == observe.Inbound {
		kind = kindServer
	}
	b = s.begin(b, e, r.Trace.Span, r.Trace.Parent, kind, true)
	b = appendFixed64(b, fieldStart, s.at(e.Start))
	b = appendFixed64(b, fieldEnd, s.at(e.Stop))
	b = appendRequest(b, e)
	b = appendOutcome(b, e)
	if e.Direction == observe.Inbound {
		b = appendPeer(b, req.Client)
		if req.Peer != nil {
			b = AppendString(b, fieldAttributes, "pillion.peer", string(req.Peer.Identity))
		}
	}
	b = s.events(b, e)
	if s.cfg.Link {
		b = s.running.appendLink(b, e)
	}
	if failed(e) {
		b = appendStatus(b, message(e))
	}
	return b
}

// begin encodes what all spans begin with.
func (s *Spans) begin(b []byte, e *observe.Entry, id, parent proxy.SpanID, kind uint64, remote bool) []byte {
	t := &e.Record().Trace
	b = AppendBytes(b, fieldTraceID, t.ID[:])
	b = AppendBytes(b, fieldSpanID, id[:])
	if state := e.Request.Fields.Get("tracestate"); state != "" {
		b = appendText(b, fieldState, clean(state))
	}
	flags := uint32(flagHasRemote)
	if t.Sampled {
		flags |= 1
	}
	if t.Random {
		flags |= 2
	}
	if parent != (proxy.SpanID{}) {
		b = AppendBytes(b, fieldParent, parent[:])
		if remote {
			flags |= flagRemote
		}
	}
	b = appendFixed32(b, fieldFlags, flags)
	b = appendName(b, e)
	return appendEnum(b, fieldKind, kind)
}

// appendName: "HTTP span names SHOULD be {method} if a (low-cardinality) target is not available", those of RPC {package.Service/Method}.
func appendName(b []byte, e *observe.Entry) []byte {
	switch {
	case e.Shape == observe.Flow:
		return appendText(b, fieldName, "flow")
	case e.Request.IsConnect():
		return appendText(b, fieldName, "stream")
	case isGRPC(e):
		return appendText(b, fieldName, clean(strings.TrimPrefix(pathOf(e.Request), "/")))
	}
	if m := e.Request.Method; known(m) {
		return appendText(b, fieldName, m)
	}
	return appendText(b, fieldName, "HTTP")
}

// known: "By default, this convention defines known methods as the ones listed in RFC9110 and the PATCH method defined in RFC5789".
func known(method string) bool {
	switch method {
	case "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE":
		return true
	}
	return false
}

func isGRPC(e *observe.Entry) bool {
	return e.Shape == observe.Exchange && strings.HasPrefix(e.Request.Fields.Get("Content-Type"), "application/grpc")
}

func pathOf(req *proxy.Request) string {
	p, _, _ := strings.Cut(req.Path, "?")
	return p
}

// appendRequest encodes what was asked for.
func appendRequest(b []byte, e *observe.Entry) []byte {
	req := e.Request
	if e.Shape == observe.Flow {
		b = AppendString(b, fieldAttributes, "network.transport", "udp")
	} else if req.IsConnect() {
		b = AppendString(b, fieldAttributes, "network.transport", "tcp")
	} else {
		b = appendHTTP(b, e)
	}
	b = appendServer(b, req.Authority)
	if req.Service.Name != "" {
		b = AppendString(b, fieldAttributes, "pillion.service", req.Service.Name)
	}
	if req.Service.Port != 0 {
		b = appendInt(b, fieldAttributes, "pillion.port", int64(req.Service.Port))
	}
	if req.Rule != 0 {
		b = appendInt(b, fieldAttributes, "pillion.route", int64(req.Rule))
	}
	if req.ID != "" {
		b = AppendString(b, fieldAttributes, "pillion.request_id", req.ID)
	}
	return b
}

func appendHTTP(b []byte, e *observe.Entry) []byte {
	req := e.Request
	method := req.Method
	if !known(method) {
		b = AppendString(b, fieldAttributes, "http.request.method_original", method)
		method = "_OTHER"
	}
	b = AppendString(b, fieldAttributes, "http.request.method", method)
	if v := version(req.Version); v != "" {
		b = AppendString(b, fieldAttributes, "network.protocol.version", v)
	}
	scheme := req.Scheme
	if scheme == "" {
		scheme = "http"
	}
	if e.Direction == observe.Inbound {
		b = AppendString(b, fieldAttributes, "url.scheme", scheme)
		b = AppendString(b, fieldAttributes, "url.path", pathOf(req))
	} else {
		b = appendURL(b, scheme, clean(req.Authority), clean(pathOf(req)))
	}
	if req.Upgrade != "" {
		b = AppendString(b, fieldAttributes, "pillion.upgrade", req.Upgrade)
	}
	if isGRPC(e) {
		b = AppendString(b, fieldAttributes, "rpc.system", "grpc")
		service, name, _ := strings.Cut(strings.TrimPrefix(pathOf(req), "/"), "/")
		b = AppendString(b, fieldAttributes, "rpc.service", service)
		b = AppendString(b, fieldAttributes, "rpc.method", name)
	}
	return b
}

// appendURL encodes url.full, without the query, which may hold secrets.
func appendURL(b []byte, scheme, authority, path string) []byte {
	n := len(scheme) + len("://") + len(authority) + len(path)
	b = appendKey(b, fieldAttributes, "url.full", 1+size(n)+n)
	b = append(append(appendLen(b, 1, n), scheme...), "://"...)
	return append(append(b, authority...), path...)
}

func version(v proxy.Version) string {
	switch v {
	case proxy.HTTP10:
		return "1.0"
	case proxy.HTTP11:
		return "1.1"
	case proxy.HTTP2:
		return "2"
	case proxy.HTTP3:
		return "3"
	}
	return ""
}

// appendServer encodes host:port.
func appendServer(b []byte, authority string) []byte {
	if authority == "" {
		return b
	}
	host := authority
	if i := strings.LastIndexByte(authority, ':'); i > 0 && authority[i-1] != ':' && !strings.HasSuffix(authority, "]") {
		if port, err := strconv.ParseUint(authority[i+1:], 10, 16); err == nil {
			host = authority[:i]
			b = appendInt(b, fieldAttributes, "server.port", int64(port))
		}
	}
	return AppendString(b, fieldAttributes, "server.address", strings.Trim(host, "[]"))
}

func appendPeer(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	var room [64]byte
	b = AppendString(b, fieldAttributes, "network.peer.address", string(a.Addr().AppendTo(room[:0])))
	return appendInt(b, fieldAttributes, "network.peer.port", int64(a.Port()))
}

// appendOutcome encodes how it went.
func appendOutcome(b []byte, e *observe.Entry) []byte {
	if e.Status != 0 && !e.Request.IsConnect() && e.Shape != observe.Flow {
		b = appendInt(b, fieldAttributes, "http.response.status_code", int64(e.Status))
	}
	if e.GRPC >= 0 {
		b = appendInt(b, fieldAttributes, "rpc.grpc.status_code", int64(e.GRPC))
	}
	in, out := "http.request.body.size", "http.response.body.size"
	if e.Shape != observe.Exchange {
		in, out = "pillion.bytes_in", "pillion.bytes_out"
	}
	if e.BytesIn > 0 {
		b = appendInt(b, fieldAttributes, in, e.BytesIn)
	}
	if e.BytesOut > 0 {
		b = appendInt(b, fieldAttributes, out, e.BytesOut)
	}
	if e.Code != "" {
		b = AppendString(b, fieldAttributes, "pillion.code", e.Code)
	}
	if e.End != observe.Complete || e.Shape != observe.Exchange {
		b = AppendString(b, fieldAttributes, "pillion.end", e.End.String())
	}
	if failed(e) {
		b = AppendString(b, fieldAttributes, "error.type", errorType(e.Status, e.GRPC, e.Code))
	}
	return b
}

// errorType: "If response status code was sent or received and status indicates an error, error.type SHOULD be set to the status code number".
func errorType(status, grpc int, code string) string {
	switch {
	case code != "":
		return code
	case grpc > 0:
		return strconv.Itoa(grpc)
	case status >= 400:
		return strconv.Itoa(status)
	}
	return "_OTHER"
}

func message(e *observe.Entry) string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return ""
}

func appendStatus(b []byte, text string) []byte {
	text = clean(text)
	n := 2
	if text != "" {
		n += 1 + size(len(text)) + len(text)
	}
	b = appendLen(b, fieldStatus, n)
	if text != "" {
		b = appendText(b, 2, text)
	}
	return appendEnum(b, 3, statusError)
}

// events encodes what was decided.
func (s *Spans) events(b []byte, e *observe.Entry) []byte {
	events, dropped := e.Record().Events()
	for i := range events {
		b = s.event(b, &events[i])
	}
	if dropped > 0 {
		b = appendEnum(b, fieldDroppedEvents, uint64(dropped))
	}
	if e.Shape != observe.Exchange && e.Head != 0 {
		var room [32]byte
		v := appendText(appendFixed64(room[:0], 1, s.at(e.Head)), 2, "opened")
		b = AppendBytes(b, fieldEvents, v)
	}
	return b
}

// event encodes one, whose name is who decided and what.
func (s *Spans) event(b []byte, v *proxy.Event) []byte {
	var room [512]byte
	m := appendFixed64(room[:0], 1, s.at(v.At))
	text := clean(v.Text)
	m = appendLen(m, 2, len(v.Layer)+2+len(text))
	m = append(append(append(m, v.Layer...), ": "...), text...)
	if v.N != 0 {
		m = appendInt(m, 3, "pillion.n", v.N)
	}
	if v.Endpoint != nil {
		m = AppendString(m, 3, "pillion.endpoint", v.Endpoint.String())
	}
	return AppendBytes(b, fieldEvents, m)
}

// attempt encodes the span of the i-th attempt.
func (s *Spans) attempt(b []byte, e *observe.Entry, a *proxy.Attempt, i int, last bool) []byte {
	id := a.SpanID
	if id == (proxy.SpanID{}) {
		id = tracing.NewSpanID()
	}
	b = s.begin(b, e, id, e.Record().Trace.Span, kindClient, false)
	end := a.End
	switch {
	case end == 0 && (last || a.Head == 0):
		end = e.Stop
	case end == 0:
		end = a.Head
	}
	b = appendFixed64(b, fieldStart, s.at(a.Start))
	b = appendFixed64(b, fieldEnd, s.at(end))
	b = appendRequest(b, e)
	if i > 0 {
		b = appendInt(b, fieldAttributes, "http.request.resend_count", int64(i))
	}
	if a.Endpoint != nil {
		b = appendPeer(b, a.Endpoint.Addr)
		if a.Endpoint.Identity != "" {
			b = AppendString(b, fieldAttributes, "pillion.peer", string(a.Endpoint.Identity))
		}
	}
	if a.Status != 0 && e.Shape == observe.Exchange {
		b = appendInt(b, fieldAttributes, "http.response.status_code", int64(a.Status))
	}
	if a.Code != "" {
		b = AppendString(b, fieldAttributes, "pillion.code", string(a.Code))
	}
	if a.Code != "" || a.Status >= 400 {
		b = AppendString(b, fieldAttributes, "error.type", errorType(a.Status, -1, string(a.Code)))
		b = appendStatus(b, "")
	} else if last && failed(e) {
		b = AppendString(b, fieldAttributes, "error.type", errorType(e.Status, e.GRPC, e.Code))
		b = appendStatus(b, message(e))
	}
	return b
}
