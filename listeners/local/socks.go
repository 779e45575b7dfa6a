package local

import (
	"errors"
	"io"
	"net/netip"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/socks"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// socksSession is one connection of a client of SOCKS on the outbound port. A CONNECT takes the same way as HTTP's; whoever gives a user's name and
// a password is not asked who that is, because the port serves whoever can reach it.
type socksSession struct {
	p     *port
	s     task.Shard
	c     task.Conn
	first *task.Buffer // what was read and not yet understood
	v4    bool
}

// serveSOCKS serves a connection that began with version 4 or 5 of SOCKS.
func (p *port) serveSOCKS(s task.Shard, c task.Conn, first *task.Buffer) {
	x := &socksSession{p: p, s: s, c: c, first: first, v4: first.Unread()[0] == socks.Version4}
	c.SetDeadline(s.Now().Add(detectTimeout))
	r, err := x.request()
	c.SetDeadline(0)
	switch {
	case errors.Is(err, socks.ErrAddress):
		x.refuse(socks.AddressNotSupported, err.Error())
	case err != nil:
		x.end(err)
	case r.Command == socks.Connect:
		x.connect(r.Addr)
	case r.Command == socks.Associate && !x.v4:
		x.associate(r.Addr)
	default:
		x.refuse(socks.CommandNotSupported, "only CONNECT and UDP ASSOCIATE are understood")
	}
}

// request does what comes before the request, and reads that.
func (x *socksSession) request() (r socks.Request, err error) {
	if x.v4 {
		err = x.message(func(b []byte) (n int, err error) {
			r, n, err = socks.ParseRequest4(b)
			return n, err
		})
		return r, err
	}
	if err = x.greet(); err != nil {
		return r, err
	}
	err = x.message(func(b []byte) (n int, err error) {
		r, n, err = socks.ParseRequest(b)
		return n, err
	})
	return r, err
}

var errNoMethod = errors.New("it offers no way of authentication but ones that this port does not know; use none")

// greet agrees on how the client says who it is.
func (x *socksSession) greet() error {
	var method socks.Method
	err := x.message(func(b []byte) (n int, err error) {
		method, n, err = socks.ParseGreeting(b)
		return n, err
	})
	if err != nil {
		return err
	}
	if err := x.c.Push(socks.AppendMethod(nil, method)); err != nil {
		return err
	}
	switch method {
	case socks.NoneAccepted:
		return errNoMethod
	case socks.UserPassword:
		if err := x.message(socks.ParsePassword); err != nil {
			return err
		}
		return x.c.Push(socks.AppendPasswordOK(nil))
	}
	return nil
}

// message reads until parse has understood one message, and takes that off what was read.
func (x *socksSession) message(parse func([]byte) (int, error)) error {
	for {
		n, err := parse(x.first.Unread())
		x.first.R += n
		if n > 0 || err != nil {
			return err
		}
		if err := readMore(x.c, x.first); err != nil {
			return err
		}
	}
}

// connect opens the Stream that the client wants.
func (x *socksSession) connect(to socks.Addr) {
	req, resp := x.p.connect(x.s, x.c), proxy.Response{}
	req.Authority = to.String()
	err := x.p.open(x.c, req, &resp)
	if err != nil || resp.Stream == nil {
		code := codeOf(&resp, err)
		said := why(x.s, &resp, err)
		if err == nil {
			resp.Close()
		}
		x.refuse(replyTo(code), said, "to", req.Authority)
		return
	}
	if err := x.c.Push(x.reply(socks.Succeeded)); err != nil {
		resp.Close()
		x.end(err)
		return
	}
	x.p.server.cfg.Tunnel(x.s, &prefixed{Conn: x.c, shard: x.s, first: x.first}, resp.Stream)
	resp.Close()
	x.c.Close()
}

func (x *socksSession) reply(r socks.Reply) []byte {
	if x.v4 {
		return socks.AppendReply4(nil, r)
	}
	return socks.AppendReply(nil, r, netip.AddrPort{})
}

// refuse says no to a request, and ends the connection.
func (x *socksSession) refuse(r socks.Reply, why string, more ...any) {
	x.p.server.cfg.Logger.Warn("SOCKS request of the app refused", append([]any{"port", x.p.Name, "client", x.c.RemoteAddr(), "why", why}, more...)...)
	_ = x.c.Push(x.reply(r))
	x.s.Free(x.first)
	x.c.Close()
}

// end ends a connection on which no request was understood.
func (x *socksSession) end(err error) {
	if err != io.EOF {
		x.p.server.cfg.Logger.Warn("SOCKS connection of the app ended", "port", x.p.Name, "client", x.c.RemoteAddr(), "why", err)
	}
	x.s.Free(x.first)
	x.c.Close()
}

// replyTo maps a failure to what RFC 1928 section 6 can say of it.
func replyTo(c proxy.Code) socks.Reply {
	switch c {
	case proxy.Denied, proxy.NotPermitted:
		return socks.NotAllowed
	case proxy.UnknownService, proxy.NoEndpoints, proxy.ConnectFailed, proxy.BadIdentity:
		return socks.HostUnreachable
	case proxy.AppUnreachable:
		return socks.Refused
	case proxy.Timeout:
		return socks.Expired
	case proxy.Unsupported:
		return socks.CommandNotSupported
	}
	return socks.Failed
}

// codeOf returns what went wrong, here or at the peer.
func codeOf(resp *proxy.Response, err error) proxy.Code {
	var e *proxy.Error
	switch {
	case errors.As(err, &e):
		return e.Code
	case err != nil:
		return proxy.Internal
	}
	return proxy.Code(resp.Fields.Get(answer.CodeField))
}
