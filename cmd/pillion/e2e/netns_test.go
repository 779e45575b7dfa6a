//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is three namespaces: a (10.91.1.2) and b (10.91.2.2) reach each other through r, which can lose what a test wants lost.
type network struct {
	t       *testing.T
	a, b, r string
}

// The addresses of a and b. Namespaces of other tests may have the same.
const (
	addrA = "10.91.1.2"
	addrB = "10.91.2.2"
)

func newNetwork(t *testing.T) *network {
	t.Helper()
	installed(t, "ip", "iproute2")
	installed(t, "iptables", "iptables")
	n := &network{t: t}
	for name, to := range map[string]*string{"a": &n.a, "b": &n.b, "r": &n.r} {
		*to = fmt.Sprintf("pillion-%d-%s", os.Getpid(), name)
		n.ip("netns", "add", *to)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", *to).Run() })
		n.in(*to, "ip", "link", "set", "lo", "up")
	}
	for i, ns := range []string{n.a, n.b} {
		side := fmt.Sprint("to", i+1)
		n.ip("link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", side, "netns", n.r)
		n.in(ns, "ip", "addr", "add", fmt.Sprintf("10.91.%d.2/24", i+1), "dev", "eth0")
		n.in(n.r, "ip", "addr", "add", fmt.Sprintf("10.91.%d.1/24", i+1), "dev", side)
		n.in(ns, "ip", "link", "set", "eth0", "up")
		n.in(n.r, "ip", "link", "set", side, "up")
		n.in(ns, "ip", "route", "add", "default", "via", fmt.Sprintf("10.91.%d.1", i+1))
		// What passes r has the size of packets on a wire.
		n.in(ns, "ip", "link", "set", "eth0", "gso_max_segs", "1")
	}
	n.in(n.r, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	return n
}

func (n *network) ip(args ...string) { n.run(exec.Command("ip", args...)) }

// in runs a command in a namespace.
func (n *network) in(ns string, argv ...string) {
	n.t.Helper()
	n.run(exec.Command("ip", append([]string{"netns", "exec", ns}, argv...)...))
}

func (n *network) run(cmd *exec.Cmd) {
	n.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
	}
}

// forward adds, or with "-D" deletes, a rule about what passes r.
func (n *network) forward(op string, rule ...string) {
	n.t.Helper()
	n.in(n.r, append([]string{"iptables", "-w", op, "FORWARD"}, rule...)...)
}

// within calls f on a thread that is in a namespace: sockets that it opens stay there.
func (n *network) within(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with this goroutine
		fd, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer fd.Close()
			err = unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (n *network) listen(ns, addr string) net.Listener {
	n.t.Helper()
	var ln net.Listener
	err := n.within(ns, func() (err error) {
		ln, err = net.Listen("tcp4", addr)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { ln.Close() })
	return ln
}

func (n *network) dial(ns, addr string) (net.Conn, error) {
	var c net.Conn
	err := n.within(ns, func() (err error) {
		c, err = net.DialTimeout("tcp4", addr, 10*time.Second)
		return err
	})
	return c, err
}

// client is an HTTP client in a namespace.
func (n *network) client(ns string, timeout time.Duration) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) { return n.dial(ns, addr) }}
	n.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: timeout}
}

// sidecar runs pillion in a namespace, with the usual ports.
func (n *network) sidecar(ns, name, config string, cert files) *process {
	n.t.Helper()
	path := filepath.Join(n.t.TempDir(), name+".yaml")
	config += fmt.Sprintf("identity: {cert: %q, key: %q, roots: %q}\n", cert.cert, cert.key, cert.roots)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		n.t.Fatal(err)
	}
	p := start(n.t, "sidecar "+name, "ip", "netns", "exec", ns, workshop.pillion(), "run", "-c", path)
	c := n.client(ns, time.Second)
	eventually(n.t, 20*time.Second, name+" to be ready", func() bool {
		resp, err := c.Get("http://127.0.0.1:15000/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	return p
}
