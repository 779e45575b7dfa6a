//go:build e2e

package http2

import (
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// TestH2Spec runs all of h2spec, the conformance suite for HTTP/2 servers, against a server with a small answer.
// h2spec is run from its module and not imported: it would pull old packages into ours.
func TestH2Spec(t *testing.T) {
	h := handler(func(req *proxy.Request, resp *proxy.Response) error {
		if _, err := readAll(req.Body); err != nil {
			return err
		}
		resp.Status, resp.Length, resp.Body = 200, 6, text("hello\n")
		return nil
	})
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := rt.Listen(ln, task.ServeOptions{Serve: func(s task.Shard, c task.Conn, first *task.Buffer) {
			defer s.Free(first)
			NewServer(s, c, Config{Handler: h, MaxStreams: 100}).Serve(first.Unread())
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		cmd := exec.Command("go", "run", "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible",
			"-h", "127.0.0.1", "-p", port, "-o", "2")
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		m := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("h2spec: %v\n%s", err, out)
		}
		all, _ := strconv.Atoi(string(m[1]))
		if string(m[1]) != string(m[2]) || all < 145 {
			t.Errorf("h2spec: %s\n%s", m[0], out)
		}
	})
}
