package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// rpcClient calls the methods of one server.
type rpcClient struct {
	at   Authority
	http *http.Client
}

// newRPCClient prepares a client of the server at a; nothing is dialled yet. What is received at a time fits the smallest usual window, so
// that longer answers wait for it to open again.
func newRPCClient(a Authority) *rpcClient {
	return &rpcClient{a, &http.Client{Transport: &http.Transport{
		Protocols: onlyHTTP2(),
		HTTP2:     &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
	}}}
}

func (c *rpcClient) close() { c.http.CloseIdleConnections() }

// rpcCall is the client's side of one call. It is used by one goroutine.
type rpcCall struct {
	cancel context.CancelFunc
	out    *io.PipeWriter
	came   chan struct{} // closed once resp or err is there

	// Valid once came is closed.
	resp *http.Response
	err  error
}

// call begins a call. The caller closes it.
func (c *rpcClient) call(ctx context.Context, method string) (*rpcCall, error) {
	ctx, cancel := context.WithCancel(ctx)
	body, out := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.at.Addr+method, body)
	if err != nil {
		cancel()
		return nil, err
	}
	req.Host = c.at.Name
	req.Header.Set("Content-Type", grpcContent)
	req.Header.Set("Te", "trailers")
	call := &rpcCall{cancel: cancel, out: out, came: make(chan struct{})}
	go call.begin(c.http, req)
	return call, nil
}

// begin waits for the header of the answer: a server may want messages first.
func (c *rpcCall) begin(h *http.Client, req *http.Request) {
	defer close(c.came)
	c.resp, c.err = h.Do(req)
	if c.err != nil {
		return
	}
	if content := c.resp.Header.Get("Content-Type"); c.resp.StatusCode != http.StatusOK || !strings.HasPrefix(content, grpcContent) {
		c.err = fmt.Errorf("content %q: %w", content, statusError(c.resp))
	}
}

// close ends the call, if it has not ended, and waits until nothing of it is left.
func (c *rpcCall) close() {
	c.cancel()
	c.out.Close()
	<-c.came
	if c.resp != nil {
		c.resp.Body.Close()
	}
}

// send sends a message. Where the call has ended already, the error is what it ended with.
func (c *rpcCall) send(msg []byte) error {
	_, err := c.out.Write(appendMessage(nil, msg))
	if err == nil {
		return nil
	}
	if _, reason := c.recv(); reason != nil && !errors.Is(reason, io.EOF) {
		err = reason
	}
	return fmt.Errorf("send: %w", err)
}

// closeSend says that no message follows.
func (c *rpcCall) closeSend() { c.out.Close() }

// recv returns the next message; io.EOF after the last one if the status is OK, else the status.
func (c *rpcCall) recv() ([]byte, error) {
	<-c.came
	if c.err != nil {
		return nil, c.err
	}
	msg, err := readMessage(c.resp.Body)
	if !errors.Is(err, io.EOF) {
		return msg, err
	}
	if err := statusOf(c.last()); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

// wantEnd expects status OK and nothing before it.
func (c *rpcCall) wantEnd() error {
	if _, err := c.recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last message: got %v, want the end", err)
	}
	return nil
}

// only returns the message of an answer that has one.
func (c *rpcCall) only() ([]byte, error) {
	msg, err := c.recv()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("status OK without a message")
	}
	if err != nil {
		return nil, err
	}
	return msg, c.wantEnd()
}

// header is the metadata before the messages. It may be read once recv has returned a message or a status.
func (c *rpcCall) header() http.Header {
	if c.resp == nil {
		return nil
	}
	return c.resp.Header
}

// trailersOnly reports whether the answer was one block of fields.
func (c *rpcCall) trailersOnly() bool { return c.header().Get("Grpc-Status") != "" }

// last is the metadata that came with the status.
func (c *rpcCall) last() http.Header {
	if c.resp == nil || c.trailersOnly() {
		return c.header()
	}
	return c.resp.Trailer
}
