package http3

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/quic-go/quic-go"
)

// ErrSilence is what HandshakeError makes of an end for want of an answer.
var ErrSilence = errors.New("no answer over UDP in time")

// The codes of QUIC for the alerts of TLS. RFC 9001 section 4.8: "the one-byte AlertDescription value is added to 0x0100".
const (
	firstAlert = quic.TransportErrorCode(0x100)
	lastAlert  = quic.TransportErrorCode(0x1ff)
)

// HandshakeError makes of QUIC's errors those that are met over TCP: an alert of the peer is what crypto/tls makes of it, our own is the error that
// caused it, silence is ErrSilence.
func HandshakeError(err error) error {
	var wire *quic.TransportError
	var silence *quic.HandshakeTimeoutError
	var idle *quic.IdleTimeoutError
	switch {
	case errors.As(err, &wire) && wire.ErrorCode >= firstAlert && wire.ErrorCode <= lastAlert:
		if wire.Remote {
			return &net.OpError{Op: "remote error", Err: tls.AlertError(wire.ErrorCode - firstAlert)}
		}
		if causes := wire.Unwrap(); causes[len(causes)-1] != nil {
			return causes[len(causes)-1]
		}
	case errors.As(err, &silence), errors.As(err, &idle), errors.Is(err, context.DeadlineExceeded):
		return ErrSilence
	}
	return err
}
