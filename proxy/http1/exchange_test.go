package http1

import (
	"testing"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Order and case of fields are kept, hop-by-hop fields are not (RFC 9110 section 7.6.1).
func TestForwardsFields(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a := newApp(t)
		g := newGateway(t, rt, a.addr(), ServerConfig{}, ClientConfig{})
		c := g.dial()
		c.Send(crlf("GET /x?y=z HTTP/1.1\naccept: */*\nHoSt: example.com\nConnection: keep-alive, X-Hop\nX-HOP: 1\n" +
			"Keep-Alive: 3\nProxy-Connection: x\nTE: trailers, gzip\nx-b: 2\nX-A:   3  \n\n"))
		s := a.accept()
		s.Expect(crlf("GET /x?y=z HTTP/1.1\naccept: */*\nHoSt: example.com\nTE: trailers\nx-b: 2\nX-A: 3\nConnection: TE\n\n"))
		s.Send(crlf("HTTP/1.1 200 Fine\nServer: x\ncontent-length: 5\ndate: never\nConnection: foo\nfoo: bar\n\nhello"))
		c.Expect(crlf("HTTP/1.1 200 Fine\nServer: x\ncontent-length: 5\ndate: never\n\nhello"))
		c.Send(crlf("HEAD / HTTP/1.1\nHost: a\n\n"))
		s.Expect(crlf("HEAD / HTTP/1.1\nHost: a\n\n"))
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 500\n\n"))
		c.Expect(crlf("HTTP/1.1 200 OK\nContent-Length: 500\n\n"))
		c.Send(crlf("DELETE / HTTP/1.1\ncontent-length: 0\nHost: a\n\n"))
		s.Expect(crlf("DELETE / HTTP/1.1\ncontent-length: 0\nHost: a\n\n"))
		s.Send(crlf("HTTP/1.1 204 No Content\nContent-Length: 0\n\n"))
		c.Expect(crlf("HTTP/1.1 204 No Content\n\n"))
		c.Send(crlf("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: T\n\n3;x=y\nabc\n0\nT: 1\nHost: evil\n\n"))
		s.Expect(crlf("POST / HTTP/1.1\nHost: a\nTrailer: T\nTransfer-Encoding: chunked\n\n3\nabc\n0\nT: 1\n\n"))
		s.Send(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: u\n\n2\nhi\n0\nu: v\n\n"))
		c.Expect(crlf("HTTP/1.1 200 OK\nTrailer: u\nTransfer-Encoding: chunked\n\n2\nhi\n0\nu: v\n\n"))
		c.Close()
		s.Close()
	})
}
