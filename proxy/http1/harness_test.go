package http1

import (
	"bufio"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// gateway is a Server whose handler carries every request to one app with ClientConns, kept per shard.
type gateway struct {
	t    testing.TB
	srv  *Server
	ln   task.Listener
	app  string
	cfg  ClientConfig
	pool [8][]*ClientConn // by shard; guarded by its lock

	mu     sync.Mutex
	errs   []error
	closed int
}

func newGateway(t testing.TB, rt task.Runtime, app string, cfg ServerConfig, ccfg ClientConfig) *gateway {
	t.Helper()
	g := &gateway{t: t, app: app, cfg: ccfg}
	if cfg.Handler == nil {
		cfg.Handler = g
	}
	if cfg.Tunnel == nil {
		cfg.Tunnel = relay.Copy
	}
	srv, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.srv = srv
	g.cfg.OnIdle = g.put
	g.cfg.OnClose = g.drop
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.ln, err = rt.Listen(ln, task.ServeOptions{Serve: srv.Serve})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) put(cc *ClientConn) {
	cc.s.Lock()
	defer cc.s.Unlock()
	l := &g.pool[cc.s.Index()]
	*l = append(*l, cc)
}

func (g *gateway) drop(cc *ClientConn) {
	cc.s.Lock()
	defer cc.s.Unlock()
	l := g.pool[cc.s.Index()]
	for i := range l {
		if l[i] == cc {
			g.pool[cc.s.Index()] = append(l[:i], l[i+1:]...)
			break
		}
	}
	g.mu.Lock()
	g.closed++
	g.mu.Unlock()
}

func (g *gateway) get(s task.Shard) (*ClientConn, error) {
	s.Lock()
	l := &g.pool[s.Index()]
	if n := len(*l); n > 0 {
		cc := (*l)[n-1]
		*l = (*l)[:n-1]
		s.Unlock()
		return cc, nil
	}
	s.Unlock()
	c, err := s.Dial("tcp", g.app, 0)
	if err != nil {
		return nil, &proxy.Error{Code: proxy.AppUnreachable, Detail: "dial", Unsent: true, Err: err}
	}
	return NewClientConn(s, c, g.cfg), nil
}

func (g *gateway) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	cc, err := g.get(req.Shard)
	if err != nil {
		return err
	}
	if err := cc.RoundTrip(req, resp); err != nil {
		g.mu.Lock()
		g.errs = append(g.errs, err)
		g.mu.Unlock()
		return err
	}
	return nil
}

// lastCode is the code of the last error of a RoundTrip.
func (g *gateway) lastCode() proxy.Code {
	g.mu.Lock()
	defer g.mu.Unlock()
	var named *proxy.Error
	if len(g.errs) == 0 || !errors.As(g.errs[len(g.errs)-1], &named) {
		return ""
	}
	return named.Code
}

func (g *gateway) dial() *proxytest.Peer {
	g.t.Helper()
	c, err := net.Dial("tcp", g.ln.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return proxytest.NewPeer(g.t, c)
}

// app is a scripted app: each connection that it accepts is given to the test.
type app struct {
	t  testing.TB
	ln net.Listener
}

func newApp(t testing.TB) *app {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &app{t, ln}
}

func (a *app) addr() string { return a.ln.Addr().String() }

func (a *app) accept() *proxytest.Peer {
	a.t.Helper()
	a.ln.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	c, err := a.ln.Accept()
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return proxytest.NewPeer(a.t, c)
}

// crlf makes a message readable in a test: lines end in \n there.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// echoApp answers every request of every connection with what answer says, until the test ends.
func echoApp(t testing.TB, answer func(head string, r *bufio.Reader, w net.Conn) bool) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		defer wg.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					head, err := readRawHead(r)
					if err != nil || !answer(head, r, c) {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String(), func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	}
}

func readRawHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		b.WriteString(line)
		if line == "\r\n" {
			return b.String(), nil
		}
	}
}
