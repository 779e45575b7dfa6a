package local

import (
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
)

var (
	loopback = Sources{Nets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	others   = Sources{Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")}, Unix: true}
)

const (
	line     = "PROXY TCP4 10.1.2.3 10.0.0.8 41234 25\r\n"
	header2  = "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xa1\x12\x00\x19"
	header2L = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	client1  = "10.1.2.3:41234"
	client2  = "[2001:db8::7]:41234"
)

// clients notes for whom each request is.
func clients(f *far) (proxy.RoundTripper, func(*testing.T, string)) {
	seen := make(chan netip.AddrPort, 100)
	rt := proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		seen <- req.Client
		return f.RoundTrip(req, resp)
	})
	return rt, func(t *testing.T, want string) {
		t.Helper()
		select {
		case got := <-seen:
			if want == "" && got.Addr().IsLoopback() || got.String() == want {
				return
			}
			t.Errorf("the client is %v, want %q", got, want)
		case <-time.After(30 * time.Second):
			t.Error("no request arrives")
		}
	}
}

// TestHeaderBeforeServerFirst: the header is read, and nothing more is waited for.
func TestHeaderBeforeServerFirst(t *testing.T) {
	for _, protocol := range []Protocol{TCP, Auto} {
		runtimes(t, banner, func(t *testing.T, rt task.Runtime, f *far) {
			h, from := clients(f)
			_, addr := serve(t, rt, h, Port{Service: db, Protocol: protocol, ProxyFrom: loopback})
			for header, want := range map[string]string{line: client1, header2: client2, header2L: "", "PROXY UNKNOWN\r\n": ""} {
				c := dial(t, addr)
				for i := range len(header) { // split anywhere
					c.Send(header[i : i+1])
				}
				from(t, want)
				c.Expect("220 ready\r\n")
				c.Send("hello")
				c.Expect("hello")
				c.FinishSending()
				c.ExpectEOF()
			}
		})
	}
}

// TestHeaderBeforeRequests: it counts for every request of its connection, and stays apart from what follows.
func TestHeaderBeforeRequests(t *testing.T) {
	for _, port := range []Port{{}, {Service: db, Protocol: HTTP}, {Service: db}} {
		runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
			h, from := clients(f)
			port.ProxyFrom = loopback
			l, addr := serve(t, rt, h, port)
			c := dial(t, addr)
			c.Send(line + get)
			if port.Service == db && port.Protocol == Auto {
				from(t, client1) // the Stream that is given up
			}
			from(t, client1)
			expectAnswer(c, "/a")
			proxytest.Eventually(t, "nothing is held", func() bool { return rt.Stats().Buffers == 0 })
			c.Send(get + get)
			from(t, client1)
			from(t, client1)
			expectAnswer(c, "/a")
			expectAnswer(c, "/a")
			l.Shutdown()
			c.ExpectEOF()
		})
	}
}

func TestHeaderBeforeHTTP2(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		h, from := clients(f)
		_, addr := serve(t, rt, h, Port{ProxyFrom: loopback})
		c := dial(t, addr)
		// The preface, SETTINGS, and HEADERS that end stream 1: GET http / of authority a.
		c.Send(header2 + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
			"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01a")
		from(t, client2)
		c.Close()
	})
}

func TestHeaderIsWantedOfThoseNamed(t *testing.T) {
	runtimes(t, banner, func(t *testing.T, rt task.Runtime, f *far) {
		h, from := clients(f)
		_, addr := serve(t, rt, h, Port{Service: db, Protocol: TCP, ProxyFrom: loopback})
		for _, bad := range []string{get, "SSH-2.0-x\r\n", "PROXY TCP4 nonsense\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c0123456789ab"} {
			c := dial(t, addr)
			c.Send(bad)
			c.ExpectClosed()
		}
		if f.streams.Load() != 0 {
			t.Error("a stream was opened")
		}
		_, addr = serve(t, rt, h, Port{Service: db, Protocol: TCP, ProxyFrom: others})
		c := dial(t, addr) // is not asked for one, and waits for nothing
		from(t, "")
		c.Expect("220 ready\r\n")
		c.Send(line) // just bytes
		c.Expect(line)
		c.FinishSending()
		c.ExpectEOF()
		_, addr = serve(t, rt, h, Port{ProxyFrom: others})
		c = dial(t, addr)
		c.Send(get)
		from(t, "")
		expectAnswer(c, "/a")
		c.Send(line + get)
		if got := c.ExpectUntil("\r\n"); got != "HTTP/1.1 400 Bad Request\r\n" {
			t.Errorf("a header of one who may not send it: got %q, want 400", got)
		}
	})
}

// TestHeaderOnSocket: the clients of a socket have no address but that in a header.
func TestHeaderOnSocket(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		h, from := clients(f)
		l, err := New(Config{Handler: answer.Rescue(h), Tunnel: relay.Copy, Answer: answer.Fill, Shards: rt.Shards(), Logger: proxytest.Logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			from       Sources
			said, want string
		}{
			{Sources{Unix: true}, line, client1},
			{Sources{Unix: true}, "PROXY UNKNOWN\r\n", "invalid AddrPort"},
			{loopback, "", "invalid AddrPort"},
		} {
			ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			listener, err := l.Listen(rt, Port{Name: "test", Listener: ln, ProxyFrom: x.from})
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("unix", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second))
			p := proxytest.NewPeer(t, c)
			p.Send(x.said + get)
			from(t, x.want)
			expectAnswer(p, "/a")
			c.Close()
			listener.Close()
		}
	})
}
