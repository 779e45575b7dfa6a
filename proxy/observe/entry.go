package observe

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Direction says on which side of the sidecar a request runs.
type Direction uint8

const (
	Outbound Direction = iota // from the app to a peer
	Inbound                   // from a peer to the app
)

// String returns "outbound" or "inbound".
func (d Direction) String() string {
	return [...]string{"outbound", "inbound"}[d]
}

// MarshalText implements encoding.TextMarshaler.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Direction) UnmarshalText(text []byte) error {
	return word(d, string(text), "outbound", "inbound")
}

// Shape is what a request became.
type Shape uint8

const (
	Exchange Shape = iota
	Stream
	Flow
)

// String returns "exchange", "stream" or "flow".
func (s Shape) String() string {
	return [...]string{"exchange", "stream", "flow"}[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s Shape) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Shape) UnmarshalText(text []byte) error {
	return word(s, string(text), "exchange", "stream", "flow")
}

// End is how a request ended.
type End uint8

const (
	Running    End = iota
	Complete       // to its last byte; a Stream in order in both directions
	ClientGone     // the client left first, or did not read to the end
	Cut            // the answer, or a direction of the Stream, broke
	Withdrawn      // nobody asked for it in the end: see proxy.ErrWithdrawn
)

// String returns "running", "complete", "client_gone", "cut" or "withdrawn".
func (e End) String() string {
	return [...]string{"running", "complete", "client_gone", "cut", "withdrawn"}[e]
}

// MarshalText implements encoding.TextMarshaler.
func (e End) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *End) UnmarshalText(text []byte) error {
	return word(e, string(text), "running", "complete", "client_gone", "cut", "withdrawn")
}

// Facts are what is known of one request.
type Facts struct {
	Direction Direction
	Shape     Shape
	Request   *proxy.Request
	// Response is valid from Head on; nil before, and where RoundTrip failed because the client had left.
	Response *proxy.Response

	Start task.Instant
	Head  task.Instant // of the answer; 0 while there is none
	Stop  task.Instant // Done

	Status     int
	Code       string // why pillion answered itself, "" if it did not; see README
	GRPC       int    // grpc-status, -1 if there was none
	End        End
	Err        error // what broke, where End is Cut; or what RoundTrip returned
	BytesIn    int64 // content from the client
	BytesOut   int64 // content to the client
	Parts      Parts // of the time to Head; zero while there is none
	StreamDone bool  // both directions of a Stream have ended
	Asked      bool  // the client wants to know what is decided; the flight recorder's Begin sets it
	// Slow is true if the head of the answer took longer than that of almost all requests of the service. The Sink that finds it out sets it in Done, for those after it.
	Slow bool

	// Capture is how many bytes of each content are wanted, from its beginning: a Sink that wants them raises it in Begin. It is no more than MaxCapture.
	// Streams are not captured.
	Capture int
	In, Out *Captured // what was; nil if nothing was wanted, or there was no content
}

// Failed reports whether the request counts as an error.
func (f *Facts) Failed() bool { return Failed(f.Status, f.Code, f.GRPC, f.End) }

// Failed reports whether a request that ended so counts as an error: an answer of pillion's own, a 5xx, an end before the end, or one of gRPC's statuses that mean
// trouble (UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS) where the others are answers. A client that leaves is
// no failure of ours, unless it got nothing for it.
func Failed(status int, code string, grpc int, end End) bool {
	return code != "" || status >= 500 || end == Cut || grpc == 2 || grpc == 4 || grpc == 8 || grpc >= 12 && grpc <= 15
}

// Entry is a request under observation. It is pooled: a Sink that keeps anything of it beyond Done copies it, strings included, since
// those of Request may stand in buffers that are used again.
type Entry struct {
	Facts

	layer    *layer
	timed    bool // the caller is a pillion, which takes proxy.TookField
	grpc     bool // the answer is gRPC's
	inner    proxy.ResponseCloser
	request  proxy.Counter // nil if there is no content
	response content
	record   proxy.Record

	stream *stream  // nil while it was never needed
	took   [32]byte // room for the value of proxy.TookField, so that it costs no garbage
}

// word sets v to the place of text among words.
func word[T ~uint8](v *T, text string, words ...string) error {
	for i, w := range words {
		if w == text {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", text, strings.Join(words, ", "))
}

// MaxCapture is the most that is captured of a content, in bytes.
const MaxCapture = 16 << 10

// Captured is the beginning of a content.
type Captured struct {
	mu sync.Mutex
	b  []byte
}

// Bytes returns what has been captured so far.
func (c *Captured) Bytes() []byte {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b
}

func (c *Captured) add(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b = append(c.b, p[:min(len(p), cap(c.b)-len(c.b))]...)
}

func (e *Entry) captured() *Captured {
	return &Captured{b: make([]byte, 0, min(e.Capture, MaxCapture))}
}

// Record is the request's timeline.
func (e *Entry) Record() *proxy.Record { return &e.record }

// count returns a Body that counts, and captures if it is to. Who sends it on may hold it beyond the request's end, so that a new one is not pooled.
func count(b proxy.Body, begin *Captured) (proxy.Body, proxy.Counter) {
	if c, ok := b.(proxy.Counter); ok && begin == nil {
		return b, c
	}
	c := &counted{content: content{Body: b, begin: begin}}
	return c, c
}

// counted is the content of a request, which is asked how much of it has been read while another task reads.
type counted struct {
	content
	read atomic.Int64
}

// Read implements proxy.Body.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.content.Read(p)
	c.read.Store(c.n)
	return n, err
}

// Count implements proxy.Counter.
func (c *counted) Count() int64 { return c.read.Load() }

// content counts a body.
type content struct {
	proxy.Body
	n     int64 // bytes that have been read
	err   error // io.EOF at the end
	begin *Captured
}

// Read implements proxy.Body.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.Body.Read(p)
	c.n += int64(n)
	if c.begin != nil {
		c.begin.add(p[:n])
	}
	if err != nil {
		c.err = err
	}
	return n, err
}

// WaitReadable implements proxy.Waiter: it returns early where the Body cannot wait.
func (c *content) WaitReadable() error {
	if w, ok := c.Body.(proxy.Waiter); ok {
		return w.WaitReadable()
	}
	return nil
}

// stream counts the bytes of a Stream, whose Read gives those towards the client.
type stream struct {
	proxy.Stream
	waiter   proxy.Waiter
	in, out  int64 // from and to the client
	read     error // how reading ended, io.EOF in order
	finished bool  // CloseWrite
	broken   error
}

func (s *stream) watch(inner proxy.Stream) proxy.Stream {
	w, _ := inner.(proxy.Waiter)
	*s = stream{Stream: inner, waiter: w}
	return s
}

// Read implements proxy.Stream.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	s.out += int64(n)
	if err != nil {
		s.read = err
	}
	return n, err
}

// Write implements proxy.Stream.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Stream.Write(p)
	s.in += int64(n)
	if err != nil {
		s.broken = err
	}
	return n, err
}

// CloseWrite implements proxy.Stream.
func (s *stream) CloseWrite() error {
	s.finished = true
	return s.Stream.CloseWrite()
}

// WaitReadable implements proxy.Waiter.
func (s *stream) WaitReadable() error {
	if s.waiter == nil {
		return nil
	}
	return s.waiter.WaitReadable()
}

// judge says how a Stream ended.
func (s *stream) judge() (End, error) {
	switch {
	case s.read == io.EOF && s.finished && s.broken == nil:
		return Complete, nil
	case s.read != nil && s.read != io.EOF && !errors.Is(s.read, task.ErrClosed):
		return Cut, s.read
	case s.broken != nil && !errors.Is(s.broken, task.ErrClosed):
		return Cut, s.broken
	}
	return ClientGone, nil
}
