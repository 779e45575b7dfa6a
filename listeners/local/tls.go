package local

import (
	"io"
	"strconv"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/sni"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// recordHandshake is the first byte of a TLS connection.
const recordHandshake = 0x16

// passTLS serves an app that speaks TLS itself on the outbound port: the name in its ClientHello is the service, and the bytes are passed on as they
// came, so that the two apps authenticate each other.
func (p *port) passTLS(s task.Shard, c task.Conn, first *task.Buffer) {
	name, err := p.helloName(s, c, first)
	switch {
	case err == sni.ErrNoName:
		p.alert(s, c, first, sni.MissingExtension, "", "TLS on this port is routed by the name of the server that the client asks for (SNI), and it asks for none")
		return
	case err != nil:
		p.alert(s, c, first, sni.DecodeError, "", err.Error())
		return
	}
	req, resp := p.connect(s, c), proxy.Response{}
	req.Authority = name
	if port := p.server.known.Load().tlsPorts[name]; port != 0 {
		req.Authority += ":" + strconv.Itoa(int(port))
	}
	err = p.open(c, req, &resp)
	if err != nil || resp.Stream == nil {
		code, said := codeOf(&resp, err), why(s, &resp, err)
		if err == nil {
			resp.Close()
		}
		p.alert(s, c, first, alertFor(code), req.Authority, said)
		return
	}
	p.server.cfg.Tunnel(s, &prefixed{Conn: c, shard: s, first: first}, resp.Stream)
	resp.Close()
	c.Close()
}

// helloName reads until the ClientHello has told a name, or that it has none.
func (p *port) helloName(s task.Shard, c task.Conn, first *task.Buffer) (string, error) {
	c.SetDeadline(s.Now().Add(detectTimeout))
	defer c.SetDeadline(0)
	for {
		name, ok, err := sni.Name(first.Unread())
		if ok {
			return name, err
		}
		if err := readMore(c, first); err != nil {
			return "", err
		}
	}
}

// alert refuses a TLS connection in its own words.
func (p *port) alert(s task.Shard, c task.Conn, first *task.Buffer, a sni.Alert, to, why string) {
	p.server.cfg.Logger.Warn("TLS connection of the app refused", "port", p.Name, "client", c.RemoteAddr(), "to", to, "why", why)
	_ = c.Push(sni.AppendAlert(nil, a))
	s.Free(first)
	c.Close()
}

func alertFor(c proxy.Code) sni.Alert {
	switch c {
	case proxy.UnknownService:
		return sni.UnrecognizedName
	case proxy.Denied, proxy.NotPermitted:
		return sni.AccessDenied
	}
	return sni.InternalError
}

// readMore reads once more into first. io.ErrShortBuffer: there is no room, for a message that is longer than any in order.
func readMore(c task.Conn, first *task.Buffer) error {
	if len(first.Room()) == 0 {
		return io.ErrShortBuffer
	}
	n, err := c.Read(first.Room())
	first.W += n
	if n > 0 {
		return nil
	}
	return err
}
