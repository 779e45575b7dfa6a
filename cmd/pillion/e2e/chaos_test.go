//go:build e2e

package e2e

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// breaking is a way in which what lies between client and app may end.
type breaking struct {
	name string
	do   func(p *pair)
	// near says which end of a stream is closed by the kernel, on behalf of a process that could not do it in its own way.
	near string
	// drain is more of both configurations: what still runs after this time is cut.
	drain string
}

var breakings = []breaking{
	{"link cut", func(p *pair) { p.link.cut() }, "", drainSoon},
	{"A killed", func(p *pair) { p.a.kill() }, "client", drainSoon},
	{"B killed", func(p *pair) { p.b.kill() }, "app", drainSoon},
	{"A out of time", func(p *pair) { p.a.signal(syscall.SIGTERM) }, "", drainSoon},
	{"B out of time", func(p *pair) { p.b.signal(syscall.SIGTERM) }, "", drainSoon},
	{"A told twice", func(p *pair) {
		p.a.signal(syscall.SIGTERM)
		time.Sleep(200 * time.Millisecond)
		p.a.signal(syscall.SIGTERM)
	}, "", "drain: 1m\n"},
	{"B told twice", func(p *pair) {
		p.b.signal(syscall.SIGTERM)
		time.Sleep(200 * time.Millisecond)
		p.b.signal(syscall.SIGTERM)
	}, "", "drain: 1m\n"},
}

const drainSoon = "drain: 400ms\n"

// A stream whose way has broken is reset at both ends: neither may take what it has for everything.
func TestStreamsBreakWithWhatCarriesThem(t *testing.T) {
	if *direct {
		return
	}
	for _, b := range breakings {
		t.Run(b.name, func(t *testing.T) {
			atApp := make(chan error, 1)
			app := rawApp(t, func(c *net.TCPConn) {
				_, err := io.Copy(c, c)
				atApp <- err
			})
			p := newPair(t, setup{app: app, port: 7000, protocol: "tcp", listen: "tcp", aMore: b.drain, bMore: b.drain})
			c := dialRaw(t, p.local)
			echo(t, c, "hello")
			b.do(p)
			if n, err := c.Read(make([]byte, 1)); !isReset(err) && b.near != "client" {
				t.Errorf("the client reads %d, %v, want a reset", n, err)
			}
			select {
			case err := <-atApp:
				if !isReset(err) && b.near != "app" {
					t.Errorf("the app sees %v, want a reset", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("the app has seen nothing after 30 s")
			}
		})
	}
}

// The same for an answer on its way.
func TestAnswersBreakWithWhatCarriesThem(t *testing.T) {
	if *direct {
		return
	}
	for _, b := range breakings {
		for _, version := range []string{"HTTP/1.1", "h2c"} {
			t.Run(b.name+", "+version, func(t *testing.T) {
				app := newWebApp(t)
				p := newPair(t, setup{app: app.addr, aMore: b.drain, bMore: b.drain})
				l := newLoad(t, p.local, version == "h2c")
				resp, err := l.client.Get("http://" + p.local + "/sse")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				app.events <- "one"
				r := bufio.NewReader(resp.Body)
				if line, err := r.ReadString('\n'); err != nil || line != "data: one\n" {
					t.Fatalf("event = %q, %v", line, err)
				}
				b.do(p)
				if rest, err := io.ReadAll(r); err == nil {
					t.Errorf("after the break = %q and an orderly end, want an error", rest)
				}
			})
		}
	}
}

// An upload on its way gets an answer that says so, or a broken connection, in bounded time.
func TestUploadsBreakWithWhatCarriesThem(t *testing.T) {
	if *direct {
		return
	}
	for _, b := range breakings {
		if strings.HasPrefix(b.name, "A ") {
			continue // Go's client waits for its own body before it looks at the connection
		}
		t.Run(b.name, func(t *testing.T) {
			app := newWebApp(t)
			p := newPair(t, setup{app: app.addr, aMore: b.drain, bMore: b.drain})
			p.warm(t)
			body, w := io.Pipe()
			done := make(chan error, 1)
			go func() {
				resp, err := (&http.Client{Timeout: patience}).Post("http://"+p.local+"/check?n=5", "", body)
				if err == nil {
					if resp.StatusCode < 500 {
						t.Errorf("answer = %s, want an error", resp.Status)
					}
					resp.Body.Close()
				}
				done <- err
			}()
			if _, err := io.Copy(w, content(1<<20)); err != nil {
				t.Fatal(err)
			}
			b.do(p)
			select {
			case err := <-done:
				t.Logf("the client sees %v", err)
			case <-time.After(failFast):
				t.Errorf("the client has heard nothing after %v", failFast)
			}
			_ = w.CloseWithError(io.ErrUnexpectedEOF)
		})
	}
}

func TestChaos(t *testing.T) {
	if *direct {
		return
	}
	app := newWebApp(t)
	p := newPair(t, setup{app: app.addr})
	p.warm(t)
	before := p.baseline()
	one, two := newLoad(t, p.local, false), newLoad(t, p.local, true)
	one.query, two.query = "&wait=3ms", "&wait=20ms"
	one.run(16)
	two.run(32)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 25 {
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		switch rng.IntN(5) {
		case 0:
			p.link.cut()
		case 1:
			p.link.freeze()
		case 2:
			p.b.signal(syscall.SIGSTOP)
		case 3:
			p.a.signal(syscall.SIGSTOP)
		case 4:
			p.b.kill()
			p.b.restart()
		}
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		p.link.restore()
		p.a.signal(syscall.SIGCONT)
		p.b.signal(syscall.SIGCONT)
	}
	recovers(t, p, 15*time.Second)
	outcomes := append(one.end(), two.end()...)
	if answered, _ := settle(t, app, outcomes, detectDead); answered < 500 {
		t.Errorf("%d requests answered, want at least 500", answered)
	}
	one.client.CloseIdleConnections()
	two.client.CloseIdleConnections()
	before.restored(t)
}
