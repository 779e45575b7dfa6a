package local

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// tunnel opens a Stream to the port's service and relays c to it. first, if not nil, holds what c has already sent.
func (p *port) tunnel(s task.Shard, c task.Conn, first *task.Buffer) {
	req := p.connect(s, c)
	var resp proxy.Response
	err := p.open(c, req, &resp)
	p.relay(s, c, first, &resp, err)
}

// open opens the Stream that req asks for, unless c is reset meanwhile.
func (p *port) open(c task.Conn, req *proxy.Request, resp *proxy.Response) error {
	c.OnHangup(func(err error) {
		if err != nil && err != io.EOF { // a half-close may well come before the Stream is open
			req.Cancel.Cancel(err)
		}
	})
	defer c.OnHangup(nil)
	return p.server.cfg.Handler.RoundTrip(req, resp)
}

// connect makes the request for a Stream to the port's service.
func (p *port) connect(s task.Shard, c task.Conn) *proxy.Request {
	req := &proxy.Request{Method: "CONNECT", Authority: p.Service.String(), Version: proxy.HTTP11, Shard: s, Cancel: new(proxy.Cancel)}
	req.Client = task.Remote(c)
	p.claim(req)
	return req
}

// relay carries c to the Stream that resp holds, or resets c: its app sees an error, not an orderly end.
func (p *port) relay(s task.Shard, c task.Conn, first *task.Buffer, resp *proxy.Response, err error) {
	if err != nil || resp.Stream == nil {
		p.server.cfg.Logger.Warn("no stream for a connection of the app", "port", p.Name, "service", p.Service.String(), "why", why(s, resp, err))
		if first != nil {
			s.Free(first)
		}
		if err == nil {
			resp.Close()
		}
		c.Reset()
		return
	}
	p.server.cfg.Tunnel(s, &prefixed{Conn: c, shard: s, first: first}, resp.Stream)
	resp.Close()
	c.Close()
}

// why tells what pillion itself, here or at the peer, said about a Stream that was not opened. It waits no longer than a moment for the sentence.
func why(s task.Shard, resp *proxy.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	what := fmt.Sprintf("status %d %s", resp.Status, resp.Fields.Get(answer.CodeField))
	if resp.Body == nil {
		return what
	}
	for range 10 {
		if resp.Body.Buffered() != 0 {
			break
		}
		s.Sleep(sentenceTimeout / 10)
	}
	if resp.Body.Buffered() <= 0 {
		return what
	}
	text := make([]byte, 512)
	n, _ := resp.Body.Read(text)
	return what + ": " + strings.TrimSpace(string(text[:n]))
}

const sentenceTimeout = 100 * time.Millisecond

// prefixed is a Conn from which some bytes have been read already.
type prefixed struct {
	task.Conn
	shard task.Shard

	// Owned by the reader.

	done bool // first has been read

	// Guarded by the shard's lock.

	first *task.Buffer // nil once it has been read, or the Conn closed
}

func (c *prefixed) Read(p []byte) (int, error) {
	if !c.done {
		if n := c.take(p); n > 0 {
			return n, nil
		}
		c.done = true
	}
	return c.Conn.Read(p)
}

// take reads from first. The other direction of a relay may close the Conn meanwhile.
func (c *prefixed) take(p []byte) int {
	c.shard.Lock()
	defer c.shard.Unlock()
	if c.first == nil {
		return 0
	}
	n := copy(p, c.first.Unread())
	c.first.R += n
	if c.first.R == c.first.W {
		c.shard.Free(c.first)
		c.first = nil
	}
	return n
}

// WaitReadable implements proxy.Waiter.
func (c *prefixed) WaitReadable() error {
	if !c.done {
		c.shard.Lock()
		more := c.first != nil && c.first.R < c.first.W
		c.shard.Unlock()
		if more {
			return nil
		}
	}
	return c.Conn.WaitReadable()
}

func (c *prefixed) Close() error {
	err := c.Conn.Close()
	c.free()
	return err
}

func (c *prefixed) Reset() error {
	err := c.Conn.Reset()
	c.free()
	return err
}

func (c *prefixed) free() {
	c.shard.Lock()
	defer c.shard.Unlock()
	if c.first != nil {
		c.shard.Free(c.first)
		c.first = nil
	}
}
