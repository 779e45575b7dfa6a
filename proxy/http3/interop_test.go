package http3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/relay"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
	qhttp3 "github.com/quic-go/quic-go/http3"
)

// TestClientAgainstQUICGo: our client and quic-go's server.
func TestClientAgainstQUICGo(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set("X-Host", r.Host)
			w.Write(b)
			w.Header().Set("X-Sum", r.Trailer.Get("X-Up"))
		})
		mux.HandleFunc("GET /abort", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("some"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		mux.HandleFunc("CONNECT /chat", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			st, err := w.(qhttp3.HTTPStreamer).HTTPStream()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(st, "%s ", r.Proto)
			io.Copy(st, st)
			st.Close()
		})
		mux.HandleFunc("CONNECT /udp", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			st, err := w.(qhttp3.HTTPStreamer).HTTPStream()
			if err != nil {
				t.Error(err)
				return
			}
			for {
				b, err := st.ReceiveDatagram(r.Context())
				if err != nil {
					return
				}
				st.SendDatagram(b)
			}
		})
		server := &qhttp3.Server{Handler: mux, EnableDatagrams: true}
		n := newNetwork(t, &quic.Config{EnableDatagrams: true})
		served := make(chan error, 1)
		go func() {
			q, err := n.listener.Accept(context.Background())
			if err == nil {
				err = server.ServeQUICConn(q)
			}
			served <- err
		}()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		q, err := n.client.Dial(ctx, n.listener.Addr(), n.clientTLS, Config{}.QUIC())
		if err != nil {
			t.Fatal(err)
		}
		l := &link{t: t, s: s, net: n, client: NewClient(s, q, Config{Pillion: true}), ended: make(chan error, 1)}
		s.Go(func() { l.ended <- l.client.Serve() })
		if err := l.client.WaitReady(s.Now().Add(patience)); err != nil || l.client.Stats().Pillion {
			t.Fatalf("%v, %+v", err, l.client.Stats())
		}
		for _, size := range []int{0, 1, 1000, 1 << 20} {
			for _, known := range []bool{true, false} {
				sent := strings.Repeat("x", size)
				body := text(sent)
				length := int64(size)
				if !known || size == 0 {
					length = proxy.Unknown
					body.trailers = proxy.Fields{{Name: "X-Up", Value: "sum"}}
				}
				req := post("/echo", body, length)
				req.Fields.Add("Trailer", "X-Up")
				informs := 0
				req.Inform = func(status int, _ proxy.Fields) { informs++ }
				resp := l.do(req)
				got, err := readAll(resp.Body)
				if got != sent || err != nil || informs != 1 || resp.Fields.Get("X-Host") != "orders" {
					t.Errorf("%d bytes: got %d, %v, %d informs, %v", size, len(got), err, informs, resp.Fields)
				}
				if length == proxy.Unknown && size > 0 && resp.Body.Trailers().Get("x-sum") != "sum" {
					t.Errorf("trailers %v", resp.Body.Trailers())
				}
				resp.Close()
			}
		}
		resp := new(proxy.Response)
		if err := l.client.RoundTrip(get("/abort"), resp); err == nil { // the reset may overtake the head
			if got, err := readAll(resp.Body); err == nil {
				t.Errorf("an answer that broke off is whole: %q", got)
			}
			resp.Close()
		}
		resp = l.do(func() *proxy.Request { r := upgrade("websocket"); r.Path = "/chat"; return r }())
		resp.Stream.Write([]byte("hello"))
		resp.Stream.CloseWrite()
		if got, err := io.ReadAll(resp.Stream); string(got) != "websocket hello" || err != nil {
			t.Errorf("tunnel: got %q, %v", got, err)
		}
		resp.Close()
		resp = l.do(func() *proxy.Request { r := upgrade(proxy.ConnectUDP); r.Path = "/udp"; return r }())
		exchangeDatagram(t, s, resp.Flow, []byte("datagram"))
		resp.Close()
		l.client.Close()
		if err := l.served(); err != nil {
			t.Error(err)
		}
		<-served
		n.close()
	})
}

// TestServerAgainstQUICGo: quic-go's client and our server.
func TestServerAgainstQUICGo(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		up, far := proxytest.Pair(t, s)
		app := newQueue()
		cfg := Config{Pillion: true, Tunnel: relay.Copy, Flows: flows, Handler: handler(func(req *proxy.Request, resp *proxy.Response) error {
			switch {
			case req.Upgrade == proxy.ConnectUDP:
				resp.Status, resp.Flow = 101, app
				return nil
			case req.Upgrade != "":
				resp.Status, resp.Stream = 101, up
				return nil
			case req.Path == "/broken":
				b := text("some")
				b.err = io.ErrUnexpectedEOF
				resp.Status, resp.Body, resp.Length = 200, b, 100
				return nil
			}
			req.Inform(103, proxy.Fields{{Name: "Link", Value: "</a>"}})
			if err := echo(req, resp); err != nil {
				return err
			}
			if b, ok := resp.Body.(*parts); ok {
				b.trailers = append(b.trailers, proxy.Field{Name: "X-Sum", Value: "sum"})
				resp.Fields.Add("Trailer", "X-Sum")
				resp.Length = proxy.Unknown
			}
			return nil
		})}
		n := newNetwork(t, cfg.QUIC())
		tr := &qhttp3.Transport{EnableDatagrams: true}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		q, err := n.client.Dial(ctx, n.listener.Addr(), n.clientTLS, &quic.Config{EnableDatagrams: true})
		if err != nil {
			t.Fatal(err)
		}
		a, err := n.listener.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		l := &link{t: t, s: s, net: n, server: NewServer(s, a, cfg), ended: make(chan error, 1)}
		s.Go(func() { l.ended <- l.server.Serve() })
		c := tr.NewClientConn(q)
		for _, size := range []int{0, 1, 1000, 1 << 20} {
			sent := strings.Repeat("y", size)
			hints := 0
			traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil }})
			req, _ := http.NewRequestWithContext(traced, "POST", "https://localhost/echo", strings.NewReader(sent))
			resp, err := c.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if string(got) != sent || err != nil || hints != 1 || size > 0 && resp.Trailer.Get("X-Sum") != "sum" {
				t.Errorf("%d bytes: got %d, %v, %d hints, trailers %v", size, len(got), err, hints, resp.Trailer)
			}
			resp.Body.Close()
		}
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://localhost/broken", nil)
		if resp, err := c.RoundTrip(req); err == nil {
			if got, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("an answer that broke off is whole: %q", got)
			}
		}
		open := func(protocol string) *qhttp3.RequestStream {
			st, err := c.OpenRequestStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			req, _ := http.NewRequestWithContext(ctx, http.MethodConnect, "https://localhost/x", nil)
			req.Proto = protocol
			if err := st.SendRequestHeader(req); err != nil {
				t.Fatal(err)
			}
			resp, err := st.ReadResponse()
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v, %v", resp, err)
			}
			return st
		}
		st := open("websocket")
		go io.Copy(far, far)
		st.Write([]byte("hello"))
		p := make([]byte, 5)
		if _, err := io.ReadFull(st, p); string(p) != "hello" || err != nil {
			t.Errorf("tunnel: got %q, %v", p, err)
		}
		st.CancelRead(0x10c)
		st.CancelWrite(0x10c)
		st = open(proxy.ConnectUDP)
		if err := st.SendDatagram([]byte("\x00datagram")); err != nil {
			t.Error(err)
		}
		if b, err := st.ReceiveDatagram(ctx); !bytes.Equal(b, []byte("\x00datagram")) || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
		st.Close()
		q.CloseWithError(0x100, "")
		l.served()
		n.close()
	})
}
