package http3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// ConnError is why a Conn ended because of a broken rule.
type ConnError struct {
	Code   ErrCode
	Reason string // what was wrong
	Peer   bool   // the peer says so
}

// Error returns the code and the reason.
func (e *ConnError) Error() string {
	if e.Peer {
		return fmt.Sprintf("peer closed the HTTP/3 connection: %s: %s", e.Code, e.Reason)
	}
	return fmt.Sprintf("HTTP/3 connection error: %s: %s", e.Code, e.Reason)
}

// StreamReset is the cause in a *proxy.Error where a stream was reset.
type StreamReset struct {
	Code ErrCode
	Peer bool // the peer reset it
}

// Error says who reset the stream, and why.
func (e StreamReset) Error() string {
	if e.Peer {
		return "stream reset by peer: " + e.Code.String()
	}
	return "stream reset: " + e.Code.String()
}

// streamError is a rule that the peer broke on one stream.
type streamError struct {
	code   ErrCode
	reason string
}

func (e *streamError) Error() string { return e.code.String() + ": " + e.reason }

var (
	errDeadline  error = &proxy.Error{Code: proxy.Timeout, Detail: "the deadline of the exchange has passed", Err: task.ErrDeadline}
	errShort     error = &proxy.Error{Code: proxy.AppBadAnswer, Detail: "content does not have the length that was announced"}
	errTruncated error = &ConnError{Code: ErrFrame, Reason: "a stream ends within a frame"}
)

func unexpected(reason string) error { return &ConnError{Code: ErrFrameUnexpected, Reason: reason} }

// peerReset is what a stream's users get where the peer reset it.
func (c *Conn) peerReset(code ErrCode) error {
	e := &proxy.Error{Code: proxy.PeerReset, Detail: "the peer reset the stream", Err: StreamReset{Code: code, Peer: true}}
	if c.server {
		e.Code, e.Detail = proxy.ClientGone, "the client reset the stream"
		return e
	}
	if code == ErrRequestRejected {
		// RFC 9114 section 4.1.1: "The client can treat requests rejected by the server as though they had never been sent at all".
		e.Code, e.Detail, e.Unsent = proxy.Refused, "the peer refused the stream before it ran", true
	}
	return e
}

// lost is what a stream's users get where the connection ended.
func (c *Conn) lost(err error) error {
	if c.server {
		return &proxy.Error{Code: proxy.ClientGone, Detail: "the client's connection was lost", Err: err}
	}
	e := &proxy.Error{Code: proxy.PeerReset, Detail: "the connection was lost", Err: err}
	if errors.Is(err, quic.Err0RTTRejected) {
		e.Code, e.Detail, e.Unsent = proxy.Refused, notTaken, true
	}
	return e
}

// failedStream ends st because of err, which QUIC or a check has returned, and returns what st's users get.
func (c *Conn) failedStream(st *stream, err error) error {
	var broken *ConnError
	var rule *streamError
	var reset *quic.StreamError
	var named *proxy.Error
	switch {
	case errors.As(err, &named):
		c.endWith(st, named, ErrRequestCancelled)
	case errors.As(err, &broken):
		c.breakOff(broken)
		err = c.lost(broken)
		c.endWith(st, err, broken.Code)
	case errors.As(err, &rule):
		_ = c.provoked(st, rule) // st.err has it
	case errors.As(err, &reset) && reset.Remote:
		c.endWith(st, c.peerReset(ErrCode(reset.ErrorCode)), ErrRequestCancelled)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.endWith(st, errDeadline, ErrRequestCancelled)
	case errors.As(err, &reset) && c.gaveUp(st): // the content alone, not the stream
	case errors.As(err, &reset), errors.Is(err, quic.ErrStreamClosed): // by us: st.err says why
		c.endWith(st, task.ErrClosed, ErrRequestCancelled)
	default:
		c.endWith(st, c.lost(plain(err)), ErrRequestCancelled)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.err != nil {
		return st.err
	}
	return task.ErrClosed
}

// gaveUp reports whether the rest of a request's content was refused, which leaves the answer as it is.
func (c *Conn) gaveUp(st *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return st.unwanted
}

// plain makes a ConnError of what QUIC says of the peer's end.
func plain(err error) error {
	var app *quic.ApplicationError
	if errors.As(err, &app) {
		return &ConnError{Code: ErrCode(app.ErrorCode), Reason: app.ErrorMessage, Peer: app.Remote}
	}
	if errors.Is(err, context.Canceled) {
		return task.ErrClosed
	}
	return err
}

// wall is t as QUIC takes deadlines; the zero time is none.
func (c *Conn) wall(t task.Instant) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Now().Add(t.Sub(c.s.Now()))
}
