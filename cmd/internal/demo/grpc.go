package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// gRPC over net/http's HTTP/2, as much of it as four kinds of call need: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
// grpc_server.go and grpc_client.go are the two sides. There is neither compression nor a deadline in a field.

// The codes of gRPC that are used here.
const (
	codeOK              = 0
	codeUnknown         = 2
	codeInvalidArgument = 3
	codeNotFound        = 5
	codeUnimplemented   = 12
	codeInternal        = 13
)

// grpcContent is the media type; a suffix that names a codec may follow.
const grpcContent = "application/grpc"

// maxMessage bounds what is read into memory, in bytes.
const maxMessage = 4 << 20

// rpcError is a status other than OK.
type rpcError struct {
	code    int
	message string
}

func (e *rpcError) Error() string { return fmt.Sprintf("grpc status %d: %s", e.code, e.message) }

func rpcErrorf(code int, format string, args ...any) error {
	return &rpcError{code, fmt.Sprintf(format, args...)}
}

// codeOf returns the code of what a call ended with.
func codeOf(err error) int {
	var e *rpcError
	switch {
	case err == nil:
		return codeOK
	case errors.As(err, &e):
		return e.code
	default:
		return codeUnknown
	}
}

// messageOf returns the message of what a call ended with.
func messageOf(err error) string {
	var e *rpcError
	if errors.As(err, &e) {
		return e.message
	}
	return err.Error()
}

// appendMessage appends msg with its prefix: "Length-Prefixed-Message → Compressed-Flag Message-Length Message".
func appendMessage(b, msg []byte) []byte {
	b = append(b, 0) // not compressed
	b = binary.BigEndian.AppendUint32(b, uint32(len(msg)))
	return append(b, msg...)
}

// readMessage returns the next message; io.EOF if the stream ends before it, io.ErrUnexpectedEOF within it.
func readMessage(r io.Reader) ([]byte, error) {
	var prefix [5]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(prefix[1:])
	switch {
	case prefix[0] != 0:
		return nil, fmt.Errorf("a message with flag %d, though no compression was agreed on", prefix[0])
	case n > maxMessage:
		return nil, fmt.Errorf("a message of %d bytes, at most %d are accepted", n, maxMessage)
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(r, msg); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return msg, nil
}

// readOnly returns the one message of a stream that must carry just one.
func readOnly(r io.Reader) ([]byte, error) {
	msg, err := readMessage(r)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("no message, want one")
	}
	if err != nil {
		return nil, err
	}
	if _, err := readMessage(r); err == nil {
		return nil, errors.New("a second message, want one")
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return msg, nil
}

// statusOf reads the status in trailers, or in the header of an answer that is trailers only. It is nil for OK.
func statusOf(h http.Header) error {
	values := h.Values("Grpc-Status")
	if len(values) != 1 {
		return fmt.Errorf("the call ended with %d values of grpc-status, want one", len(values))
	}
	code, err := strconv.Atoi(values[0])
	if err != nil || code < 0 {
		return fmt.Errorf("the call ended with grpc-status %q, want a number", values[0])
	}
	if code == codeOK {
		return nil
	}
	return &rpcError{code, percentDecode(h.Get("Grpc-Message"))}
}

// percentEncode makes s fit into a field: "Percent-Byte-Unencoded → 1*( %x20-%x24 / %x26-%x7E )", everything else as %XX.
func percentEncode(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// percentDecode undoes percentEncode: "When decoding invalid values, implementations MUST NOT error or throw away the message."
func percentDecode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// onlyHTTP2 is HTTP/2 without TLS, with prior knowledge.
func onlyHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}
