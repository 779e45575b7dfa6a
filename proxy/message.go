package proxy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// Field is one header or trailer line. Name is as it was written: HTTP/1 in the sender's case, HTTP/2 in lower case.
type Field struct{ Name, Value string }

// Fields is an ordered list of header or trailer lines. Names compare without case.
type Fields []Field

// SameName compares the names of fields: without the case of letters, as RFC 9110 section 5.1 has it. Most differ in their length or their first letter, and those
// that are the same are so in case too, mostly.
func SameName(a, b string) bool {
	return len(a) == len(b) && (a == b || a[0]|0x20 == b[0]|0x20 && foldedSame(a, b))
}

// foldedSame compares two names of one length.
func foldedSame(a, b string) bool {
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x |= 0x20; x != y|0x20 || x < 'a' || x > 'z' {
			return false
		}
	}
	return true
}

// Get returns the first value of name, or "".
func (f Fields) Get(name string) string {
	if i := f.Index(name); i >= 0 {
		return f[i].Value
	}
	return ""
}

// Has reports whether there is a line with this name.
func (f Fields) Has(name string) bool { return f.Index(name) >= 0 }

// Index returns the place of the first line with this name, or -1.
func (f Fields) Index(name string) int {
	if name == "" {
		return -1
	}
	first := name[0] | 0x20
	for i := range f {
		// Most names differ in their length or their first letter, which is seen without a call.
		if n := f[i].Name; len(n) == len(name) && n[0]|0x20 == first && (n == name || foldedSame(n, name)) {
			return i
		}
	}
	return -1
}

// Add appends a line.
func (f *Fields) Add(name, value string) { *f = append(*f, Field{name, value}) }

// Set replaces the value of the first line with this name, in its place, and removes the
// others; if there is none it appends one.
func (f *Fields) Set(name, value string) {
	i := f.Index(name)
	if i < 0 {
		f.Add(name, value)
		return
	}
	(*f)[i].Value = value
	rest := (*f)[i+1:]
	rest.Del(name)
	*f = (*f)[:i+1+len(rest)]
}

// Del removes every line with this name, keeping the order of the others.
func (f *Fields) Del(name string) {
	if at := f.Index(name); at >= 0 {
		f.DelFrom(at)
	}
}

// DelFrom removes the line at a place and every line behind it with its name, keeping the order of the others.
func (f *Fields) DelFrom(at int) {
	name := (*f)[at].Name
	kept := (*f)[:at]
	for i := at + 1; i < len(*f); i++ {
		if x := &(*f)[i]; !SameName(x.Name, name) {
			kept = append(kept, *x)
		}
	}
	*f = kept
}

// Version is the HTTP version in which a message arrived.
type Version uint8

const (
	HTTP10 Version = 10
	HTTP11 Version = 11
	HTTP2  Version = 20
	HTTP3  Version = 30
)

// Length of a body in Request.Length and Response.Length.
const (
	// Unknown: delimited by chunks, by frames, or by the end of the connection.
	Unknown int64 = -1
)

// Request is the first half of an Exchange. The zero value with a Method, an
// Authority, a Path and a Shard is a usable request without a body.
type Request struct {
	Method    string
	Scheme    string // "http", "https", or "" for CONNECT
	Authority string // host or host:port that the client asked for, as written; for CONNECT the target
	Path      string // origin form with query, "*" for OPTIONS *, "" for CONNECT
	Version   Version
	// Upgrade is what the client wants to speak instead: the Upgrade token of HTTP/1, or :protocol of an extended
	// CONNECT (RFC 8441), as in "websocket". The codecs convert one into the other: Method is then what HTTP/1 would say
	// ("GET"), and Fields hold neither Connection nor Upgrade.
	Upgrade string

	// Fields hold no hop-by-hop lines (RFC 9110 section 7.6.1): the codecs that read remove them, and with them
	// Transfer-Encoding: framing is theirs. From HTTP/1 the Host line stays in its place, and so does a Content-Length line,
	// but what counts is Authority and Length: codecs that write take the values from there. TE: trailers and Trailer are kept.
	Fields Fields
	// Names are what the codec knows of Fields; zero: nothing.
	Names Names
	// Length is the number of bytes of Body, 0 for none, or Unknown.
	Length int64
	// Body is nil when Length is 0. It is read by whoever sends the request on, and closed by who made it.
	Body Body
	// Expect is true if the client waits for 100 (Continue) before it sends Body; the codec sends
	// that 100 by itself once Body is first read, unless Inform passed one on.
	Expect bool

	// Inform, if not nil, is called for every 1xx answer but 101, before RoundTrip returns.
	Inform func(status int, fields Fields)

	// Where the request came from and runs. Set by the listener.

	Shard          task.Shard
	Deadline       task.Instant   // for the head of the answer, or the opening of a Stream; 0: none
	ConnectTimeout time.Duration  // for a connection, or a turn on one; 0: that of who makes it
	Cancel         *Cancel        // never nil in a stack
	Client         netip.AddrPort // the app that called (outbound) or the peer's sidecar (inbound; of a Stream, who that says its client is); zero for a Unix socket
	Peer           *Peer          // inbound: who the calling sidecar proved to be; nil outbound
	Local          bool           // outbound: the request entered at this sidecar's own local side

	// Where it goes. Set by the layers on the way down.

	Service  Service   // what was called, whose settings apply; set by routing
	Backend  Service   // the service whose Endpoints are called where that is another one; set by routing, zero: Service
	Rule     int       // which of the service's routes applies, set by routing: 1 is the first; 0: none, the service's own settings
	Endpoint *Endpoint // set by upstream; nil before
	Attempt  int       // 0 for the first try
	// Tried are the Endpoints that this request, or an earlier attempt of it, was sent to in vain. Upstream chooses another while there is one, and tells them
	// apart by value. Who tries again adds to it.
	Tried []*Endpoint
	// Chosen, if not nil, is given each Endpoint that upstream chooses, for who looks on from another task.
	Chosen *atomic.Pointer[Endpoint]
	// Again is the Endpoint that the request must go to, because it may have run there; nil: any.
	Again *Endpoint
	// AttemptID, if not "", is the same for all attempts of a request that must not run twice; AttemptAge is the time since the first. Links tell them
	// to peers that are pillions.
	AttemptID  string
	AttemptAge time.Duration
	// AllBy is the deadline of all attempts of a request with an AttemptID together, 0 if there is none: peers are told this one, because what they run is
	// run for all of them. Deadline is that of the attempt.
	AllBy task.Instant
	// News, if not "", makes the request a question to a peer's sidecar, and not to its app: what has changed since this position, which it has told before.
	News string
	// Pillion says that the calling sidecar is one that understands what pillions say to each other. Inbound.
	Pillion bool
	ID      string  // request id, for answers that pillion makes itself; may be ""
	Record  *Record // takes what is decided about the request; nil: nobody asks
}

// IsConnect reports whether the request asks for a plain Stream: method CONNECT without Upgrade.
func (r *Request) IsConnect() bool { return r.Method == "CONNECT" && r.Upgrade == "" }

// SettingsOf returns what of all applies to req, by its Rule: all[0] are the settings of the service itself, and so of its routes that are not there,
// all[n] those of its n-th route.
func SettingsOf[S any](req *Request, all []S) *S {
	if req.Rule < len(all) {
		return &all[req.Rule]
	}
	return &all[0]
}

// Response is the second half of an Exchange. Its zero value is ready to be filled.
type Response struct {
	Status  int
	Reason  string // as the app wrote it; "" means the customary one. Carried where the wire can
	Version Version
	// Fields hold no hop-by-hop lines; see Request.Fields.
	Fields Fields
	// Names are what the codec knows of Fields; zero: nothing.
	Names Names
	// Length is the number of bytes of Body, 0 for none, or Unknown. For an answer to HEAD, and for a 304,
	// Length is what the field said (or Unknown when it said nothing) and Body is nil.
	Length int64
	// Body is nil when there is none. A read error other than io.EOF means that the answer was cut short:
	// the client's half must be reset, never ended in order.
	Body Body
	// Stream is set instead of Body when the peer agreed to CONNECT (2xx) or Upgrade (101).
	Stream Stream
	// Flow is set instead of Body, or beside the Stream that it lives as long as, when the peer agreed to an Upgrade to ConnectUDP and datagrams
	// have been made of what carries it.
	Flow Flow
	// Unsent is true if the answer is that of the peer's sidecar, which says that the request never ran: no byte of it was handed to the app.
	Unsent bool
	// Took is how long the peer's sidecar says that it took to the head of the answer, and AppTook the app's part of that; 0 if it does not say. Inbound, over HTTP/2, they are
	// what the codec says to the peer.
	Took, AppTook time.Duration
	// News is the position that the peer's sidecar tells, see NewsField; "" if it tells none.
	News string
	// Code says that pillion made this answer itself, and why, as in "no_endpoints"; else "".
	Code string

	closer ResponseCloser
}

// ResponseCloser gives back what a Response holds: it ends what is unread of the body (by reset, if it must)
// and frees buffers. It is called once.
type ResponseCloser interface{ CloseResponse(*Response) }

// OnClose sets who is told by Close. Who fills a Response calls it.
func (r *Response) OnClose(c ResponseCloser) { r.closer = c }

// Closer returns what OnClose set, for a layer that wraps it.
func (r *Response) Closer() ResponseCloser { return r.closer }

// Close ends the Exchange and makes r ready to be filled again, keeping the capacity of Fields. It is called by who called RoundTrip,
// once RoundTrip has returned nil. It never waits. A Stream not yet closed is reset.
func (r *Response) Close() {
	c := r.closer
	r.closer = nil
	if c != nil {
		c.CloseResponse(r)
	}
	f := r.Fields[:0]
	clear(r.Fields[:cap(r.Fields)])
	*r = Response{} // cleared in place, which is cheaper than a copy
	r.Fields = f
}

// Body is the content of a message, read once. Read and Close are called by tasks of the message's shard.
type Body interface {
	// Read waits for at least one byte. io.EOF means the whole content has arrived; any other error means
	// it is cut short.
	Read(p []byte) (int, error)
	// Buffered is the number of bytes that Read would return without waiting; 0 if unknown. At the end of
	// the content, -1.
	Buffered() int
	// Trailers are the trailer fields, valid once Read has returned io.EOF.
	Trailers() Fields
	// Close abandons what is unread. It never waits and is idempotent.
	Close() error
}

// Stream is bytes both ways. One task may read while another writes. A task.Conn is a Stream.
type Stream interface {
	// Read waits for at least one byte. io.EOF: the other side has finished sending; any other error: it broke.
	Read(p []byte) (int, error)
	// Write waits until all of p is on its way.
	Write(p []byte) (int, error)
	// CloseWrite tells the other side that no more will come. Reading goes on.
	CloseWrite() error
	// Close releases the Stream after both directions have ended. Idempotent; wakes waiters.
	Close() error
	// Reset ends both directions at once, so that the other side sees an error and not an end. Idempotent; wakes waiters.
	Reset() error
}

// Waiter is implemented by Streams, Bodies and Flows that can wait without a buffer.
type Waiter interface {
	// WaitReadable waits until Read, or Receive, would not wait.
	WaitReadable() error
}

// Truncater is implemented by Bodies of answers that know whether they are whole.
type Truncater interface {
	// Truncated says why less of the content has come than there should be: its sender gave up, or the connection was lost. It is nil while more may
	// come, after the end, and where the reader itself has left. It may be asked until the Response is closed, after Close of the Body too.
	Truncated() error
}

// Counter is implemented by Bodies that know how much has been read of them, in bytes. Count is called on the Body's shard, also while another task
// reads, or after the end.
type Counter interface{ Count() int64 }

// RoundTripper carries out one Exchange.
type RoundTripper interface {
	// RoundTrip sends req and fills resp, which is empty, with the head of the final answer. After a nil error the caller reads resp.Body
	// or relays resp.Stream, and then calls resp.Close. After an error resp is untouched and nothing is left to do.
	// The error is an *Error wherever pillion knows better than "it failed".
	RoundTrip(req *Request, resp *Response) error
}

// RoundTripperFunc makes a function a RoundTripper.
type RoundTripperFunc func(req *Request, resp *Response) error

// RoundTrip calls f.
func (f RoundTripperFunc) RoundTrip(req *Request, resp *Response) error { return f(req, resp) }

// Layer wraps one concern around an Exchange.
type Layer func(RoundTripper) RoundTripper

// Before is a concern that ends with looking at, or changing, a request on its way in. An error ends the request.
type Before func(req *Request) error

// Layer makes f a Layer. Several in a row are one.
func (f Before) Layer(next RoundTripper) RoundTripper {
	if b, ok := next.(*befores); ok {
		return &befores{append([]Before{f}, b.all...), b.next}
	}
	return &befores{[]Before{f}, next}
}

// Peel returns what rt begins with that only looks at requests, for who does that itself, and what comes behind it.
func Peel(rt RoundTripper) ([]Before, RoundTripper) {
	if b, ok := rt.(*befores); ok {
		return b.all, b.next
	}
	return nil, rt
}

type befores struct {
	all  []Before
	next RoundTripper
}

// RoundTrip implements RoundTripper.
func (b *befores) RoundTrip(req *Request, resp *Response) error {
	for _, f := range b.all {
		if err := f(req); err != nil {
			return err
		}
	}
	return b.next.RoundTrip(req, resp)
}
