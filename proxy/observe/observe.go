package observe

import (
	"io"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Sink is told of requests. Its methods are called on the request's shard, by its task or, Done, by a callback; they must not wait, and
// whatever takes long is handed to an ordinary goroutine over a bounded queue.
type Sink interface {
	// Begin is called before anything is decided; it may change the request's fields.
	Begin(e *Entry)
	// Head is called when there is the head of a final answer; it may change its fields.
	Head(e *Entry)
	// Done is called once, at the end. Request and, after Head, Response are still valid.
	Done(e *Entry)
}

// Config says what is observed, and for whom.
type Config struct {
	Direction Direction
	// Shards are all on which requests run.
	Shards []task.Shard
	Sinks  []Sink
}

// Layer returns the layer, which is outside of answer.Rescue. Without Sinks it is nothing.
func Layer(cfg Config) proxy.Layer {
	if len(cfg.Sinks) == 0 {
		return func(next proxy.RoundTripper) proxy.RoundTripper { return next }
	}
	return func(next proxy.RoundTripper) proxy.RoundTripper {
		most := 0
		for _, s := range cfg.Shards {
			most = max(most, s.Index()+1)
		}
		return &layer{cfg: cfg, next: next, spare: make([]spare, most)}
	}
}

type layer struct {
	cfg   Config
	next  proxy.RoundTripper
	spare []spare // by Shard.Index, each guarded by its shard's lock
}

// spare are Entries for the next requests of a shard. They are not looked at before they are used: memory is fetched while the request goes on.
type spare []*Entry

func (s *spare) take() *Entry {
	n := len(*s) - 1
	if n < 0 {
		return nil
	}
	e := (*s)[n]
	*s = (*s)[:n]
	return e
}

func (s *spare) give(e *Entry) { *s = append(*s, e) }

// RoundTrip implements proxy.RoundTripper.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	e := l.begin(req)
	for _, s := range l.cfg.Sinks {
		s.Begin(e)
	}
	if req.Body != nil {
		if e.Capture > 0 {
			e.In = e.captured()
		}
		req.Body, e.request = count(req.Body, e.In)
	}
	if err := l.next.RoundTrip(req, resp); err != nil {
		e.End, e.Err = Cut, err
		if req.Cancel.Err() != nil {
			e.End, e.Code = ClientGone, string(proxy.ClientGone)
		}
		l.end(e)
		return err
	}
	e.head(resp)
	for _, s := range l.cfg.Sinks {
		s.Head(e)
	}
	e.follow(resp)
	return nil
}

// begin takes an Entry for req.
func (l *layer) begin(req *proxy.Request) *Entry {
	i := req.Shard.Index()
	req.Shard.Lock()
	e := l.spare[i].take()
	req.Shard.Unlock()
	if e == nil {
		e = &Entry{layer: l}
	}
	e.Direction, e.Request, e.Start, e.GRPC = l.cfg.Direction, req, req.Shard.Now(), -1
	switch {
	case req.Upgrade == proxy.ConnectUDP:
		e.Shape = Flow
	case req.IsConnect():
		e.Shape = Stream
	}
	e.timed = e.Direction == Inbound && !req.Lacks(proxy.NameTo) && req.Fields.Has(proxy.ToField)
	req.Record = &e.record
	return e
}

// head notes what the head of the answer says.
func (e *Entry) head(resp *proxy.Response) {
	e.Response, e.Head = resp, e.Request.Shard.Now()
	e.Status, e.Code = resp.Status, resp.Code
	e.divide()
	e.tell(resp)
	if resp.Stream != nil && e.Shape == Exchange {
		e.Shape = Stream
	}
	if e.grpc = isGRPC(resp.Fields); e.grpc {
		e.GRPC = grpcStatus(resp.Fields)
	}
}

// follow has e see what comes after the head.
func (e *Entry) follow(resp *proxy.Response) {
	switch {
	case resp.Body != nil:
		if e.Capture > 0 {
			e.Out = e.captured()
			e.response.begin = e.Out
		}
		e.response.Body = resp.Body
		resp.Body = &e.response
	case resp.Stream != nil && e.Shape == Stream:
		if e.stream == nil {
			e.stream = new(stream)
		}
		resp.Stream = e.stream.watch(resp.Stream)
	}
	e.inner = resp.Closer()
	resp.OnClose(e)
}

// CloseResponse implements proxy.ResponseCloser: the request has ended.
func (e *Entry) CloseResponse(resp *proxy.Response) {
	e.judge(resp)
	inner := e.inner
	if e.isStream() && resp.Stream != nil {
		resp.Stream = e.stream.Stream // e is another request's from now on, and whoever made the answer may end it
	}
	e.layer.end(e)
	if inner != nil {
		inner.CloseResponse(resp)
	}
}

// isStream reports whether e follows a Stream.
func (e *Entry) isStream() bool { return e.stream != nil && e.stream.Stream != nil }

func (e *Entry) judge(resp *proxy.Response) {
	body := &e.response
	e.BytesOut = body.n
	switch {
	case e.isStream():
		e.BytesIn, e.BytesOut = e.stream.in, e.stream.out
		e.End, e.Err = e.stream.judge()
		e.StreamDone = e.End == Complete
	case body.err != nil && body.err != io.EOF:
		e.End, e.Err = Cut, body.err
	case e.Request.Cancel.Err() != nil:
		e.End, e.Err = ClientGone, e.Request.Cancel.Err()
	case body.Body == nil || body.err == io.EOF || resp.Length == body.n && resp.Length >= 0:
		e.End = Complete
	default:
		e.End = ClientGone
	}
	if body.err == io.EOF && e.GRPC < 0 && e.grpc {
		e.GRPC = grpcStatus(body.Trailers())
	}
}

// end tells the Sinks and gives e back.
func (l *layer) end(e *Entry) {
	req := e.Request
	if e.request != nil {
		e.BytesIn = e.request.Count()
	}
	e.Stop = req.Shard.Now()
	if err := req.Cancel.Err(); err == proxy.ErrWithdrawn {
		e.End, e.Status, e.Code, e.Err = Withdrawn, 0, "", err
	}
	for _, s := range l.cfg.Sinks {
		s.Done(e)
	}
	if req.Record == &e.record {
		req.Record = nil
	}
	e.record.Reset()
	e.Facts, e.request, e.response, e.inner, e.grpc = Facts{}, nil, content{}, nil, false
	if e.isStream() {
		*e.stream = stream{}
	}
	i := req.Shard.Index()
	req.Shard.Lock()
	l.spare[i].give(e)
	req.Shard.Unlock()
}

func isGRPC(fields proxy.Fields) bool {
	return strings.HasPrefix(fields.Get("Content-Type"), "application/grpc")
}

// grpcStatus is the status that fields say, or -1.
func grpcStatus(fields proxy.Fields) int {
	text := fields.Get("Grpc-Status")
	if text == "" {
		return -1
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 2 // UNKNOWN, as gRPC clients take it
	}
	return int(n)
}
