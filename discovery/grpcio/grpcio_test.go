package grpcio

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// raw is a codec of messages that are bytes.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                       { return "raw" }

// serve runs grpc-go with one handler for every method.
func serve(t *testing.T, ln net.Listener, handler func(method string, s grpc.ServerStream) error, more ...grpc.ServerOption) *grpc.Server {
	t.Helper()
	g := grpc.NewServer(append(more, grpc.ForceServerCodec(raw{}), grpc.MaxRecvMsgSize(64<<20), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		return handler(method, s)
	}))...)
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return g
}

// play is the server of most tests.
func play(method string, s grpc.ServerStream) error {
	var in []byte
	switch method {
	case "/test/Echo": // answers each message with itself
		for {
			if err := s.RecvMsg(&in); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(&in); err != nil {
				return err
			}
		}
	case "/test/Refuse":
		return status.Error(codes.PermissionDenied, "nicht für dich: 100 %\n")
	case "/test/Empty":
		return nil
	case "/test/Twice":
		out := []byte("x")
		return errors.Join(s.SendMsg(&out), s.SendMsg(&out))
	case "/test/Late": // a message, and then a status
		out := []byte("x")
		return errors.Join(s.SendMsg(&out), status.Error(codes.DataLoss, "lost"))
	case "/test/First": // speaks first
		out := []byte("welcome")
		if err := s.SendMsg(&out); err != nil {
			return err
		}
	case "/test/Meta":
		md, _ := metadata.FromIncomingContext(s.Context())
		end, ok := s.Context().Deadline()
		out := fmt.Appendf(nil, "%v %v", md.Get("token"), ok && time.Until(end) > 30*time.Second)
		return s.SendMsg(&out)
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func client(t *testing.T, c Config) *Client {
	t.Helper()
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func started(t *testing.T) *Client {
	t.Helper()
	ln := listen(t, "tcp", "127.0.0.1:0")
	serve(t, ln, play)
	return client(t, Config{Address: ln.Addr().String()})
}

func TestCall(t *testing.T) {
	c := started(t)
	large := bytes.Repeat([]byte("pillion"), 3<<20)
	for _, message := range [][]byte{nil, []byte("x"), large} {
		got, err := c.Call(t.Context(), "/test/Echo", message, nil)
		if err != nil || !bytes.Equal(got, message) {
			t.Errorf("Call with %d bytes = %d bytes, %v; want the same", len(message), len(got), err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := c.Call(ctx, "/test/Meta", nil, Metadata{"token": "secret"}); err != nil || string(got) != "[secret] true" {
		t.Errorf("Call with metadata and a deadline = %q, %v", got, err)
	}
}

func TestCallFails(t *testing.T) {
	c := started(t)
	for _, x := range []struct {
		method string
		code   Code
		text   string
	}{
		{"/test/Refuse", PermissionDenied, "nicht für dich: 100 %\n"},
		{"/test/Empty", Internal, "without an answer"},
		{"/test/Twice", Internal, "more than one"},
		{"/test/Late", DataLoss, "lost"},
	} {
		_, err := c.Call(t.Context(), x.method, nil, nil)
		if CodeOf(err) != x.code || err == nil || !strings.Contains(err.Error(), x.text) {
			t.Errorf("Call %s = %v; want status %d and %q", x.method, err, x.code, x.text)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, "/test/Silent", nil, nil); err == nil { // whose clock fires first decides which error
		t.Error("Call past its deadline succeeded")
	}
	small := client(t, Config{Address: c.conf.Address, MaxMessage: 10})
	if _, err := small.Call(t.Context(), "/test/Echo", make([]byte, 11), nil); CodeOf(err) != ResourceExhausted {
		t.Errorf("an answer that is too large = %v", err)
	}
	if CodeOf(nil) != OK || CodeOf(io.ErrUnexpectedEOF) != Unavailable {
		t.Errorf("CodeOf(nil), of another error = %d, %d", CodeOf(nil), CodeOf(io.ErrUnexpectedEOF))
	}
}

func TestStream(t *testing.T) {
	c := started(t)
	s, err := c.Stream(t.Context(), "/test/Echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 100 {
		want := strings.Repeat("m", i*i)
		if err := s.Send([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || string(got) != want {
			t.Fatalf("message %d = %d bytes, %v; want %d", i, len(got), err, len(want))
		}
	}
	s.CloseSend()
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("Recv at the end = %v, want io.EOF", err)
	}
}

func TestServerFirst(t *testing.T) {
	s, err := started(t).Stream(t.Context(), "/test/First", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Recv(); err != nil || string(got) != "welcome" {
		t.Errorf("Recv = %q, %v", got, err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := s.Recv(); waiting <- err }()
	s.Close()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("Recv while Close = %v, want context.Canceled", err)
	}
}

func TestRefusedStream(t *testing.T) {
	c := started(t)
	for method, want := range map[string]Code{"/test/Refuse": PermissionDenied, "/test/Empty": OK} {
		s, err := c.Stream(t.Context(), method, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		if want == OK && !errors.Is(err, io.EOF) || want != OK && CodeOf(err) != want {
			t.Errorf("Recv of %s = %v, want status %d", method, err, want)
		}
		for range 1000 { // the server reads nothing any more
			if err = s.Send(make([]byte, 1<<10)); err != nil {
				break
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("Send after the end of %s = %v, want io.EOF", method, err)
		}
		s.Close()
	}
}

func TestTLSAndUnix(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	roots, leaf := x509.NewCertPool(), web.TLS.Certificates[0]
	roots.AddCert(web.Certificate())
	ln := listen(t, "tcp", "127.0.0.1:0")
	serve(t, ln, play, grpc.Creds(credentials.NewServerTLSFromCert(&leaf)))
	c := client(t, Config{Address: ln.Addr().String(), TLS: &tls.Config{RootCAs: roots}})
	if got, err := c.Call(t.Context(), "/test/Echo", []byte("x"), nil); err != nil || string(got) != "x" {
		t.Errorf("Call over TLS = %q, %v", got, err)
	}
	stranger := client(t, Config{Address: ln.Addr().String(), TLS: &tls.Config{}})
	if _, err := stranger.Call(t.Context(), "/test/Echo", nil, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Call of a server that nobody knows = %v, want what is wrong with its certificate", err)
	}
	path := filepath.Join(t.TempDir(), "s")
	serve(t, listen(t, "unix", path), play)
	c = client(t, Config{Address: "unix:" + path})
	if got, err := c.Call(t.Context(), "/test/Echo", []byte("x"), nil); err != nil || string(got) != "x" {
		t.Errorf("Call over a socket = %q, %v", got, err)
	}
}

func TestServerGoesAndComes(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	g := serve(t, ln, play)
	c := client(t, Config{Address: ln.Addr().String()})
	s, err := c.Stream(t.Context(), "/test/Echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	if _, err := s.Recv(); err == nil || errors.Is(err, io.EOF) || CodeOf(err) != Unavailable {
		t.Errorf("Recv from a server that has gone = %v", err)
	}
	if _, err := c.Call(t.Context(), "/test/Echo", nil, nil); err == nil || CodeOf(err) != Unavailable || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Call while there is none = %v", err)
	}
	again := listen(t, "tcp", ln.Addr().String())
	serve(t, again, play)
	if _, err := c.Call(t.Context(), "/test/Echo", nil, nil); err != nil {
		t.Errorf("Call once it is back = %v", err)
	}
}

// A server that has stopped answering without a word is given up.
func TestSilentServer(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
		}
	}()
	c := client(t, Config{Address: ln.Addr().String(), Ping: 20 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Call(ctx, "/test/Echo", nil, nil); err == nil || ctx.Err() != nil || CodeOf(err) != Unavailable {
		t.Errorf("Call of a silent server = %v, want an error of its connection", err)
	}
}

// Whatever is no gRPC is an error.
func TestNoGRPC(t *testing.T) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(true)
	ln := listen(t, "tcp", "127.0.0.1:0")
	web := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/403":
			w.WriteHeader(http.StatusForbidden)
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/cut", "/compressed", "/huge", "/nothing":
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = w.Write(map[string][]byte{"/cut": {0, 0, 0, 0, 9, 'x'}, "/compressed": {1, 0, 0, 0, 1, 'x'}, "/huge": {0, 255, 255, 255, 255}}[r.URL.Path])
		default:
			_, _ = w.Write([]byte("<html>"))
		}
	})}
	go func() { _ = web.Serve(ln) }()
	defer web.Close()
	c := client(t, Config{Address: ln.Addr().String()})
	for path, want := range map[string]Code{"/503": Unavailable, "/403": PermissionDenied, "/404": Unimplemented, "/page": Unknown,
		"/cut": Unavailable, "/compressed": Internal, "/huge": ResourceExhausted, "/nothing": Unavailable} {
		if _, err := c.Call(t.Context(), path, nil, nil); err == nil || CodeOf(err) != want {
			t.Errorf("Call %s = %v; want status %d", path, err, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "etcd.internal", "a:b:c"} {
		if _, err := New(Config{Address: address}); err == nil {
			t.Errorf("New with the address %q succeeded", address)
		}
	}
}

// FuzzRecv: whatever comes as an answer is messages and then an end.
func FuzzRecv(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &Stream{max: 1 << 10, ctx: t.Context(), done: make(chan struct{}), in: bufio.NewReader(bytes.NewReader(data)), answer: &http.Response{}}
		close(s.done)
		for n := 0; ; n++ {
			if m, err := s.Recv(); err != nil {
				return
			} else if n > len(data) || len(m) > len(data) {
				t.Fatalf("%d messages, the last of %d bytes, of %d bytes", n, len(m), len(data))
			}
		}
	})
}
