package grpcio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Stream is one call with any number of messages each way. Send and Recv may be used at the same time, each by one goroutine; Close by any.
type Stream struct {
	max    int
	cancel context.CancelFunc
	ctx    context.Context
	out    *io.PipeWriter
	done   chan struct{} // closed when the head of the answer is there, or err
	ended  sync.WaitGroup

	// Written before done is closed.
	answer *http.Response
	err    error

	// Owned by Recv.
	in *bufio.Reader
}

// Stream begins a call to method, "/package.Service/Method". It does not wait for the server, which may say nothing before it has heard something.
// The caller must Close it, or end ctx.
func (c *Client) Stream(ctx context.Context, method string, meta Metadata) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	body, out := io.Pipe()
	s := &Stream{max: c.conf.MaxMessage, ctx: ctx, cancel: cancel, out: out, done: make(chan struct{})}
	r := c.request(ctx, method, meta, body)
	s.ended.Go(func() {
		defer close(s.done)
		s.answer, s.err = c.http.RoundTrip(r)
		if s.err != nil {
			s.err = c.unreachable(ctx, s.err)
			_ = body.CloseWithError(io.EOF) // PipeReader's never fails
		}
	})
	return s, nil
}

// unreachable says why there was no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("call %s: %w", c.conf.Address, err)
}

// prefix is the length of what is before each message: whether it is compressed, and its length.
const prefix = 5 // bytes

// Send writes one message; it does not keep it. io.EOF means that the call has ended: Recv knows how.
func (s *Stream) Send(message []byte) error {
	frame := make([]byte, prefix, prefix+len(message))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	if _, err := s.out.Write(append(frame, message...)); err != nil {
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		return io.EOF
	}
	return nil
}

// CloseSend tells the server that no more messages come.
func (s *Stream) CloseSend() { _ = s.out.Close() } // PipeWriter's never fails

// Recv waits for the next message. io.EOF means that the server has ended the call in order; an *Error, that it has refused it; anything else,
// that the connection was lost. Nothing comes after an error.
func (s *Stream) Recv() ([]byte, error) {
	<-s.done
	if s.err != nil {
		return nil, s.err
	}
	if s.in == nil {
		if err := refused(s.answer); err != nil {
			return nil, err
		}
		s.in = bufio.NewReader(s.answer.Body)
	}
	var head [prefix]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return nil, s.end(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	switch {
	case head[0] != 0:
		return nil, &Error{Code: Internal, Message: "a compressed message, which was not asked for"}
	case uint64(n) > uint64(s.max):
		return nil, &Error{Code: ResourceExhausted, Message: fmt.Sprintf("a message of %d bytes, more than %d", n, s.max)}
	}
	var message bytes.Buffer // grows with what comes, whatever was announced
	if _, err := io.CopyN(&message, s.in, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, s.end(err)
	}
	return message.Bytes(), nil
}

// end returns how the call ended, after its last message.
func (s *Stream) end(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return outcome(s.answer.Trailer, io.EOF)
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	}
	return fmt.Errorf("receive: %w", err)
}

// Close ends the call, if it has not ended, and whatever waits in it.
func (s *Stream) Close() {
	s.cancel()
	_ = s.out.CloseWithError(context.Canceled) // PipeWriter's never fails
	s.ended.Wait()
	if s.answer != nil {
		_ = s.answer.Body.Close() // nothing is read from it any more
	}
}
