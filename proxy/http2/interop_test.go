package http2

//lint:file-ignore SA1019 x/net's own client and server are what is tested against

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	xhttp2 "golang.org/x/net/http2"
)

// x/net's client before our server.
func TestInteropClient(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := rt.Listen(ln, task.ServeOptions{Serve: func(s task.Shard, c task.Conn, first *task.Buffer) {
			defer s.Free(first)
			NewServer(s, c, Config{Handler: handler(echo)}).Serve(first.Unread())
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		tr := &xhttp2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				want := strings.Repeat(fmt.Sprint("body ", i), i*i*1000)
				req, _ := http.NewRequest("POST", "http://"+l.Addr().String()+"/x", strings.NewReader(want))
				if i%2 == 1 {
					req.ContentLength = -1
					req.Trailer = http.Header{"X-Sum": {"9"}}
				}
				req.Header.Set("X-Custom", "yes")
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || string(got) != want || resp.Header.Get("X-Got-X-Custom") != "yes" {
					t.Errorf("got %d bytes, %v, want %d; header %v", len(got), err, len(want), resp.Header)
				}
				if i%2 == 1 && resp.Trailer.Get("X-Sum") != "9" {
					t.Errorf("trailer = %v", resp.Trailer)
				}
			})
		}
		wg.Wait()
	})
}

// Our client before x/net's server.
func TestInteropServer(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Got", r.Header.Get("X-Custom"))
		switch r.URL.Path {
		case "/hints":
			w.WriteHeader(103)
		case "/204":
			w.WriteHeader(204)
			return
		case "/panic":
			w.Write([]byte("part"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", "9")
	})
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		tc, nc := proxytest.Pair(t, s)
		served := make(chan struct{})
		go func() {
			defer close(served)
			(&xhttp2.Server{}).ServeConn(nc, &xhttp2.ServeConnOpts{Handler: h})
		}()
		var c *Conn
		ended := make(chan error, 1)
		proxytest.Call(t, s, func() {
			c = NewClient(s, tc, Config{Pillion: true})
			s.Go(func() { ended <- c.Serve(nil) })
		})
		var tasks []<-chan struct{}
		for i := range 20 {
			tasks = append(tasks, proxytest.Go(s, func() {
				want := bytes.Repeat([]byte("0123456789"), i*i*1000)
				req := post("/x", &content{parts: [][]byte{bytes.Clone(want)}}, int64(len(want)))
				if i%2 == 1 {
					req.Length = proxy.Unknown
				}
				req.Fields = proxy.Fields{{Name: "X-Custom", Value: "yes"}}
				var resp proxy.Response
				if err := c.RoundTrip(req, &resp); err != nil {
					t.Error(err)
					return
				}
				got, err := readAll(resp.Body)
				if err != nil || got != string(want) || resp.Fields.Get("x-got") != "yes" {
					t.Errorf("got %d bytes, %v, want %d; fields %v", len(got), err, len(want), resp.Fields)
				}
				if resp.Body != nil && resp.Body.Trailers().Get("x-sum") != "9" {
					t.Errorf("trailers = %v", resp.Body.Trailers())
				}
				resp.Close()
			}))
		}
		for _, done := range tasks {
			proxytest.Wait(t, done)
		}
		proxytest.Do(t, s, func() {
			req := get("/hints")
			informed := 0
			req.Inform = func(status int, _ proxy.Fields) { informed = status }
			var resp proxy.Response
			if err := c.RoundTrip(req, &resp); err != nil || informed != 103 {
				t.Errorf("informed of %d, %v", informed, err)
			}
			resp.Close()
			if err := c.RoundTrip(get("/204"), &resp); err != nil || resp.Status != 204 || resp.Body != nil {
				t.Errorf("%+v, %v", resp, err)
			}
			resp.Close()
			if err := c.RoundTrip(get("/panic"), &resp); err != nil {
				t.Error(err)
				return
			}
			got, err := readAll(resp.Body)
			wantCode(t, "panic after "+got, err, proxy.PeerReset, false)
			resp.Close()
			c.Close()
		})
		if err := <-ended; err != nil {
			t.Errorf("Serve = %v", err)
		}
		<-served
	})
}
