package grpcio

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Code is a gRPC status.
type Code int

// The statuses, as in https://github.com/grpc/grpc/blob/master/doc/statuscodes.md.
const (
	OK Code = iota
	Canceled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

// Error is a status other than OK.
type Error struct {
	Code    Code
	Message string
	Details []byte // the google.rpc.Status in which some servers say more, or nil
}

// Error says the message, with the number of the status.
func (e *Error) Error() string { return fmt.Sprintf("%s (gRPC status %d)", e.Message, e.Code) }

// CodeOf returns the status in err: OK for nil, and Unavailable for what is no *Error, since then the server was not reached.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if err == nil {
		return OK
	}
	return Unavailable
}

// refused returns why an answer has no messages, or nil.
func refused(r *http.Response) error {
	if r.StatusCode != http.StatusOK {
		return &Error{Code: ofHTTP(r.StatusCode), Message: "HTTP status " + r.Status}
	}
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/grpc") {
		return &Error{Code: Unknown, Message: fmt.Sprintf("the answer is no gRPC but %q", kind)}
	}
	if r.Header.Get("Grpc-Status") != "" { // "Trailers-Only"
		return outcome(r.Header, io.EOF)
	}
	return nil
}

// outcome reads the end of a call; ok is what OK means.
func outcome(h http.Header, ok error) error {
	text := h.Get("Grpc-Status")
	n, err := strconv.Atoi(text)
	switch {
	case text == "":
		return &Error{Code: Unavailable, Message: "the call ended without a status"}
	case err != nil:
		return &Error{Code: Unknown, Message: fmt.Sprintf("the call ended with status %q", text)}
	case n == int(OK):
		return ok
	}
	message := h.Get("Grpc-Message")
	if plain, err := url.PathUnescape(message); err == nil {
		message = plain
	}
	details, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(h.Get("Grpc-Status-Details-Bin"), "="))
	if err != nil || len(details) == 0 {
		details = nil
	}
	return &Error{Code: Code(n), Message: message, Details: details}
}

// ofHTTP is https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md.
func ofHTTP(status int) Code {
	switch status {
	case http.StatusBadRequest:
		return Internal
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return PermissionDenied
	case http.StatusNotFound:
		return Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unavailable
	}
	return Unknown
}
