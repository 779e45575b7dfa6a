//go:build e2e

package discoverytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Source is a registry that TestSidecars drives.
type Source struct {
	// Config are the lines of a sidecar's file that say where it is, and Endpoints the value of services.orders.endpoints.
	Config, Endpoints string
	// Set makes these sidecars the endpoints of orders.
	Set func(ends ...netip.AddrPort)
	// Stop ends the server, and Start brings it back where it was.
	Stop, Start func()
}

// TestSidecars has whole sidecars, as programs, find each other in a registry alone: an app answers, endpoints come, go and are replaced, the registry goes away while they do and
// returns, and of the requests that run all the while none is lost.
func TestSidecars(t *testing.T, s Source) {
	p := build(t)
	ends := []*end{p.end("one"), p.end("two"), p.end("three")}
	s.Set(ends[0].peer)
	listen, admin := p.freeAddr(), p.freeAddr()
	p.run("web", fmt.Sprintf("service: web\npeer: {listen: none}\noutbound: {listen: none}\nadmin: {listen: %q}\n%s\nservices:\n  orders: {endpoints: %q, listen: %q, protocol: http}\n",
		admin, s.Config, s.Endpoints, listen), admin)
	sees := func(when string, want ...*end) {
		t.Helper()
		var addrs []string
		for _, e := range want {
			addrs = append(addrs, e.peer.String())
		}
		slices.Sort(addrs)
		Eventually(t, fmt.Sprintf("%s: endpoints %v", when, addrs), func() bool { got, _ := known(admin); return slices.Equal(got, addrs) })
	}
	answers := func(when string, want ...*end) {
		t.Helper()
		for _, e := range want {
			Eventually(t, when+": an answer of "+e.name, func() bool { got, err := get(listen + "/"); return err == nil && got == e.name })
		}
	}
	sees("at first", ends[0])
	answers("at first", ends[0])

	stop := requests(t, listen)
	s.Set(ends[0].peer, ends[1].peer)
	sees("another one", ends[0], ends[1])
	answers("another one", ends[0], ends[1])
	s.Set(ends[1].peer)
	sees("the first leaves", ends[1])
	ends[0].stop()
	answers("the first has left", ends[1])
	for i := range 20 { // ten times a second
		s.Set(ends[1+i%2].peer)
		time.Sleep(100 * time.Millisecond)
	}
	s.Set(ends[1].peer, ends[2].peer)
	sees("after twenty changes", ends[1], ends[2])

	s.Stop()
	Eventually(t, "status says that the source is gone", func() bool { _, problem := known(admin); return problem != "" })
	sees("without the source", ends[1], ends[2])
	answers("without the source", ends[1], ends[2])
	s.Set(ends[2].peer)
	s.Start()
	sees("the source is back", ends[2])
	answers("the source is back", ends[2])
	Eventually(t, "status says that all is well", func() bool { _, problem := known(admin); return problem == "" })
	stop()
}

// requests sends one after the other until stop, and wants an answer to each.
func requests(t *testing.T, addr string) (stop func()) {
	var over atomic.Bool
	var running sync.WaitGroup
	var n atomic.Int64
	for range 4 {
		running.Go(func() {
			for !over.Load() {
				if got, err := get(addr + "/"); err != nil {
					t.Errorf("a request is lost: %q, %v", got, err)
					return
				}
				n.Add(1)
			}
		})
	}
	return func() {
		over.Store(true)
		running.Wait()
		t.Logf("%d requests", n.Load())
	}
}

func get(addr string) (string, error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(text), err
}

// known are the endpoints of the only service, and why the source cannot tell.
func known(admin string) (addrs []string, problem string) {
	text, err := get(admin + "/status")
	if err != nil {
		return nil, err.Error()
	}
	var st struct {
		Services []struct {
			Endpoints []struct{ Address string }
			Error     string
		}
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil || len(st.Services) != 1 {
		return nil, "no status"
	}
	for _, e := range st.Services[0].Endpoints {
		addrs = append(addrs, e.Address)
	}
	slices.Sort(addrs)
	return addrs, st.Services[0].Error
}

// program is pillion, built from this module, and the folder of the CA that its sidecars share.
type program struct {
	t         *testing.T
	path, dir string
	taken     map[string]bool // ports that are promised to somebody
}

func build(t *testing.T) *program {
	t.Helper()
	p := &program{t: t, dir: t.TempDir(), taken: make(map[string]bool)}
	p.path = filepath.Join(p.dir, "pillion")
	if out, err := exec.Command("go", "build", "-o", p.path, "github.com/pillion-proxy/pillion/cmd/pillion").CombinedOutput(); err != nil {
		t.Fatalf("build pillion: %v\n%s", err, out)
	}
	return p
}

// end is a sidecar of orders, with an app that answers with its name.
type end struct {
	name string
	peer netip.AddrPort
	stop func()
}

func (p *program) end(name string) *end {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
	p.t.Cleanup(app.Close)
	peer, admin := p.freeAddr(), p.freeAddr()
	stop := p.run(name, fmt.Sprintf("service: orders\napp: %q\npeer: {listen: %q}\noutbound: {listen: none}\nadmin: {listen: %q}\n", app.Listener.Addr(), peer, admin), admin)
	return &end{name, netip.MustParseAddrPort(peer), stop}
}

// run starts a sidecar and waits until it is ready. stop ends it as an operator would.
func (p *program) run(name, config, admin string) (stop func()) {
	p.t.Helper()
	file := filepath.Join(p.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(config+fmt.Sprintf("identity: {dev_ca: %q}\n", filepath.Join(p.dir, "ca"))), 0o600); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(p.path, "run", "-c", file)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			p.t.Errorf("%s ended with %v", name, err)
		}
		if p.t.Failed() {
			p.t.Logf("%s said:\n%s", name, strings.TrimSpace(said.String()))
		}
	})
	p.t.Cleanup(stop)
	Eventually(p.t, name+" is ready", func() bool { _, err := get(admin + "/readyz"); return err == nil })
	return stop
}

// freeAddr is an address of loopback that nobody uses, for TCP and UDP, below the ports that outgoing connections get: until a sidecar listens there, nobody else takes it.
func (p *program) freeAddr() string {
	p.t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		ln.Close()
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		pc.Close()
		if !p.taken[addr] {
			p.taken[addr] = true
			return addr
		}
	}
	p.t.Fatal("no free port")
	return ""
}
