package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// each runs f on every runtime with a gateway to a scripted app.
func each(t *testing.T, f func(t *testing.T, g *gateway, a *app)) {
	t.Helper()
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a := newApp(t)
		f(t, newGateway(t, rt, a.addr(), ServerConfig{}, ClientConfig{}), a)
		a.ln.Close()
	})
}

// What is refused is answered with a reason and the connection closed, so that the client can read the answer, and nothing of it
// is forwarded, not even what looks like a second request.
func TestForwardsNothingOfBadRequests(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		forwarded := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
			t.Errorf("%s %s was forwarded", req.Method, req.Path)
			return io.EOF
		})
		g := newGateway(t, rt, "", ServerConfig{Handler: forwarded}, ClientConfig{})
		for _, c := range badRequests {
			p := g.dial()
			p.Send(crlf(c.head + "GET /smuggled HTTP/1.1\nHost: a\n\n"))
			p.FinishSending()
			got, err := io.ReadAll(p.Conn)
			if err != nil || !strings.HasPrefix(string(got), fmt.Sprintf("HTTP/1.1 %d ", c.status)) || strings.Count(string(got), "HTTP/1.1 ") > 1+strings.Count(c.rule, "HTTP/") {
				t.Errorf("%s: answer %q, %v, want one with status %d", c.rule, got, err, c.status)
			}
			if !strings.Contains(string(got), "Connection: close\r\n") {
				t.Errorf("%s: answer %q, want Connection: close", c.rule, got)
			}
			p.Close()
		}
	})
}

func TestRefusesLongHeads(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		for _, c := range []struct {
			head   string
			status string
		}{
			{"GET /" + strings.Repeat("x", 70<<10), "414"},
			{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 70<<10), "431"},
			{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", "431"},
		} {
			p := g.dial()
			p.Send(c.head)
			p.FinishSending()
			if got, err := io.ReadAll(p.Conn); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 "+c.status) {
				t.Errorf("%.30q: answer %q, %v, want %s", c.head, got, err, c.status)
			}
		}
		p := g.dial()
		long := strings.Repeat("y", 50<<10)
		p.Send("GET / HTTP/1.1\r\nHost: a\r\nX: " + long + "\r\n\r\n")
		s := a.accept()
		s.Expect("GET / HTTP/1.1\r\nHost: a\r\nX: " + long + "\r\n\r\n")
		s.Send("HTTP/1.1 200 OK\r\nY: " + long + "\r\nContent-Length: 0\r\n\r\n")
		p.Expect("HTTP/1.1 200 OK\r\nY: " + long + "\r\nContent-Length: 0\r\n\r\n")
	})
}

func TestHeadTimeout(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		g := newGateway(t, rt, "", ServerConfig{HeadTimeout: 50 * time.Millisecond, Linger: 50 * time.Millisecond}, ClientConfig{})
		p := g.dial()
		p.Send("GET / HT")
		if got := p.ExpectUntil("\r\n"); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("answer %q, want 408", got)
		}
		p.ExpectClosed()
	})
}

func TestHeadInPieces(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		for _, piece := range []string{"\r", "\nGE", "T / HTTP/1.1\r", "\nHost: a\r\nX: y", "z\r\n\r"} {
			p.Send(piece)
			time.Sleep(5 * time.Millisecond)
		}
		p.Send("\n")
		s := a.accept()
		s.Expect(crlf("GET / HTTP/1.1\nHost: a\nX: yz\n\n"))
		for _, piece := range []string{"HTT", "P/1.1 200 OK\r", "\nContent-Length: 3\r\n", "\r\na", "b"} {
			s.Send(piece)
			time.Sleep(5 * time.Millisecond)
		}
		s.Send("c")
		p.Expect(crlf("HTTP/1.1 200 OK\nContent-Length: 3\n\nabc"))
	})
}

// RFC 9112 section 9.3.2: "A client that supports persistent connections MAY "pipeline" its requests [...] A server
// [...] MUST send the corresponding responses in the same order that the requests were received."
func TestPipelining(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET /1 HTTP/1.1\nHost: a\n\nPOST /2 HTTP/1.1\nHost: a\nContent-Length: 2\n\nhiGET /3 HTTP/1.1\nHost: a\nConnection: close\n\n"))
		s := a.accept()
		s.Expect(crlf("GET /1 HTTP/1.1\nHost: a\n\n"))
		s.ExpectSilence(20 * time.Millisecond)
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 1\n\n1"))
		s.Expect(crlf("POST /2 HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi"))
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 1\n\n2"))
		s.Expect(crlf("GET /3 HTTP/1.1\nHost: a\n\n"))
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 1\n\n3"))
		p.Expect(crlf("HTTP/1.1 200 OK\nContent-Length: 1\n\n1HTTP/1.1 200 OK\nContent-Length: 1\n\n2" +
			"HTTP/1.1 200 OK\nContent-Length: 1\nConnection: close\n\n3"))
		p.ExpectEOF()
	})
}

func TestHTTP10(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET / HTTP/1.0\nConnection: keep-alive\n\n"))
		s := a.accept()
		s.Expect(crlf("GET / HTTP/1.1\nHost: \n\n"))
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 1\n\nx"))
		p.Expect(crlf("HTTP/1.1 200 OK\nContent-Length: 1\nConnection: keep-alive\n\nx"))
		// RFC 9112 section 6.1: no chunked answer to HTTP/1.0, so the connection delimits it.
		p.Send(crlf("GET http://b/ HTTP/1.0\nConnection: keep-alive\n\n"))
		s.Expect(crlf("GET / HTTP/1.1\nHost: b\n\n"))
		s.Send(crlf("HTTP/1.1 200 OK\nConnection: close\nTransfer-Encoding: chunked\n\n3\nabc\n"))
		p.Expect(crlf("HTTP/1.1 200 OK\nConnection: close\n\nabc"))
		s.Send(crlf("3\ndef\n0\n\n"))
		p.Expect("def")
		p.ExpectEOF()
		p = g.dial()
		p.Send(crlf("GET / HTTP/1.0\nHost: c\n\n"))
		s = a.accept()
		s.Expect(crlf("GET / HTTP/1.1\nHost: c\n\n"))
		s.Send(crlf("HTTP/1.0 200 OK\n\nrest"))
		s.FinishSending()
		p.Expect(crlf("HTTP/1.1 200 OK\nConnection: close\n\nrest"))
		p.ExpectEOF()
	})
}

// The end of a close-delimited answer of the app becomes the last chunk.
func TestCloseDelimitedAnswer(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 200 OK\n\nabc"))
		p.Expect(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n"))
		s.Close()
		p.Expect(crlf("0\n\n"))
		p.Send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		s = a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 204 No Content\nContent-Length: 5\n\n"))
		p.Expect(crlf("HTTP/1.1 204 No Content\n\n"))
		p.Send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 304 Not Modified\nETag: x\nContent-Length: 5\n\n"))
		p.Expect(crlf("HTTP/1.1 304 Not Modified\nETag: x\nContent-Length: 5\n\n"))
		p.Send(crlf("HEAD / HTTP/1.1\nHost: a\n\n"))
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"))
		p.Expect(crlf("HTTP/1.1 200 OK\n\n"))
		p.Send(crlf("POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n"))
		s.Expect(crlf("POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n"))
		s.Send(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n\n"))
		p.Expect(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n\n"))
	})
}

// Every chunk is passed on as it comes, head first.
func TestFlushesAsItComes(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET /events HTTP/1.1\nHost: a\n\n"))
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked\n\n"))
		p.Expect(crlf("HTTP/1.1 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked\n\n"))
		for i := range 3 {
			s.Send(crlf("7\nevent " + fmt.Sprint(i) + "\n"))
			p.Expect(crlf("7\nevent " + fmt.Sprint(i) + "\n"))
		}
		s.Send("3\r\nab") // half a chunk is content too
		p.Expect(crlf("2\nab\n"))
		s.Send(crlf("c\n0\n\n"))
		p.Expect(crlf("1\nc\n0\n\n"))
	})
}

// RFC 9110 section 10.1.1 and 15.2.
func TestExpectContinue(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		head := "POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 5\n\n"
		p := g.dial()
		p.Send(crlf(head))
		s := a.accept()
		s.Expect(crlf(head))
		s.ExpectSilence(20 * time.Millisecond)
		p.ExpectSilence(20 * time.Millisecond)
		s.Send(crlf("HTTP/1.1 100 Continue\n\n"))
		p.Expect(crlf("HTTP/1.1 100 Continue\n\n"))
		p.Send("hello")
		s.Expect("hello")
		s.Send(crlf("HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\nok"))
		p.Expect(crlf("HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok"))

		// A final answer instead: the content is not asked for, and the connection ends.
		p.Send(crlf(head))
		s = a.accept()
		s.Expect(crlf(head))
		s.Send(crlf("HTTP/1.1 417 No\nContent-Length: 0\n\n"))
		p.Expect(crlf("HTTP/1.1 417 No\nContent-Length: 0\nConnection: close\n\n"))
		p.ExpectEOF()
	})
}

// An app that knows no 100 gets the content after a while.
func TestExpectWithoutContinue(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a := newApp(t)
		g := newGateway(t, rt, a.addr(), ServerConfig{}, ClientConfig{ContinueTimeout: 30 * time.Millisecond})
		p := g.dial()
		p.Send(crlf("POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nTransfer-Encoding: chunked\n\n"))
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		p.Expect(crlf("HTTP/1.1 100 Continue\n\n"))
		p.Send(crlf("5\nhello\n0\n\n"))
		s.Expect(crlf("5\nhello\n0\n\n"))
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"))
		p.Expect(crlf("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"))
	})
}

func TestConnect(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("CONNECT db:5432 HTTP/1.1\nHost: db:5432\n\n") + "early")
		s := a.accept()
		s.Expect(crlf("CONNECT db:5432 HTTP/1.1\nHost: db:5432\n\n"))
		s.ExpectSilence(20 * time.Millisecond) // optimistic bytes wait for the answer
		s.Send(crlf("HTTP/1.1 200 Connected\nVia: x\nContent-Length: 3\n\n") + "banner")
		p.Expect(crlf("HTTP/1.1 200 Connected\nVia: x\n\n") + "banner")
		s.Expect("early")
		p.Send("hello")
		s.Expect("hello")
		p.FinishSending()
		s.ExpectEOF()
		s.Send("last words")
		p.Expect("last words")
		s.Close()
		p.ExpectEOF()
	})
}

// RFC 9110 section 9.3.6: other answers than 2xx leave HTTP in place; what the client sent ahead is no request.
func TestConnectRefused(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("CONNECT db:5432 HTTP/1.1\nHost: db:5432\n\nGET /smuggled HTTP/1.1\nHost: a\n\n"))
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 403 Forbidden\nContent-Length: 2\n\nno"))
		p.Expect(crlf("HTTP/1.1 403 Forbidden\nContent-Length: 2\nConnection: close\n\nno"))
		p.ExpectEOF()
		s.ExpectSilence(20 * time.Millisecond)
	})
}

func TestUpgrade(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET /chat HTTP/1.1\nHost: a\nUpgrade: WebSocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Key: k\n\n"))
		s := a.accept()
		s.Expect(crlf("GET /chat HTTP/1.1\nHost: a\nSec-WebSocket-Key: k\nConnection: Upgrade\nUpgrade: WebSocket\n\n"))
		s.Send(crlf("HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: x\n\n") + "\x81\x02hi")
		p.Expect(crlf("HTTP/1.1 101 Switching Protocols\nSec-WebSocket-Accept: x\nConnection: Upgrade\nUpgrade: WebSocket\n\n") + "\x81\x02hi")
		p.Send("frames")
		s.Expect("frames")
		s.Abort() // a reset stays one
		if _, err := p.Conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("read at the other side of a reset: %v", err)
		}
	})
}

func TestUpgradeRefused(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET /chat HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\n\nGET /smuggled HTTP/1.1\nHost: a\n\n"))
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 426 Upgrade Required\nContent-Length: 0\n\n"))
		p.Expect(crlf("HTTP/1.1 426 Upgrade Required\nContent-Length: 0\nConnection: close\n\n"))
		p.ExpectEOF()
		s.ExpectSilence(20 * time.Millisecond)
	})
}

// A 101 that nobody asked for, or to something else than was asked for, opens no tunnel.
func TestUnaskedUpgrade(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		for _, c := range []string{"", "Connection: upgrade\nUpgrade: h2c\n", "Connection: upgrade\nUpgrade: websocket\n"} {
			p := g.dial()
			p.Send(crlf("GET / HTTP/1.1\nHost: a\n" + c + "\n"))
			s := a.accept()
			s.ExpectUntil("\r\n\r\n")
			s.Send(crlf("HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: foo\n\n"))
			if got := p.ExpectUntil("\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
				t.Errorf("%q: %q, want 502", c, got)
			}
			s.ExpectClosed()
		}
	})
}

// A truncated answer is 502 if nothing was passed on, else a reset, never a shorter complete one.
func TestTruncatedAnswers(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		for _, c := range []struct {
			answer string
			code   proxy.Code // "" if the head is passed on
		}{
			{"", proxy.AppClosed},
			{"HTTP/1.1 200 OK\nContent-Le", proxy.AppClosed},
			{"HTTP/1.1 200 OK\nContent-Length: 5\n\nabc", ""},
			{"HTTP/1.1 200 OK\nContent-Length: 5\n\n", ""},
			{"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nabc", ""},
			{"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n", ""},
			{"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\n", ""},
			{"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n0\nA: b\n", ""},
			{"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabcde\n0\n\n", ""},
			{"SMTP ready\n\n", proxy.AppBadAnswer},
			{"HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked\n\nabcde", proxy.AppBadAnswer},
		} {
			p := g.dial()
			p.Send(crlf("GET / HTTP/1.1\nHost: a\nConnection: close\n\n"))
			s := a.accept()
			s.ExpectUntil("\r\n\r\n")
			s.Send(crlf(c.answer))
			s.Close()
			got, err := io.ReadAll(p.Conn)
			if c.code == "" {
				if err == nil {
					t.Errorf("%q: client got %q and an orderly end, want a reset", c.answer, got)
				}
				continue
			}
			if !strings.HasPrefix(string(got), "HTTP/1.1 502 ") && err == nil || g.lastCode() != c.code {
				t.Errorf("%q: client got %q, %v, code %q, want 502 and %q", c.answer, got, err, g.lastCode(), c.code)
			}
		}
	})
}

// The first bytes of the content are bad, and the head was not sent yet.
func TestBadContentBeforeAnything(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET / HTTP/1.1\nHost: a\nConnection: close\n\n"))
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nzz\nabc"))
		got, err := io.ReadAll(p.Conn)
		if err == nil && !strings.HasPrefix(string(got), "HTTP/1.1 502 ") {
			t.Errorf("client got %q, want 502 or a reset", got)
		}
		s.ExpectClosed()
	})
}

// An app at the far side sees within 200 ms that the client has left.
func TestClientLeaves(t *testing.T) {
	for _, how := range []struct {
		name  string
		leave func(p *proxytest.Peer)
	}{{"reset", (*proxytest.Peer).Abort}, {"close", func(p *proxytest.Peer) { p.Close() }}} {
		t.Run(how.name, func(t *testing.T) {
			each(t, func(t *testing.T, g *gateway, a *app) {
				p := g.dial()
				p.Send(crlf("GET /slow HTTP/1.1\nHost: a\n\n"))
				s := a.accept()
				s.ExpectUntil("\r\n\r\n")
				begin := time.Now()
				how.leave(p)
				s.ExpectClosed()
				if d := time.Since(begin); d > 5*time.Second {
					t.Errorf("the app saw it after %v", d)
				}

				p = g.dial() // mid-answer
				p.Send(crlf("GET /slow HTTP/1.1\nHost: a\n\n"))
				s = a.accept()
				s.ExpectUntil("\r\n\r\n")
				s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 1000\n\nx"))
				p.ExpectUntil("\r\n\r\nx")
				how.leave(p)
				s.ExpectClosed()
			})
		})
	}
}

// A client that closes its sending side right after its request gets a quick answer.
func TestHalfClosedClient(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET / HTTP/1.0\n\n"))
		p.FinishSending()
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		time.Sleep(10 * time.Millisecond)
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"))
		p.Expect(crlf("HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nok"))
		p.ExpectEOF()
	})
}

// One whose answer takes longer is asked whether it is still there, as far as its version of HTTP allows, and gets its answer.
func TestHalfClosedClientWaits(t *testing.T) {
	for _, c := range []struct{ request, interim, head string }{
		{"GET / HTTP/1.0\n\n", "", "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\n"},
		{"GET / HTTP/1.1\nHost: a\n\n", strings.Repeat("HTTP/1.1 100 Continue\n\n", 2), "HTTP/1.1 200 OK\nContent-Length: 2\n\n"},
	} {
		each(t, func(t *testing.T, g *gateway, a *app) {
			p := g.dial()
			p.Send(crlf(c.request))
			p.FinishSending()
			s := a.accept()
			s.ExpectUntil("\r\n\r\n")
			if c.interim == "" {
				time.Sleep(300 * time.Millisecond)
			}
			p.Expect(crlf(c.interim))
			s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"))
			p.Expect(crlf(c.head + "ok"))
			p.ExpectEOF()
		})
	}
}

// An answer that flows, or that waits for its reader, is not cut short.
func TestHalfClosedClientReadsSlowly(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		a := newApp(t)
		defer a.ln.Close()
		g := newGateway(t, rt, a.addr(), ServerConfig{HalfClosed: 500 * time.Millisecond}, ClientConfig{})
		const size = 16 << 20
		p := g.dial()
		p.Send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		p.FinishSending()
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		head := crlf("HTTP/1.1 200 OK\nContent-Length: 16777216\n\n")
		go s.Write(append([]byte(head), make([]byte, size)...))
		p.ExpectUntil(head)
		time.Sleep(1200 * time.Millisecond) // two checks and more
		if n, err := io.Copy(io.Discard, p.Conn); n != size || err != nil {
			t.Errorf("got %d bytes, %v, want %d", n, err, size)
		}
	})
}

// A half-closed client whose answer pauses in the middle cannot be told from one that has left.
func TestHalfClosedMidAnswer(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		p.FinishSending()
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 200 OK\nContent-Length: 1000\n\nx"))
		p.ExpectUntil("\r\n\r\nx")
		s.ExpectClosed()
		p.ExpectClosed()
	})
}

// An answer before the end of the request is passed on at once.
func TestEarlyAnswer(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("POST / HTTP/1.1\nHost: a\nContent-Length: 1000000\n\nabc"))
		s := a.accept()
		s.ExpectUntil("abc")
		s.Send(crlf("HTTP/1.1 413 Too Large\nContent-Length: 2\n\nno"))
		p.Expect(crlf("HTTP/1.1 413 Too Large\nContent-Length: 2\n\nno"))
		p.Send("more")
		p.ExpectClosed()
		s.ExpectClosed()
	})
}

// A client that breaks off its content resets the app's request: it must not look complete.
func TestTruncatedRequest(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		for _, framing := range []string{"Content-Length: 10\n\nabc", "Transfer-Encoding: chunked\n\n3\nabc\n"} {
			p := g.dial()
			p.Send(crlf("POST / HTTP/1.1\nHost: a\n" + framing))
			s := a.accept()
			s.ExpectUntil("abc")
			p.Close()
			if rest, err := io.ReadAll(s.Conn); err == nil {
				t.Errorf("%q: the app got %q and an orderly end", framing, rest)
			}
		}
		for _, framing := range []string{"3\nabcd\n", "x\n", "3 \nabc\n", "3;\x01\nabc\n", "ffffffffffffffff\nabc", "\n", "3\nabc\n0\nA : b\n\n"} {
			p := g.dial()
			p.Send(crlf("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n1\nx\n" + framing))
			s := a.accept()
			var ne net.Error
			if rest, err := io.ReadAll(s.Conn); err == nil || errors.As(err, &ne) && ne.Timeout() {
				t.Fatalf("%q: the app got %q, %v, want a reset", framing, rest, err)
			}
			if got := p.ExpectUntil("\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
				t.Errorf("%q: %q, want 400", framing, got)
			}
			p.FinishSending()
			p.ExpectClosed()
		}
	})
}

// Large contents, sized and chunked, both ways at once, arrive whole; afterwards connections are reused and no buffer is held.
func TestBulk(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		const size = 3<<20 + 17
		block := strings.Repeat("0123456789abcdef", size/16+2)
		addr, stop := echoApp(t, func(head string, r *bufio.Reader, w net.Conn) bool {
			body := io.LimitReader(r, size)
			if strings.Contains(head, "Transfer-Encoding") {
				body = newChunkedReader(r)
			}
			if strings.Contains(head, "/chunked") {
				io.WriteString(w, crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"))
				for n := 1; ; n = n*3%40000 + 1 {
					b := make([]byte, n)
					m, err := io.ReadFull(body, b)
					if m > 0 {
						fmt.Fprintf(w, "%x\r\n%s\r\n", m, b[:m])
					}
					if err != nil {
						break
					}
				}
				io.WriteString(w, "0\r\n\r\n")
				return true
			}
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			io.Copy(w, body)
			return true
		})
		defer stop()
		g := newGateway(t, rt, addr, ServerConfig{}, ClientConfig{})
		p := g.dial()
		r := bufio.NewReader(p.Conn)
		for _, up := range []string{"sized", "chunked"} {
			for _, down := range []string{"sized", "chunked"} {
				sent := make(chan error, 1)
				go func() {
					var err error
					if up == "sized" {
						_, err = fmt.Fprintf(p.Conn, "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", down, size, block[:size])
					} else {
						fmt.Fprintf(p.Conn, "POST /%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", down)
						for at, n := 0, 1; at < size; n = n*5%70000 + 1 {
							n = min(n, size-at)
							fmt.Fprintf(p.Conn, "%X;e=f\r\n%s\r\n", n, block[at:at+n])
							at += n
						}
						_, err = io.WriteString(p.Conn, "0\r\n\r\n")
					}
					sent <- err
				}()
				head, err := readRawHead(r)
				if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 OK") {
					t.Fatalf("%s up, %s down: %q, %v", up, down, head, err)
				}
				var body io.Reader = io.LimitReader(r, size)
				if down == "chunked" {
					body = newChunkedReader(r)
				}
				got, err := io.ReadAll(body)
				if err != nil || string(got) != block[:size] {
					t.Fatalf("%s up, %s down: %d bytes, %v, want the %d that were sent", up, down, len(got), err, size)
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
			}
		}
		proxytest.Eventually(t, "no buffer is held", func() bool { return rt.Stats().Buffers == 0 })
		p.Close()
	})
}

// A slow reader slows the app: what is in flight is bounded by the sockets.
func TestSlowReader(t *testing.T) {
	each(t, func(t *testing.T, g *gateway, a *app) {
		p := g.dial()
		p.Send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		s := a.accept()
		s.ExpectUntil("\r\n\r\n")
		s.Send(crlf("HTTP/1.1 200 OK\n\n"))
		chunk := make([]byte, 1<<20)
		total := 0
		for total < 256<<20 {
			s.Conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			n, err := s.Conn.Write(chunk)
			total += n
			if err != nil {
				break
			}
		}
		if total >= 256<<20 {
			t.Error("256 MiB went in without a reader")
		}
		p.Abort()
		s.ExpectClosed()
	})
}

func newChunkedReader(r *bufio.Reader) io.Reader { return &chunkedReader{r: r} }

// chunkedReader is a plain reader of chunks for the tests.
type chunkedReader struct {
	r    *bufio.Reader
	left int
	end  bool
}

func (c *chunkedReader) Read(p []byte) (int, error) {
	if c.end {
		return 0, io.EOF
	}
	if c.left == 0 {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		if _, err := fmt.Sscanf(size, "%x", &c.left); err != nil {
			return 0, fmt.Errorf("chunk size %q: %w", line, err)
		}
		if c.left == 0 {
			c.end = true
			if line, err := c.r.ReadString('\n'); line != "\r\n" {
				return 0, fmt.Errorf("after the last chunk: %q, %v", line, err)
			}
			return 0, io.EOF
		}
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 && err == nil {
		var crlf [2]byte
		if _, err = io.ReadFull(c.r, crlf[:]); err == nil && string(crlf[:]) != "\r\n" {
			err = fmt.Errorf("after a chunk: %q", crlf)
		}
	}
	return n, err
}
