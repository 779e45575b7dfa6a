package local

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/detect"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// openings are what clients of many protocols say first.
var openings = []struct {
	name, said string
	want       detect.Verdict
}{
	{"HTTP/1.1", "GET /a HTTP/1.1\r\nHost: api\r\n\r\n", detect.HTTP1},
	{"HTTP/1.0", "POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n", detect.HTTP1},
	{"a method of its own", "BREW /a HTTP/1.1\r\nHost: api\r\n\r\n", detect.HTTP1},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: api\r\n\r\n", detect.HTTP1},
	{"TLS", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", detect.TLS},
	{"Redis", "*1\r\n$4\r\nPING\r\n", detect.Other},
	{"Redis inline", "PING\r\n", detect.Other},
	{"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f", detect.Other},
	{"IRC", "NICK bob\r\nUSER bob 0 * :Bob\r\n", detect.Other},
	{"XMPP", "<?xml version='1.0'?><stream:stream>", detect.Other},
	{"SSH", "SSH-2.0-OpenSSH_9.2p1\r\n", detect.Other},
	{"AMQP", "AMQP\x00\x00\x09\x01", detect.Other},
	{"SIP", "REGISTER sip:example.com SIP/2.0\r\n\r\n", detect.Other},
	{"RTSP", "OPTIONS rtsp://example.com/ RTSP/1.0\r\n\r\n", detect.Other},
	{"nearly HTTP", "GET it\r\n", detect.Other},
	{"no end of line", "hello", detect.Unknown}, // nothing tells what it is, nor need it
}

// listener is an app that answers a message once it is whole.
type listener struct {
	whole atomic.Value // string
	got   atomic.Int32 // bytes on the connection that came last
}

func (a *listener) run(c net.Conn) {
	var got []byte
	for one := make([]byte, 1); string(got) != a.whole.Load().(string); {
		if _, err := c.Read(one); err != nil {
			return
		}
		got = append(got, one...)
		a.got.Store(int32(len(got)))
	}
	fmt.Fprintf(c, "got %s", got)
	_, _ = io.Copy(io.Discard, c)
}

// However the first bytes are cut in two, they are taken for the same, and arrive as they were. Nothing waits for the clock: the second piece is
// sent once the first has gone as far as it can, to the app, or into a request.
func TestAnySplitIsTheSame(t *testing.T) {
	var a listener
	runtimes(t, a.run, func(t *testing.T, rt task.Runtime, f *far) {
		for _, o := range openings {
			for at := 1; at <= len(o.said); at++ {
				a.got.Store(0)
				a.whole.Store(o.said)
				svc := proxy.Service{Name: "db", Port: uint16(at)}
				l, addr := serve(t, rt, f, Port{Service: svc})
				c := dial(t, addr)
				c.Send(o.said[:at])
				if v, _ := detect.Sniff([]byte(o.said[:at])); v != detect.HTTP1 {
					proxytest.Eventually(t, fmt.Sprintf("%d bytes of %s are with the app", at, o.name), func() bool { return a.got.Load() == int32(at) })
				}
				c.Send(o.said[at:])
				if o.want == detect.HTTP1 {
					if got := c.ExpectUntil("\r\n"); !strings.Contains(got, " 200 ") {
						t.Errorf("%s cut at %d: got %q, want an answer", o.name, at, got)
					}
				} else {
					c.Expect("got " + o.said)
				}
				if got := l.Speaks(svc); got != o.want {
					t.Errorf("%s cut at %d: speaks %v, want %v", o.name, at, got, o.want)
				}
				c.Close()
			}
		}
		proxytest.Eventually(t, "every connection ends", func() bool { return rt.Stats().Conns == 0 })
	})
}

// What is in doubt reaches the app at once, and is taken back if it becomes HTTP.
func TestDoubtIsPassedOn(t *testing.T) {
	app := make(chan string, 1)
	reset := make(chan error, 1)
	tcp := tcpApp(t, func(c net.Conn) {
		b := make([]byte, 100)
		n, _ := c.Read(b)
		app <- string(b[:n])
		_, err := c.Read(b)
		reset <- err
	})
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		f := &far{tcp: tcp}
		l, addr := serve(t, rt, f, Port{Service: db})
		c := dial(t, addr)
		c.Send("GE")
		if got := <-app; got != "GE" {
			t.Errorf("the app got %q, want GE", got)
		}
		if got := l.Speaks(db); got != detect.Unknown {
			t.Errorf("half a word: %v, want unknown", got)
		}
		c.Send("T /a HTTP/1.1\r\nHost: api\r\n\r\n")
		expectAnswer(c, "/a")
		if err := <-reset; err == nil || err == io.EOF {
			t.Errorf("the app's connection ended with %v, want a reset", err)
		}
		if n := f.exchanges.Load(); n != 1 || l.Speaks(db) != detect.HTTP1 {
			t.Errorf("%d exchanges, speaks %v; want one, http1", n, l.Speaks(db))
		}
		c.Close()
	})
}

// Byte by byte is a split, too.
func TestByteByByte(t *testing.T) {
	var a listener
	runtimes(t, a.run, func(t *testing.T, rt task.Runtime, f *far) {
		for i, o := range openings {
			a.got.Store(0)
			a.whole.Store(o.said)
			svc := proxy.Service{Name: "db", Port: uint16(i + 1)}
			l, addr := serve(t, rt, f, Port{Service: svc})
			c := dial(t, addr)
			for at := 1; at <= len(o.said); at++ {
				c.Send(o.said[at-1 : at])
				if v, _ := detect.Sniff([]byte(o.said[:at])); v != detect.HTTP1 {
					proxytest.Eventually(t, fmt.Sprintf("%d bytes of %s are with the app", at, o.name), func() bool { return a.got.Load() == int32(at) })
				}
			}
			if o.want == detect.HTTP1 {
				c.ExpectUntil(" 200 ")
			} else {
				c.Expect("got " + o.said)
			}
			if got := l.Speaks(svc); got != o.want {
				t.Errorf("%s: speaks %v, want %v", o.name, got, o.want)
			}
			c.Close()
		}
		proxytest.Eventually(t, "every connection ends", func() bool { return rt.Stats().Conns == 0 })
	})
}

// A client that is silent at a service that speaks HTTP holds its app's connection for a while only, and may then say what it likes.
func TestSilentClientsGiveTheAppBack(t *testing.T) {
	for said, answer := range map[string]string{get: " 200 ", "\x00\x01": "\x00\x01", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00": "\x04\x00"} {
		runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
			l, addr := serve(t, rt, f, Port{Service: db})
			l.patience = time.Millisecond
			l.memory.note(db, detect.HTTP1)
			c := dial(t, addr)
			proxytest.Eventually(t, "the app was asked", func() bool { return f.streams.Load() == 1 })
			proxytest.Eventually(t, "the connection is idle and the app's is gone", func() bool { st := rt.Stats(); return st.Conns == 1 && st.Idle == 1 && st.Tasks == 0 })
			c.Send(said)
			c.ExpectUntil(answer)
			c.Close()
			proxytest.Eventually(t, "every connection ends", func() bool { return rt.Stats().Conns == 0 })
		})
	}
}

// app is a TCP app that can become another one.
type app struct {
	serve atomic.Pointer[func(net.Conn)]
}

func (a *app) become(f func(net.Conn)) { a.serve.Store(&f) }
func (a *app) run(c net.Conn)          { (*a.serve.Load())(c) }

// A verdict that has become wrong hangs nobody, and is corrected by the first who shows it.
func TestWrongVerdictsAreCorrected(t *testing.T) {
	var a app
	a.become(echo)
	runtimes(t, a.run, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{Service: db})
		expect := func(when string, want detect.Verdict) {
			t.Helper()
			proxytest.Eventually(t, fmt.Sprintf("%s: speaks %v", when, want), func() bool { return l.Speaks(db) == want })
		}
		http := func() {
			t.Helper()
			c := dial(t, addr)
			c.Send(get)
			expectAnswer(c, "/a")
			c.Close()
		}
		greeted := func() {
			t.Helper()
			c := dial(t, addr)
			c.Expect("220 ready\r\n") // without a word of the client
			c.Close()
		}
		hasty := func() {
			t.Helper()
			c := dial(t, addr)
			c.Send("EHLO\r\n")
			c.ExpectUntil("EHLO\r\n")
			c.Close()
		}
		a.become(echo)
		http()
		expect("an HTTP app", detect.HTTP1)
		a.become(banner)
		greeted()
		expect("the app has become one that speaks first", detect.ServerFirst)
		greeted()
		a.become(echo)
		http()
		expect("it speaks HTTP again", detect.HTTP1)
		a.become(banner)
		greeted()
		a.become(echo) // slow, as it were: its clients speak first
		hasty()
		expect("one hasty client", detect.ServerFirst)
		hasty()
		hasty()
		expect("three in a row", detect.Other)
		a.become(banner)
		greeted()
		expect("it speaks first after all", detect.ServerFirst)
	})
}

// An HTTP/2 server that says its SETTINGS at once is none in which the server speaks first.
func TestSettingsAreNoBanner(t *testing.T) {
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	said := make(chan struct{}, 10)
	eager := func(c net.Conn) {
		fmt.Fprint(c, settings)
		said <- struct{}{}
		_, _ = io.Copy(c, c)
	}
	runtimes(t, eager, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{Service: db})
		hc := h2Client()
		defer hc.CloseIdleConnections()
		silent := dial(t, addr)
		<-said
		proxytest.Eventually(t, "the SETTINGS are seen", func() bool { return l.Speaks(db) == detect.HTTP2 })
		resp, err := hc.Get("http://" + addr + "/x")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		silent.Send("\x00\x01") // was meant for HTTP/2 by nobody
		silent.Expect(settings + "\x00\x01")
		silent.Close()
	})
}

// What an HTTP server says to a silent client is passed on and proves nothing.
func TestTimeoutAnswerIsNoBanner(t *testing.T) {
	const bye = "HTTP/1.1 408 Request Timeout\r\n\r\n"
	runtimes(t, func(c net.Conn) { fmt.Fprint(c, bye) }, func(t *testing.T, rt task.Runtime, f *far) {
		l, addr := serve(t, rt, f, Port{Service: db})
		c := dial(t, addr)
		c.Expect(bye)
		c.ExpectEOF()
		if got := l.Speaks(db); got != detect.Unknown {
			t.Errorf("speaks %v, want unknown", got)
		}
	})
}
