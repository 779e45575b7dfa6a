package bridge

import (
	"io"
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// strs is one allocation in which the strings of a head are copied.
type strs struct{ b strings.Builder }

func (a *strs) copy(s string) string {
	at := a.b.Len()
	a.b.WriteString(s)
	return a.b.String()[at:]
}

func (a *strs) fields(f proxy.Fields) proxy.Fields {
	if len(f) == 0 {
		return nil
	}
	c := make(proxy.Fields, len(f))
	for i := range f {
		c[i] = proxy.Field{Name: a.copy(f[i].Name), Value: a.copy(f[i].Value)}
	}
	return c
}

func sizeOf(f proxy.Fields) int {
	n := 0
	for i := range f {
		n += len(f[i].Name) + len(f[i].Value)
	}
	return n
}

// cloneFields copies f and its strings.
func cloneFields(f proxy.Fields) proxy.Fields {
	var a strs
	a.b.Grow(sizeOf(f))
	return a.fields(f)
}

// copyRequest makes the far side's request of req, which shares nothing with it that may change or go.
func (x *exchange) copyRequest(req *proxy.Request) {
	var a strs
	a.b.Grow(len(req.Method) + len(req.Scheme) + len(req.Authority) + len(req.Path) + len(req.Upgrade) +
		len(req.Service.Name) + len(req.ID) + sizeOf(req.Fields))
	r := &x.req
	*r = *req
	r.Method, r.Scheme, r.Authority = a.copy(req.Method), a.copy(req.Scheme), a.copy(req.Authority)
	r.Path, r.Upgrade, r.ID = a.copy(req.Path), a.copy(req.Upgrade), a.copy(req.ID)
	r.Service.Name = a.copy(req.Service.Name)
	r.Fields = a.fields(req.Fields)
	r.Shard, r.Cancel, r.Inform, r.Body = x.b.far, &x.cancel, nil, nil
	if req.Inform != nil {
		r.Inform = x.inform
	}
	if req.Body != nil && !req.IsConnect() && req.Upgrade == "" {
		x.body = req.Body
		x.up = newPipe(&x.b.chunks, x.b.near, x.b.far)
		x.up.demand = x.wanted
		r.Body = x.up
	}
}

// copyHead makes the near side's head of the far side's answer.
func (x *exchange) copyHead() {
	var a strs
	from, to := &x.resp, &x.head
	a.b.Grow(len(from.Reason) + len(from.Code) + sizeOf(from.Fields))
	to.Status, to.Version, to.Length = from.Status, from.Version, from.Length
	to.Reason, to.Code = a.copy(from.Reason), a.copy(from.Code)
	to.Fields = a.fields(from.Fields)
}

// readAhead moves what is there of the body already, so that a small one crosses with its head. It returns a copy, in case it has to be given back.
func (x *exchange) readAhead(req *proxy.Request) []byte {
	if x.body == nil || req.Expect || x.body.Buffered() <= 0 {
		return nil
	}
	c := x.up.chunk()
	n, err := x.body.Read(c.b[:])
	c.w = n
	ahead := slices.Clone(c.b[:n])
	_ = x.up.push(c)
	if err == nil && x.body.Buffered() < 0 {
		_, err = x.body.Read(make([]byte, 1))
	}
	if err != nil {
		x.endUp(err)
	}
	return ahead
}

// endUp ends the request's body with err, io.EOF for its end.
func (x *exchange) endUp(err error) {
	var trailers proxy.Fields
	if err == io.EOF {
		trailers = cloneFields(x.body.Trailers())
	}
	x.up.mu.Lock()
	x.up.demand = nil
	x.up.mu.Unlock()
	x.up.finish(err, trailers)
}

// restore makes req whole again, if the far side has read nothing of its body: somebody else may yet take it.
func (x *exchange) restore(req *proxy.Request, ahead []byte) {
	if x.up == nil {
		return
	}
	x.up.mu.Lock()
	taken := x.up.taken
	x.up.taken = true
	x.up.mu.Unlock()
	x.up.leave(errDone)
	if !taken && len(ahead) > 0 {
		req.Body = &restored{Body: req.Body, ahead: ahead}
	}
}

// restored is a Body of which the beginning has been read already.
type restored struct {
	proxy.Body
	ahead []byte
}

// Read returns what had been read ahead first.
func (r *restored) Read(p []byte) (int, error) {
	if len(r.ahead) == 0 {
		return r.Body.Read(p)
	}
	n := copy(p, r.ahead)
	r.ahead = r.ahead[n:]
	return n, nil
}

// WaitReadable waits until Read would not wait.
func (r *restored) WaitReadable() error {
	w, ok := r.Body.(proxy.Waiter)
	if len(r.ahead) > 0 || !ok {
		return nil
	}
	return w.WaitReadable()
}

// Buffered counts what had been read ahead.
func (r *restored) Buffered() int {
	n := r.Body.Buffered()
	if len(r.ahead) == 0 {
		return n
	}
	return max(n, 0) + len(r.ahead)
}
