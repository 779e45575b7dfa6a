package http1

import (
	"errors"
	"io"
	"strconv"

	"github.com/pillion-proxy/pillion/proxy"
)

// badMessage says why bytes are not an acceptable message, and the status that tells a client so.
type badMessage struct {
	status int
	reason string
}

func (e *badMessage) Error() string { return e.reason }

func bad(reason string) *badMessage { return &badMessage{400, reason} }

// asError makes what was wrong with a request an error that the stack knows how to answer.
func (e *badMessage) asError() *proxy.Error {
	code := proxy.BadRequest
	switch e.status {
	case 414, 431:
		code = proxy.HeadTooLarge
	case 501, 505:
		code = proxy.Unsupported
	case 408:
		code = proxy.Timeout
	}
	return &proxy.Error{Code: code, Detail: e.reason, Unsent: true}
}

// errClosedBody is returned by a Body after Close.
var errClosedBody = errors.New("read of a body after its exchange")

// errTruncated is a content that ended before its announced end.
var errTruncated = &truncated{}

type truncated struct{}

func (*truncated) Error() string {
	return "content cut short: the connection ended before the content did"
}

// Unwrap lets errors.Is find io.ErrUnexpectedEOF.
func (*truncated) Unwrap() error { return io.ErrUnexpectedEOF }

// ErrHTTP2 is in the error of RoundTrip if the app answered with SETTINGS: it speaks HTTP/2 only, and has not taken
// our bytes for a request.
var ErrHTTP2 = errors.New("the app speaks HTTP/2, not HTTP/1.1")

// quoted is s in quotes, short enough for a sentence.
func quoted(s string) string {
	const most = 64 // bytes
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

var bad400Empty = bad("an empty head")

// tooLong says what is too long: the first line, or the whole.
func tooLong(b []byte) *badMessage {
	for _, c := range b {
		if c == '\n' {
			return &badMessage{431, "the head is too large"}
		}
	}
	return &badMessage{414, "the first line is too long"}
}

// errTooMuch is a Body that gives more bytes than Length says.
var errTooMuch = errors.New("more content than its length says")

// errTrailers are trailers from another codec that would break the framing here.
var errTrailers = errors.New("a trailer field that cannot be said in HTTP/1.1")
