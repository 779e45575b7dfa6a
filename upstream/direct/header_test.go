package direct

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// headed is an app whose connections begin with a header, which each of its answers tells.
func headed(t *testing.T, network, address string) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		h, err := readHeader(r)
		said := fmt.Sprintf("%v>%v %s", h.Src, h.Dst, h.Identity)
		if err != nil {
			said = err.Error()
		}
		for n := 1; ; n++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				fmt.Fprintln(c, said)
				return
			}
			req.Body.Close()
			text := fmt.Sprintf("%d: %s", n, said)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	}
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { serve(c) })
		}
	})
	return ln.Addr().String(), func() { ln.Close(); running.Wait() }
}

func readHeader(r *bufio.Reader) (proxyproto.Header, error) {
	var b []byte
	for {
		n, err := proxyproto.Need(b)
		if err != nil {
			return proxyproto.Header{}, err
		}
		if n == 0 {
			return proxyproto.Parse(b)
		}
		for range n {
			c, err := r.ReadByte()
			if err != nil {
				return proxyproto.Header{}, err
			}
			b = append(b, c)
		}
	}
}

func caller(name, addr string) *proxy.Peer {
	return proxy.NewPeer("spiffe://t/app", proxy.Identity("spiffe://t/"+name), netip.MustParseAddrPort(addr), "")
}

func from(p *proxy.Peer) *proxy.Request {
	r := plain()
	if r.Peer = p; p != nil {
		r.Client = p.Addr
	}
	return r
}

// TestHeaders: connections are kept for the caller that their header names, and for nobody else.
func TestHeaders(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		addr, stop := headed(t, "tcp", "127.0.0.1:0")
		defer stop()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		defer proxytest.Call(t, s, func() { d.Shutdown(s) })
		to := d.To(endpoint(addr), Options{Header: proxyproto.V2})
		web, cart := caller("web", "10.0.0.7:999"), caller("cart", "[2001:db8::8]:999")
		for _, x := range []struct {
			peer *proxy.Peer
			want string
		}{
			{web, "1: 10.0.0.7:999>" + addr + " spiffe://t/web"},
			{cart, "1: [2001:db8::8]:999>" + addr + " spiffe://t/cart"},
			{web, "2: 10.0.0.7:999>" + addr + " spiffe://t/web"},
			{nil, "1: invalid AddrPort>invalid AddrPort "},
			{cart, "2: [2001:db8::8]:999>" + addr + " spiffe://t/cart"},
			{cart, "3: [2001:db8::8]:999>" + addr + " spiffe://t/cart"},
			{nil, "2: invalid AddrPort>invalid AddrPort "},
		} {
			if status, body, err := get(t, s, to, from(x.peer)); status != 200 || body != x.want || err != nil {
				t.Errorf("got %d %q %v, want %q", status, body, err, x.want)
			}
		}
	})
}

// TestHeaderOfStream: a Stream's header names its client, which is not the sidecar that calls.
func TestHeaderOfStream(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		addr, stop := headed(t, "tcp", "127.0.0.1:0")
		defer stop()
		socket, stopSocket := headed(t, "unix", filepath.Join(t.TempDir(), "s"))
		defer stopSocket()
		s := rt.Shards()[0]
		d := New(Config{Shards: rt.Shards()})
		for _, x := range []struct {
			ep     proxy.Endpoint
			header proxyproto.Version
			want   string
		}{
			{endpoint(addr), proxyproto.V1, "10.9.9.9:41234>" + addr + " \n"},
			{endpoint(addr), proxyproto.V2, "10.9.9.9:41234>" + addr + " spiffe://t/web\n"},
			{proxy.Endpoint{Unix: socket}, proxyproto.V2, "10.9.9.9:41234>0.0.0.0:0 spiffe://t/web\n"},
		} {
			proxytest.Do(t, s, func() {
				req := &proxy.Request{Method: "CONNECT", Authority: "app", Shard: s, Cancel: new(proxy.Cancel),
					Peer: caller("web", "10.0.0.7:999"), Client: netip.MustParseAddrPort("10.9.9.9:41234")}
				var resp proxy.Response
				if err := d.To(x.ep, Options{Header: x.header}).RoundTrip(req, &resp); err != nil {
					t.Error(err)
					return
				}
				defer resp.Close()
				if err := resp.Stream.CloseWrite(); err != nil {
					t.Error(err)
				}
				got, p := "", make([]byte, 1024)
				for {
					n, err := resp.Stream.Read(p)
					got += string(p[:n])
					if err != nil {
						break
					}
				}
				if got != x.want {
					t.Errorf("version %d: the app was told %q, want %q", x.header, got, x.want)
				}
				resp.Stream.Close()
			})
		}
	})
}

// TestHeaderOfMany: a connection that carries the requests of many names nobody.
func TestHeaderOfMany(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		said := make(chan string, 1)
		go func() {
			c, err := ln.Accept()
			if err != nil {
				said <- err.Error()
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			h, err := readHeader(r)
			preface, _ := r.ReadString('\n')
			said <- fmt.Sprintf("%v %v %s", h, err, preface)
		}()
		s := rt.Shards()[0]
		to := New(Config{Shards: rt.Shards()}).To(endpoint(ln.Addr().String()), Options{Protocol: H2C, Header: proxyproto.V2})
		if _, _, err := get(t, s, to, from(caller("web", "10.0.0.7:999"))); err == nil {
			t.Error("an app that closes its connection has answered")
		}
		want := fmt.Sprintf("%v %v PRI * HTTP/2.0", proxyproto.Header{}, error(nil))
		if got := strings.TrimSpace(<-said); got != want {
			t.Errorf("the app was told %q, want %q", got, want)
		}
	})
}
