package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
)

// freeAddrs are n loopback addresses that nobody listens on, for sidecars that are told where to listen.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range all {
		all[i] = proxytest.Addr(t)
	}
	return all
}

// startSidecar runs a whole sidecar in this process until the test ends or stop is called.
func startSidecar(t *testing.T, text string) (stop func()) {
	t.Helper()
	cfg := load(t, text)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	go func() { done <- serve(ctx, cfg, log, nil, reloading{}) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("sidecar of %s: %v", cfg.Service, err)
				}
			case <-time.After(20 * time.Second):
				t.Errorf("sidecar of %s does not stop", cfg.Service)
			}
		})
	}
	t.Cleanup(stop)
	awaitOK(t, "http://"+cfg.Admin.Listen.Address()+"/readyz")
	return stop
}

func awaitOK(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return
			}
		}
	}
	t.Fatalf("%s does not answer 200", url)
}

// pair is two whole sidecars with an HTTP app and a TCP app behind the second.
type pair struct {
	outbound, echo, adminA, adminB string // addresses
	stopA, stopB                   func()
}

// overEach runs f with links over each transport, at once. Nothing that f does may be about the whole process, such as to cut what is open when a
// drain is over.
func overEach(t *testing.T, f func(t *testing.T, over string)) {
	for _, over := range []string{"tcp", "quic", "auto"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			f(t, over)
		})
	}
}

func startPair(t *testing.T, over string, app http.Handler) *pair {
	t.Helper()
	return startPairWith(t, over, "", "", app)
}

// startPairWith has more in the configurations of both.
func startPairWith(t *testing.T, over, moreA, moreB string, app http.Handler) *pair {
	t.Helper()
	web := httptest.NewServer(app)
	t.Cleanup(web.Close)
	tcp := echoApp(t)
	free := freeAddrs(t, 5)
	p := &pair{outbound: free[0], echo: free[1], adminA: free[2], adminB: free[3]}
	peer, ca := free[4], filepath.Join(t.TempDir(), "ca")
	p.stopB = startSidecar(t, fmt.Sprintf("service: api\napp:\n  - {port: 80, to: %s}\n  - {port: 7, to: %s, protocol: tcp}\n  - {port: 81, to: %s, allow: [nobody]}\n"+
		"peer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 5s\n%s",
		web.Listener.Addr(), tcp, web.Listener.Addr(), peer, p.adminB, ca, moreB))
	p.stopA = startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none, transport: %s}\noutbound: {listen: %s}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 5s\n"+
		"services:\n  api: {endpoints: %s}\n  echo: {endpoints: %s, identity: api, listen: %s, port: 7}\n%s", over, p.outbound, p.adminA, ca, peer, peer, p.echo, moreA))
	return p
}

// echoApp greets, echoes until the end, and says goodbye.
func echoApp(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		fmt.Fprint(c, "hello\n")
		_, _ = io.Copy(c, c)
		fmt.Fprint(c, "bye\n")
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
	t.Cleanup(func() { ln.Close(); running.Wait() })
	return ln.Addr().String()
}

func (p *pair) client(t *testing.T) *http.Client {
	proxyURL := &url.URL{Scheme: "http", Host: p.outbound}
	tr := &http.Transport{Proxy: http.ProxyURL(proxyURL)}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestPairCarriesHTTP(t *testing.T) { overEach(t, testPairCarriesHTTP) }

func testPairCarriesHTTP(t *testing.T, over string) {
	p := startPair(t, over, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Caller", r.Header.Get("X-Pillion-Identity"))
		w.Header().Set("X-Path", strings.Join(r.Header.Values("Pillion-Path"), " "))
		body, _ := io.ReadAll(r.Body) // net/http's HTTP/1 server reads no more once it has begun to answer
		_, _ = w.Write(body)
	}))
	for i := range 20 {
		body := strings.Repeat("x", i*10_000)
		resp, err := p.client(t).Post("http://api/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != body || resp.StatusCode != 200 {
			t.Fatalf("got %d, %d bytes, %v; want 200 and the %d bytes sent", resp.StatusCode, len(got), err, len(body))
		}
		if c, path := resp.Header.Get("X-Caller"), resp.Header.Get("X-Path"); c != "spiffe://pillion.local/web" || path != "web> >api" {
			t.Errorf("the app saw caller %q, path %q", c, path)
		}
	}
}

func TestPairExplainsRefusals(t *testing.T) { overEach(t, testPairExplainsRefusals) }

func testPairExplainsRefusals(t *testing.T, over string) {
	p := startPair(t, over, http.NotFoundHandler())
	for url, want := range map[string]string{
		"http://api:81/":     "403 denied",
		"http://api:7/":      "400 bad_request",
		"http://api:99/":     "503 no_endpoints",
		"http://elsewhere/":  "502 unknown_service",
		"http://echo:81/":    "403 denied",
		"http://127.0.0.1:1": "502 unknown_service",
	} {
		resp, err := p.client(t).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.HasPrefix(string(text), "pillion: "+want) || resp.Header.Get("Pillion-Error") == "" {
			t.Errorf("%s: got %d %q, want %s", url, resp.StatusCode, text, want)
		}
	}
}

func TestPairCarriesTCP(t *testing.T) { overEach(t, testPairCarriesTCP) }

func testPairCarriesTCP(t *testing.T, over string) {
	p := startPair(t, over, http.NotFoundHandler())
	for range 3 { // the first finds out that the server speaks first, the others know
		c, err := net.Dial("tcp", p.echo)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); line != "hello\n" {
			t.Fatalf("banner: got %q, %v", line, err)
		}
		sent := strings.Repeat("0123456789", 100_000)
		go func() {
			_, _ = io.WriteString(c, sent)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(r)
		if err != nil || string(got) != sent+"bye\n" {
			t.Fatalf("got %d bytes, %v; want the %d sent and a goodbye after the half-close", len(got), err, len(sent))
		}
	}
}

// A server's first word crosses the whole pair although its client never says one, whatever was found out before, and what was is shown.
func TestBannerWithoutAWordOfTheClient(t *testing.T) { overEach(t, testBannerWithoutAWordOfTheClient) }

func testBannerWithoutAWordOfTheClient(t *testing.T, over string) {
	p := startPair(t, over, http.NotFoundHandler())
	for range 3 {
		c, err := net.Dial("tcp", p.echo)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if got, err := bufio.NewReader(c).ReadString('\n'); got != "hello\n" {
			t.Fatalf("got %q, %v, want the app's greeting", got, err)
		}
		c.Close()
		for _, svc := range statusOf(t, p.adminA).Services {
			if svc.Name == "echo" && (svc.Protocol != "auto" || svc.Speaks != "server-first") {
				t.Errorf("status says %q, %q, want auto and server-first", svc.Protocol, svc.Speaks)
			}
		}
	}
}

func TestPairTunnelsCONNECT(t *testing.T) { overEach(t, testPairTunnelsCONNECT) }

func testPairTunnelsCONNECT(t *testing.T, over string) {
	p := startPair(t, over, http.NotFoundHandler())
	c, err := net.Dial("tcp", p.outbound)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "CONNECT api:7 HTTP/1.1\r\nHost: api:7\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, &http.Request{Method: "CONNECT"})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	if line, _ := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("got %q", line)
	}
}

func TestStatusShowsTheLink(t *testing.T) { overEach(t, testStatusShowsTheLink) }

func testStatusShowsTheLink(t *testing.T, over string) {
	p := startPair(t, over, http.NotFoundHandler())
	resp, err := p.client(t).Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for addr, want := range map[string]string{p.adminA: "spiffe://pillion.local/api", p.adminB: "spiffe://pillion.local/web"} {
		var st *admin.Status
		eventually(t, "the loops have told of their links in the time that they are given", func() error {
			if st = statusOf(t, addr); len(st.Links) == 0 {
				return errors.New("no links")
			}
			return nil
		})
		if len(st.Links) != 1 || st.Links[0].Identity != want || !st.Links[0].Pillion || st.Links[0].Total != 1 {
			t.Errorf("%s: links %+v; want one to %s", addr, st.Links, want)
		}
		if st.State != admin.Ready || st.Runtime.Conns == 0 && over == "tcp" {
			t.Errorf("%s: state %s, %d connections", addr, st.State, st.Runtime.Conns)
		}
	}
}

func statusOf(t *testing.T, addr string) *admin.Status {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	st := new(admin.Status)
	if err := json.NewDecoder(resp.Body).Decode(st); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestStatusShowsWhoAnswers: the health of an app and of an endpoint is what happened to the last call, not a promise.
func TestStatusShowsWhoAnswers(t *testing.T) { overEach(t, testStatusShowsWhoAnswers) }

func testStatusShowsWhoAnswers(t *testing.T, over string) {
	p := startPair(t, over, http.NotFoundHandler())
	call := func() {
		t.Helper()
		resp, err := p.client(t).Get("http://api/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	endpoints := func() (api, echo admin.Endpoint) {
		for _, s := range statusOf(t, p.adminA).Services {
			switch s.Name {
			case "api":
				api = s.Endpoints[0]
			case "echo":
				echo = s.Endpoints[0]
			}
		}
		return api, echo
	}
	if api, echo := endpoints(); api.Tried || !api.Healthy || echo.Tried {
		t.Errorf("before a call: %+v and %+v; want that none was tried", api, echo)
	}
	call()
	if api, echo := endpoints(); !api.Tried || !api.Healthy || api.Error != "" || echo.Tried {
		t.Errorf("after a call: %+v and %+v; want that the first is healthy and the second not tried", api, echo)
	}
	if apps := statusOf(t, p.adminB).Apps; !apps[0].Tried || apps[0].Error != "" || apps[1].Tried {
		t.Errorf("the apps: %+v; want that the first answers and the second was not tried", apps)
	}
	p.stopB()
	call()
	for range 3 { // it stays so, until a call is answered
		if api, _ := endpoints(); api.Healthy || !strings.Contains(api.Error, "connect") {
			t.Errorf("without the other sidecar: %+v; want why it does not answer", api)
		}
		time.Sleep(60 * time.Millisecond)
	}
}

func TestDrainLosesNothing(t *testing.T) { overEach(t, testDrainLosesNothing) }

func testDrainLosesNothing(t *testing.T, over string) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	p := startPair(t, over, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-finish
		fmt.Fprint(w, "finished")
	}))
	answer := make(chan string, 1)
	client := p.client(t)
	go func() {
		resp, err := client.Get("http://api/")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answer <- string(text)
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() {
		p.stopB()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("the sidecar was gone before its last request was answered")
	case <-time.After(50 * time.Millisecond):
	}
	close(finish)
	if got := <-answer; got != "finished" {
		t.Errorf("got %q, want the answer", got)
	}
	<-stopped
	resp, err := client.Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Pillion-Error") != "connect_failed" {
		t.Errorf("after the peer has gone: got %d %s, want 503 connect_failed", resp.StatusCode, resp.Header.Get("Pillion-Error"))
	}
}

func TestDrainLeavesTheAppItsTime(t *testing.T) {
	free := freeAddrs(t, 4)
	peer, ca := free[2], filepath.Join(t.TempDir(), "ca")
	cfg := load(t, fmt.Sprintf("service: api\napp:\n  - {port: 7, to: %s, protocol: tcp}\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\n"+
		"identity: {dev_ca: %s}\ndrain: 3s\n", echoApp(t), peer, free[3], ca))
	app, err := newSupervisor(cfg, []string{"sh", "-c", `trap 'kill $!; exit 7' TERM; sleep 60 & wait`}, os.Environ(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, cfg, slog.New(slog.DiscardHandler), app, reloading{}) }()
	defer app.Kill()
	defer stop()
	awaitOK(t, "http://"+free[3]+"/readyz")
	startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 1s\n"+
		"services:\n  api: {endpoints: %s, listen: %s, protocol: tcp, port: 7}\n", free[1], ca, peer, free[0]))
	c, err := net.Dial("tcp", free[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stop() // with a Stream of a peer that does not end by itself
	select {
	case err := <-done:
		if err != nil || app.Code() != 7 {
			t.Errorf("got %v and the app's code %d, want the 7 of an app that was told and had time to end", err, app.Code())
		}
	case <-time.After(15 * time.Second):
		t.Fatal("the sidecar does not stop")
	}
}
