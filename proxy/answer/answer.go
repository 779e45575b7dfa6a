// Package answer makes every answer that pillion gives by itself, in one function: a code, a sentence,
// and the request id, in the form that the caller understands (plain text, or gRPC's status).
package answer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Names of the fields that tell pillion's own answers from the app's.
const (
	CodeField = "Pillion-Error"
	IDField   = "Pillion-Request-Id"
)

// Fill turns err into pillion's own answer to req. resp must be empty. req may lack anything but must not be nil.
func Fill(req *proxy.Request, resp *proxy.Response, err error) {
	e := Classify(err)
	id := RequestID(req)
	resp.Code = string(e.Code)
	resp.Version = req.Version
	sentence := e.Detail
	if e.Err != nil {
		sentence += ": " + e.Err.Error()
	}
	sentence = clean(sentence)
	req.Note("answer", sentence, int64(e.Code.Status()))
	status := e.Status
	if status == 0 {
		status = e.Code.Status()
	}
	if isGRPC(req) {
		resp.Status = 200
		resp.Fields.Add("content-type", "application/grpc")
		resp.Fields.Add("grpc-status", strconv.Itoa(grpcStatus(status)))
		resp.Fields.Add("grpc-message", url.PathEscape("pillion: "+string(e.Code)+": "+sentence+" (request id "+id+")"))
		addOwn(resp, e, id, req.Peer != nil)
		return
	}
	resp.Status = status
	text := fmt.Sprintf("pillion: %d %s: %s (request id %s)\n", resp.Status, e.Code, sentence, id)
	resp.Fields.Add("Content-Type", "text/plain; charset=utf-8")
	addOwn(resp, e, id, req.Peer != nil)
	if req.Upgrade == proxy.ConnectUDP { // RFC 9298 section 3.1: who cannot open the socket says so in Proxy-Status
		resp.Fields.Add("Proxy-Status", proxyStatus(e.Code, sentence))
	}
	resp.Length = int64(len(text))
	if req.Method != "HEAD" {
		resp.Body = &proxy.Content{Left: []byte(text)}
	}
}

func addOwn(resp *proxy.Response, e *proxy.Error, id string, peer bool) {
	resp.Fields.Add(CodeField, string(e.Code))
	resp.Fields.Add(IDField, id)
	resp.Fields = append(resp.Fields, e.Fields...)
	if e.Unsent && peer {
		resp.Fields.Add(proxy.UnsentField, "1")
	}
}

// Classify finds the *proxy.Error in err, or makes one.
func Classify(err error) *proxy.Error {
	var e *proxy.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, task.ErrDeadline):
		return &proxy.Error{Code: proxy.Timeout, Detail: "the answer did not come in time", Err: err}
	default:
		return &proxy.Error{Code: proxy.Internal, Detail: "an error that pillion has no name for", Err: err}
	}
}

// Rescue is the outermost layer: below it errors are errors, above it they are answers.
// An Exchange whose client has left stays an error: nobody reads an answer.
func Rescue(next proxy.RoundTripper) proxy.RoundTripper { return &rescue{next} }

type rescue struct{ next proxy.RoundTripper }

// RoundTrip implements proxy.RoundTripper.
func (r *rescue) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if err := r.next.RoundTrip(req, resp); err != nil {
		return Instead(req, resp, err)
	}
	return nil
}

// Instead is what Rescue does with an error.
func Instead(req *proxy.Request, resp *proxy.Response, err error) error {
	if req.Cancel.Err() != nil {
		return err
	}
	Fill(req, resp, err)
	return nil
}

// RequestID is the id the request came with, else a new one, which it has from then on.
func RequestID(req *proxy.Request) string {
	if req.ID == "" {
		req.ID = strings.Clone(clean(req.Fields.Get("X-Request-Id")))
	}
	if req.ID == "" || len(req.ID) > 128 {
		req.ID = fmt.Sprintf("%016x", rand.Uint64())
	}
	return req.ID
}

func isGRPC(req *proxy.Request) bool {
	return strings.HasPrefix(req.Fields.Get("Content-Type"), "application/grpc")
}

// grpcStatus follows the gRPC project's mapping of HTTP statuses, but for what pillion knows better.
func grpcStatus(status int) int {
	switch status {
	case 400, 431:
		return 13 // INTERNAL
	case 403:
		return 7 // PERMISSION_DENIED
	case 429:
		return 8 // RESOURCE_EXHAUSTED
	case 501:
		return 12 // UNIMPLEMENTED
	case 504:
		return 4 // DEADLINE_EXCEEDED
	case 500:
		return 13
	default:
		return 14 // UNAVAILABLE
	}
}

// clean makes s safe as a field value and as a line of text.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
