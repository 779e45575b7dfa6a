package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestMessages(t *testing.T) {
	var sent []byte
	want := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("x"), 70_000)}
	for _, msg := range want {
		sent = appendMessage(sent, msg)
	}
	if got, want := string(sent[:8]), "\x00\x00\x00\x00\x03one"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r := iotest.HalfReader(bytes.NewReader(sent))
	for i := range want {
		if got, err := readMessage(r); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("message %d: got %d bytes, %v, want %d", i, len(got), err, len(want[i]))
		}
	}
	if _, err := readMessage(r); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: got %v, want %v", err, io.EOF)
	}
}

func TestMessagesCutOrBad(t *testing.T) {
	for in, want := range map[string]string{
		"\x00\x00":                 io.ErrUnexpectedEOF.Error(),
		"\x00\x00\x00\x00\x03":     io.ErrUnexpectedEOF.Error(),
		"\x00\x00\x00\x00\x03on":   io.ErrUnexpectedEOF.Error(),
		"\x01\x00\x00\x00\x03one":  "a message with flag 1, though no compression was agreed on",
		"\x00\xff\xff\xff\xffmore": "a message of 4294967295 bytes, at most 4194304 are accepted",
	} {
		if _, err := readMessage(strings.NewReader(in)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
}

func TestReadOnly(t *testing.T) {
	one := appendMessage(nil, []byte("one"))
	for in, want := range map[string]string{
		"":                        "no message, want one",
		string(one) + string(one): "a second message, want one",
		string(one) + "\x00":      io.ErrUnexpectedEOF.Error(),
	} {
		if _, err := readOnly(strings.NewReader(in)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
	if got, err := readOnly(bytes.NewReader(one)); err != nil || string(got) != "one" {
		t.Errorf("got %q, %v, want one", got, err)
	}
}

func TestStatus(t *testing.T) {
	tests := []struct {
		fields http.Header
		want   string // "" is OK
	}{
		{http.Header{"Grpc-Status": {"0"}}, ""},
		{http.Header{"Grpc-Status": {"5"}, "Grpc-Message": {"100%25 gone"}}, "grpc status 5: 100% gone"},
		{http.Header{"Grpc-Status": {"99"}}, "grpc status 99: "},
		{http.Header{}, "the call ended with 0 values of grpc-status, want one"},
		{nil, "the call ended with 0 values of grpc-status, want one"},
		{http.Header{"Grpc-Status": {"0", "0"}}, "the call ended with 2 values of grpc-status, want one"},
		{http.Header{"Grpc-Status": {"zero"}}, `the call ended with grpc-status "zero", want a number`},
		{http.Header{"Grpc-Status": {"-1"}}, `the call ended with grpc-status "-1", want a number`},
	}
	for _, tt := range tests {
		got := ""
		if err := statusOf(tt.fields); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.fields, got, tt.want)
		}
	}
}

func TestPercent(t *testing.T) {
	for in, want := range map[string]string{
		"":            "",
		"plain ~":     "plain ~",
		"100 %":       "100 %25",
		"a\r\nb\x7f":  "a%0D%0Ab%7F",
		"sorry – ü":   "sorry %E2%80%93 %C3%BC",
		"\xff\x00odd": "%FF%00odd",
	} {
		if got := percentEncode(in); got != want {
			t.Errorf("encode %q: got %q, want %q", in, got, want)
		}
		if got := percentDecode(want); got != in {
			t.Errorf("decode %q: got %q, want %q", want, got, in)
		}
	}
	for _, in := range []string{"%", "%4", "%zz", "50%"} { // kept as they are
		if got := percentDecode(in); got != in {
			t.Errorf("decode %q: got %q, want it unchanged", in, got)
		}
	}
	if got, want := percentDecode("%e2%82%AC"), "€"; got != want {
		t.Errorf("lower case: got %q, want %q", got, want)
	}
}

// rpcHere serves h and returns a client of it.
func rpcHere(t *testing.T, h http.Handler) (*rpcClient, context.Context) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	ended := make(chan error)
	go func() { ended <- serveHTTP(ctx, l, h, onlyHTTP2()) }()
	c := newRPCClient(Authority{Addr: l.Addr().String(), Name: "ledger.example.com:1"})
	t.Cleanup(func() {
		c.close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c, ctx
}

// ask makes one call and returns what the first recv says.
func ask(t *testing.T, c *rpcClient, ctx context.Context, method string, msgs ...string) ([]byte, error) {
	t.Helper()
	call, err := c.call(ctx, method)
	if err != nil {
		t.Fatal(err)
	}
	defer call.close()
	for _, m := range msgs {
		if err := call.send([]byte(m)); err != nil {
			return nil, err
		}
	}
	call.closeSend()
	return call.recv()
}

// TestStatusArrives: what a method returns is what the client gets, before messages and after them.
func TestStatusArrives(t *testing.T) {
	c, ctx := rpcHere(t, rpcHandler{
		"/early": func(*serverCall) error { return rpcErrorf(codeNotFound, "gone: 100%%\n") },
		"/late": func(c *serverCall) error {
			return errors.Join(c.send([]byte("one")), errors.New("broken"))
		},
		"/name": func(c *serverCall) error { return c.send([]byte(c.r.Host)) },
		"/none": func(c *serverCall) error { return nil },
	})
	tests := []struct{ method, message, want string }{
		{"/early", "", "grpc status 5: gone: 100%\n"},
		{"/late", "one", "grpc status 2: broken"},
		{"/name", "ledger.example.com:1", "EOF"},
		{"/none", "", "EOF"},
		{"/other", "", "grpc status 12: no method /other"},
	}
	for _, tt := range tests {
		call, err := c.call(ctx, tt.method)
		if err != nil {
			t.Fatal(err)
		}
		call.closeSend()
		got, err := call.recv()
		if err == nil {
			_, err = call.recv()
		}
		if string(got) != tt.message || err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %q, %v, want %q, %s", tt.method, got, err, tt.message, tt.want)
		}
		if got, want := call.trailersOnly(), tt.message == ""; got != want {
			t.Errorf("%s: trailers only: got %v, want %v", tt.method, got, want)
		}
		call.close()
	}
}

// TestServerIsStrict: what is no call, or not the one that the method takes, is refused.
func TestServerIsStrict(t *testing.T) {
	c, ctx := rpcHere(t, newLedger())
	tests := []struct {
		method string
		msgs   []string
		want   string
	}{
		{lookupMethod, nil, "grpc status 13: no message, want one"},
		{lookupMethod, []string{"1", "2"}, "grpc status 13: a second message, want one"},
		{lookupMethod, []string{"x"}, `grpc status 3: no number: "x"`},
		{sumMethod, []string{"1", "x"}, `grpc status 3: no number: "x"`},
		{lookupMethod, []string{"-3"}, "grpc status 5: " + noOrder(-3)},
	}
	for _, tt := range tests {
		if _, err := ask(t, c, ctx, tt.method, tt.msgs...); err == nil || err.Error() != tt.want {
			t.Errorf("%s %q: got %v, want %s", tt.method, tt.msgs, err, tt.want)
		}
	}
	for field, value := range map[string]string{"Te": "", "Content-Type": "text/plain"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.at.Addr+lookupMethod, bytes.NewReader(appendMessage(nil, []byte("1"))))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Te": {"trailers"}, "Content-Type": {grpcContent}}
		req.Header.Set(field, value)
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Grpc-Status"); resp.StatusCode == http.StatusOK && got != fmt.Sprint(codeInternal) {
			t.Errorf("%s %q: got %s and status %q, want a refusal", field, value, resp.Status, got)
		}
	}
}

// TestClientIsStrict: an answer that is not whole is no success.
func TestClientIsStrict(t *testing.T) {
	answer := func(status int, content string, body []byte, trailer ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", content)
			w.WriteHeader(status)
			_, _ = w.Write(body)
			for i := 0; i < len(trailer); i += 2 {
				w.Header().Set(http.TrailerPrefix+trailer[i], trailer[i+1])
			}
		}
	}
	one := appendMessage(nil, []byte("one"))
	mux := http.NewServeMux()
	mux.Handle("/good", answer(200, grpcContent+"+raw", one, "Grpc-Status", "0"))
	mux.Handle("/nostatus", answer(200, grpcContent, one))
	mux.Handle("/html", answer(200, "text/html", []byte("<p>hello")))
	mux.Handle("/503", answer(503, grpcContent, nil, "Grpc-Status", "0"))
	mux.Handle("/cut", answer(200, grpcContent, one[:6], "Grpc-Status", "0"))
	mux.Handle("/two", answer(200, grpcContent, append(one, one...), "Grpc-Status", "0"))
	mux.Handle("/empty", answer(200, grpcContent, nil, "Grpc-Status", "0"))
	mux.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", grpcContent)
		_, _ = w.Write(one)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	c, ctx := rpcHere(t, mux)
	for method, want := range map[string]string{
		"/good":     "",
		"/nostatus": "0 values of grpc-status",
		"/html":     "<p>hello",
		"/503":      "503",
		"/cut":      io.ErrUnexpectedEOF.Error(),
		"/two":      "want the end",
		"/empty":    "OK without a message",
		"/reset":    "stream error",
	} {
		call, err := c.call(ctx, method)
		if err != nil {
			t.Fatal(err)
		}
		call.closeSend()
		got, err := call.only()
		switch {
		case want == "" && (err != nil || string(got) != "one"):
			t.Errorf("%s: got %q, %v, want one", method, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %q, %v, want an error with %q", method, got, err, want)
		}
		call.close()
	}
}

// TestSendTellsWhy: who sends to a call that has ended gets its status.
func TestSendTellsWhy(t *testing.T) {
	c, ctx := rpcHere(t, rpcHandler{"/no": func(*serverCall) error { return rpcErrorf(codeNotFound, "no") }})
	call, err := c.call(ctx, "/no")
	if err != nil {
		t.Fatal(err)
	}
	defer call.close()
	for err == nil && ctx.Err() == nil { // the window is smaller than what could be sent in that time
		err = call.send(make([]byte, 1000))
	}
	if codeOf(err) != codeNotFound {
		t.Errorf("got %v, want status %d", err, codeNotFound)
	}
}

// TestCallEndsWithContext: a call whose server says nothing ends when its context does, and leaves nothing behind.
func TestCallEndsWithContext(t *testing.T) {
	c, ctx := rpcHere(t, rpcHandler{"/wait": func(c *serverCall) error { _, err := c.recv(); return err }})
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	call, err := c.call(ctx, "/wait")
	if err != nil {
		t.Fatal(err)
	}
	defer call.close()
	if _, err := call.recv(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}
