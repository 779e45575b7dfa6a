package once

import (
	"io"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// flight is the one run of a request, in a task of its own.
type flight struct {
	m      *Memory
	e      *entry
	next   proxy.RoundTripper
	req    proxy.Request
	cancel proxy.Cancel
}

// detached copies a request, with its body, so that it does not end with the attempt that brought it.
func detached(req *proxy.Request, body []byte) proxy.Request {
	c := *req
	for _, s := range []*string{&c.Method, &c.Scheme, &c.Authority, &c.Path, &c.ID} {
		*s = strings.Clone(*s)
	}
	c.Fields = cloned(req.Fields)
	c.Record, c.Inform, c.Expect, c.Body = nil, nil, false, nil
	if req.Body != nil {
		c.Body, c.Length = &proxy.Content{Left: body, End: cloned(req.Body.Trailers())}, int64(len(body))
		if req.Length == proxy.Unknown {
			c.Length = proxy.Unknown
		}
	}
	return c
}

func cloned(fields proxy.Fields) proxy.Fields {
	all := make(proxy.Fields, len(fields), len(fields)+8)
	for i, f := range fields {
		all[i] = proxy.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)}
	}
	return all
}

// run is the task.
func (f *flight) run() {
	ended := false
	defer func() {
		if !ended { // a panic below: nobody must wait for ever
			f.e.broke(&proxy.Error{Code: proxy.Internal, Detail: "the request to the app broke down"})
			f.m.finish(f.e, 0)
		}
	}()
	f.fly()
	ended = true
}

func (f *flight) fly() {
	f.req.Cancel = &f.cancel
	var resp proxy.Response
	if err := f.next.RoundTrip(&f.req, &resp); err != nil {
		f.e.fail(err)
		if e, ok := err.(*proxy.Error); ok && e.Unsent {
			f.m.forget(f.e)
			return
		}
		f.m.finish(f.e, 0)
		return
	}
	defer resp.Close()
	size := f.e.head(&resp)
	if resp.Body == nil {
		f.e.end(io.EOF, nil)
		f.m.finish(f.e, size)
		return
	}
	b := f.req.Shard.Buffer()
	defer f.req.Shard.Free(b)
	for {
		n, err := resp.Body.Read(b.B)
		size += n
		if size > maxBody {
			f.m.lose(f.e)
		}
		if n > 0 && !f.e.take(b.B[:n], f.req.Shard, size > maxBody) {
			f.e.end(errLarge, nil)
			return
		}
		if err != nil {
			var trailers proxy.Fields
			if err == io.EOF {
				trailers = cloned(resp.Body.Trailers())
			}
			f.e.end(err, trailers)
			if size <= maxBody {
				f.m.finish(f.e, size)
			}
			return
		}
	}
}
