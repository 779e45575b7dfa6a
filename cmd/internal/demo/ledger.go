package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// rawCodec passes bytes as they are, so that the service below needs no generated code.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("marshal %T: only bytes", v)
	}
	return *b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal into %T: only bytes", v)
	}
	*b = append((*b)[:0], data...)
	return nil
}

// The methods of the ledger, one for each kind of call that gRPC has.
const (
	lookupMethod = "/demo.Ledger/Lookup" // unary: a number becomes its item; a negative one, NOT_FOUND
	sumMethod    = "/demo.Ledger/Sum"    // client stream: numbers become their sum
	countMethod  = "/demo.Ledger/Count"  // server stream: n becomes 0 … n-1
	talkMethod   = "/demo.Ledger/Talk"   // both: each message is answered in capitals before the next is sent
)

// countPad is what each message of Count weighs, so that a stream passes a flow control window now and then.
const countPad = 4 << 10 // bytes

// ledger is the gRPC side of orders.
type ledger struct{}

var ledgerDesc = grpc.ServiceDesc{
	ServiceName: "demo.Ledger",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Lookup", Handler: lookup}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Sum", Handler: sum, ClientStreams: true},
		{StreamName: "Count", Handler: count, ServerStreams: true},
		{StreamName: "Talk", Handler: talk, ClientStreams: true, ServerStreams: true},
	},
}

// lookup also tells the caller, in metadata, who the sidecar said it was.
func lookup(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in []byte
	if err := decode(&in); err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(string(in))
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "no number: %q", in)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	caller := strings.Join(md.Get("x-pillion-identity"), ",")
	if err := grpc.SetHeader(ctx, metadata.Pairs("caller", caller)); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("looked-up", string(in))); err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, status.Errorf(codes.NotFound, "no order %d", n)
	}
	out := []byte(itemOf(n))
	return &out, nil
}

func sum(_ any, s grpc.ServerStream) error {
	total := 0
	for {
		var in []byte
		err := s.RecvMsg(&in)
		if errors.Is(err, io.EOF) {
			out := []byte(strconv.Itoa(total))
			return s.SendMsg(&out)
		}
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(in))
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "no number: %q", in)
		}
		total += n
	}
}

func count(_ any, s grpc.ServerStream) error {
	var in []byte
	if err := s.RecvMsg(&in); err != nil {
		return err
	}
	n, err := strconv.Atoi(string(in))
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "no number: %q", in)
	}
	for i := range n {
		out := countMessage(i)
		if err := s.SendMsg(&out); err != nil {
			return err
		}
	}
	return nil
}

func countMessage(i int) []byte { return fmt.Appendf(nil, "%0*d", countPad, i) }

func talk(_ any, s grpc.ServerStream) error {
	for {
		var in []byte
		err := s.RecvMsg(&in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out := []byte(strings.ToUpper(string(in)))
		if err := s.SendMsg(&out); err != nil {
			return err
		}
	}
}
