package answer

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

func TestFillPlain(t *testing.T) {
	req := &proxy.Request{Method: "GET", Cancel: new(proxy.Cancel)}
	req.Fields.Add("X-Request-Id", "abc\r\nEvil: 1")
	var resp proxy.Response
	Fill(req, &resp, fmt.Errorf("upstream: %w", &proxy.Error{Code: proxy.ConnectFailed, Detail: "dial 10.0.0.1:15008", Err: errors.New("refused\r\nX: y")}))
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := "pillion: 503 connect_failed: dial 10.0.0.1:15008: refused  X: y (request id abc  Evil: 1)\n"
	if string(body) != want || resp.Length != int64(len(want)) || resp.Status != 503 {
		t.Errorf("got %d %q length %d, want 503 %q", resp.Status, body, resp.Length, want)
	}
	for _, f := range resp.Fields {
		if strings.ContainsAny(f.Value, "\r\n") {
			t.Errorf("field %s carries a line break: %q", f.Name, f.Value)
		}
	}
	if got := resp.Fields.Get(CodeField); got != "connect_failed" {
		t.Errorf("%s = %q", CodeField, got)
	}
}

func TestFillGRPC(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&proxy.Error{Code: proxy.NoEndpoints}, "14"},
		{&proxy.Error{Code: proxy.Denied}, "7"},
		{task.ErrDeadline, "4"},
		{io.ErrUnexpectedEOF, "13"},
	} {
		req := &proxy.Request{Method: "POST", Fields: proxy.Fields{{Name: "content-type", Value: "application/grpc+proto"}}}
		var resp proxy.Response
		Fill(req, &resp, c.err)
		if got := resp.Fields.Get("grpc-status"); resp.Status != 200 || got != c.want || resp.Body != nil {
			t.Errorf("%v: got %d grpc-status %q, want 200 %q and no body", c.err, resp.Status, got, c.want)
		}
	}
}

func TestRescue(t *testing.T) {
	boom := errors.New("boom")
	rt := Rescue(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return boom }))
	req := &proxy.Request{Method: "HEAD", Cancel: new(proxy.Cancel)}
	var resp proxy.Response
	if err := rt.RoundTrip(req, &resp); err != nil || resp.Status != 500 || resp.Body != nil {
		t.Errorf("got %v, status %d, body %v, want an answer 500 without a body", err, resp.Status, resp.Body)
	}
	req.Cancel.Cancel(io.EOF)
	if err := rt.RoundTrip(req, new(proxy.Response)); err != boom {
		t.Errorf("client gone: got %v, want the error itself", err)
	}
}
