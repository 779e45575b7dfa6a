package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// dialLedger prepares a client of the ledger at a.
func dialLedger(a Authority) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})),
		grpc.WithNoProxy(), // the address is the sidecar already
	}
	if a.Name != "" {
		opts = append(opts, grpc.WithAuthority(a.Name))
	}
	return grpc.NewClient("passthrough:///"+a.Addr, opts...)
}

// ledger returns one of the ways to the ledger.
func (d *driver) ledger() *grpc.ClientConn { return d.ledgers[rand.IntN(len(d.ledgers))] }

// unary looks up an order, or one that does not exist; status, message, header and trailer metadata must all arrive.
func (d *driver) unary(ctx context.Context) error {
	n := rand.IntN(1000)
	if rand.IntN(5) == 0 {
		n = -n - 1
	}
	in, out := []byte(strconv.Itoa(n)), []byte(nil)
	var header, trailer metadata.MD
	err := d.ledger().Invoke(ctx, lookupMethod, &in, &out, grpc.Header(&header), grpc.Trailer(&trailer))
	switch {
	case n < 0 && (status.Code(err) != codes.NotFound || status.Convert(err).Message() != fmt.Sprintf("no order %d", n)):
		return fmt.Errorf("lookup %d: got %v, want NotFound", n, err)
	case n >= 0 && err != nil:
		return err
	case n >= 0 && string(out) != itemOf(n):
		return fmt.Errorf("lookup %d: got %q, want %q", n, out, itemOf(n))
	case strings.Join(trailer.Get("looked-up"), ",") != strconv.Itoa(n):
		return fmt.Errorf("lookup %d: trailer metadata is %v", n, trailer)
	case n < 0:
		return nil // an answer of trailers only may carry no header
	}
	return d.checkCaller(orders, strings.Join(header.Get("caller"), ","), web)
}

// clientStream sends numbers and gets their sum.
func (d *driver) clientStream(ctx context.Context) error {
	s, err := d.ledger().NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, sumMethod)
	if err != nil {
		return err
	}
	want := 0
	for range 1 + rand.IntN(50) {
		n := rand.IntN(1000)
		want += n
		msg := []byte(strconv.Itoa(n))
		if err := s.SendMsg(&msg); err != nil {
			return fmt.Errorf("send: %w", recvError(s, err))
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	var out []byte
	if err := s.RecvMsg(&out); err != nil {
		return err
	}
	if string(out) != strconv.Itoa(want) {
		return fmt.Errorf("sum: got %s, want %d", out, want)
	}
	return nil
}

// serverStream asks for messages and wants all of them, in order, and then the end.
func (d *driver) serverStream(ctx context.Context) error {
	s, err := d.ledger().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, countMethod)
	if err != nil {
		return err
	}
	n := rand.IntN(60)
	msg := []byte(strconv.Itoa(n))
	if err := s.SendMsg(&msg); err != nil {
		return fmt.Errorf("send: %w", recvError(s, err))
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for i := range n {
		var out []byte
		if err := s.RecvMsg(&out); err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, n, err)
		}
		if string(out) != string(countMessage(i)) {
			return fmt.Errorf("message %d of %d is another one", i+1, n)
		}
	}
	return wantEnd(s)
}

// bidi talks: each message must be answered before the next is sent.
func (d *driver) bidi(ctx context.Context) error {
	s, err := d.ledger().NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, talkMethod)
	if err != nil {
		return err
	}
	for i := range 5 {
		msg := fmt.Appendf(nil, "hello %d %s", i, itemOf(i))
		if err := s.SendMsg(&msg); err != nil {
			return fmt.Errorf("send: %w", recvError(s, err))
		}
		var out []byte
		if err := s.RecvMsg(&out); err != nil {
			return fmt.Errorf("answer %d: %w", i+1, err)
		}
		if want := strings.ToUpper(string(msg)); string(out) != want {
			return fmt.Errorf("answer %d: got %q, want %q", i+1, out, want)
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return wantEnd(s)
}

// wantEnd expects status OK and nothing before it.
func wantEnd(s grpc.ClientStream) error {
	var out []byte
	if err := s.RecvMsg(&out); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last message: got %v, want the end", err)
	}
	return nil
}

// recvError returns why SendMsg said io.EOF: the status, which only RecvMsg tells.
func recvError(s grpc.ClientStream, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	var out []byte
	return s.RecvMsg(&out)
}
