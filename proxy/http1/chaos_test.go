package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Clients and apps that break off at random, in every phase: whoever gets a complete answer gets the right one, every exchange
// ends, and nothing is left over.
func TestChaos(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		addr, stop := echoApp(t, chaosApp)
		defer stop()
		g := newGateway(t, rt, addr, ServerConfig{Linger: 50 * time.Millisecond}, ClientConfig{})
		var right, broken, whole atomic.Int32
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(i)))
				for n := 0; n < 25; {
					n += chaosConnection(t, g, r, fmt.Sprintf("%d-%d", i, n), &right, &broken, &whole)
				}
			})
		}
		wg.Wait()
		if right.Load() == 0 || broken.Load() == 0 || whole.Load() == 0 {
			t.Errorf("%d right answers, %d broken, %d of them 502: the test does not test", right.Load(), broken.Load(), whole.Load())
		}
		proxytest.Eventually(t, "no buffer is held and no task runs", func() bool {
			st := rt.Stats()
			return st.Buffers == 0 && st.Tasks == 0
		})
	})
}

// chaosApp echoes the path and the content, mostly; see how in the path.
func chaosApp(head string, r *bufio.Reader, w net.Conn) bool {
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)))
	if err != nil {
		return false
	}
	how := req.URL.Query().Get("app")
	switch how {
	case "reset":
		w.(*net.TCPConn).SetLinger(0)
		return false
	case "close":
		return false
	case "early":
		io.WriteString(w, crlf("HTTP/1.1 200 OK\nConnection: close\nContent-Length: 5\n\nearly"))
		return false
	case "slow":
		time.Sleep(5 * time.Millisecond)
	}
	content, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	answer := req.URL.Path + " " + string(content)
	switch how {
	case "cut":
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer)+1, answer)
		return false
	case "cut chunk":
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(answer), answer)
		return false
	case "chunked":
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(answer), answer)
	default:
		fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	}
	return req.ContentLength >= 0 // what http.ReadRequest has read ahead of a chunked content is lost
}

// chaosConnection makes exchanges on one connection until one of the two sides breaks it off, and returns how many.
func chaosConnection(t *testing.T, g *gateway, r *rand.Rand, name string, right, broken, whole *atomic.Int32) (n int) {
	c, err := net.Dial("tcp", g.ln.Addr().String())
	if err != nil {
		t.Error(err)
		return 1000
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(c)
	for n < 10 {
		n++
		how := []string{"", "", "", "chunked", "chunked", "slow", "reset", "close", "early", "cut", "cut+chunk"}[r.IntN(11)]
		content := strings.Repeat("z", r.IntN(3)*r.IntN(40000))
		path := fmt.Sprintf("/%s-%d", name, n)
		message := fmt.Sprintf("POST %s?app=%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, how, len(content), content)
		if r.IntN(2) == 0 && content != "" {
			half := len(content) / 2
			message = fmt.Sprintf("POST %s?app=%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
				path, how, half, content[:half], len(content)-half, content[half:])
		}
		switch r.IntN(12) {
		case 0: // leave in the middle of the request
			io.WriteString(c, message[:r.IntN(len(message))])
			if r.IntN(2) == 0 {
				c.(*net.TCPConn).SetLinger(0)
			}
			return n
		case 1: // leave before the answer
			io.WriteString(c, message)
			return n
		case 2: // half-close
			io.WriteString(c, message)
			c.(*net.TCPConn).CloseWrite()
		default:
			if _, err := io.WriteString(c, message); err != nil {
				broken.Add(1)
			}
		}
		resp, err := http.ReadResponse(br, nil)
		for err == nil && resp.StatusCode == 100 { // is the client still there?
			resp, err = http.ReadResponse(br, nil)
		}
		if err != nil {
			broken.Add(1)
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("%s?app=%s: no answer and no end", path, how)
			}
			return n
		}
		body, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			broken.Add(1)
			return n
		case resp.StatusCode == 502:
			whole.Add(1)
		case resp.StatusCode == 200 && (string(body) == path+" "+content || how == "early" && string(body) == "early"):
			right.Add(1)
		default:
			t.Errorf("%s?app=%s: %d with %d bytes %.60q, want the %d that were sent", path, how, resp.StatusCode, len(body), body, len(content))
		}
		if strings.HasPrefix(how, "cut") && resp.StatusCode == 200 {
			t.Errorf("%s?app=%s: a complete answer of what was cut short", path, how)
		}
		if resp.Close {
			return n
		}
	}
	return n
}
