//go:build servers

package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/discoverytest"
	"github.com/pillion-proxy/pillion/proxy"
)

// server is a Consul that a test runs.
type server struct {
	t    *testing.T
	dir  string
	http string // address
	args []string
	cmd  *exec.Cmd
	out  *bytes.Buffer
	api  *Client
}

// program builds the server, once: the go command keeps it.
func program(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "consul")
	cmd.Dir = filepath.Join("testdata", "server")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build Consul: %v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

const root = "5f1b3c52-0000-4000-8000-000000000001" // the token of the server's operator

// run starts a server of one's own with its state in a folder; config is more of its configuration, JSON.
func run(t *testing.T, config string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	port := freePort(t)
	s.http = "127.0.0.1:" + port
	s.args = []string{program(t), "agent", "-server", "-bootstrap-expect=1", "-bind=127.0.0.1", "-node=n1", "-http-port=" + port, "-dns-port=-1", "-grpc-port=-1",
		"-server-port=" + freePort(t), "-serf-lan-port=" + freePort(t), "-serf-wan-port=" + freePort(t), "-data-dir=" + filepath.Join(s.dir, "data")}
	for name, content := range map[string]string{"quick": `{"disable_update_check": true, "performance": {"raft_multiplier": 1}}`, "more": config} {
		if content == "" {
			continue
		}
		path := filepath.Join(s.dir, name+".json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s.args = append(s.args, "-config-file="+path)
	}
	var err error
	if s.api, err = New(Config{Address: "http://" + s.http, Token: root}); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() {
		s.stop()
		s.api.Close()
		if t.Failed() && testing.Verbose() {
			t.Log(s.out)
		}
	})
	return s
}

// start returns when there is a leader and the server itself is in the catalogue.
func (s *server) start() {
	s.t.Helper()
	s.out = new(bytes.Buffer)
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, data, err := s.api.do(s.t.Context(), http.MethodGet, "/v1/catalog/node/n1", nil, nil)
		if err == nil && strings.Contains(string(data), `"n1"`) {
			return
		}
		if time.Since(began) > 2*time.Minute {
			s.stop()
			s.t.Fatalf("Consul does not come up: %v\n%s", err, s.out)
		}
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // killed
}

func (s *server) put(path string, body any) []byte {
	s.t.Helper()
	_, data, err := s.api.do(s.t.Context(), http.MethodPut, path, nil, body)
	if err != nil {
		s.t.Fatalf("PUT %s: %v", path, err)
	}
	return data
}

type fields map[string]any

// add registers instance n of orders, at 10.0.0.n:80, passing.
func (s *server) add(n int, more fields) {
	s.t.Helper()
	body := fields{"ID": fmt.Sprint("orders-", n), "Name": "orders", "Address": fmt.Sprint("10.0.0.", n), "Port": 80,
		"Check": fields{"CheckID": fmt.Sprint("c", n), "TTL": "10m", "Status": "passing"}}
	for k, v := range more {
		body[k] = v
	}
	s.put("/v1/agent/service/register", body)
}

func (s *server) remove(n int) {
	s.t.Helper()
	s.put(fmt.Sprint("/v1/agent/service/deregister/orders-", n), nil)
}

func at(ns ...int) (all []string) {
	for _, n := range ns {
		all = append(all, fmt.Sprintf("10.0.0.%d:80", n))
	}
	return all
}

func follow(t *testing.T, c Config, q Query) *discoverytest.Follower {
	t.Helper()
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if q.Service == "" {
		q.Service = "orders"
	}
	r, err := cl.Resolver(q)
	if err != nil {
		t.Fatal(err)
	}
	return discoverytest.Follow(t, r)
}

func TestServerUnderChange(t *testing.T) {
	s := run(t, "")
	f := follow(t, Config{Address: "http://" + s.http}, Query{})
	f.Await(t)
	s.add(1, nil)
	f.Await(t, at(1)...)
	there := map[int]bool{1: true}
	for range 60 { // ten times a second
		if n := 2 + rand.N(20); there[n] {
			s.remove(n)
			delete(there, n)
		} else {
			s.add(n, nil)
			there[n] = true
		}
		time.Sleep(100 * time.Millisecond)
	}
	var want []int
	for n := range there {
		want = append(want, n)
	}
	t.Logf("right %v after the last of 60 changes, in %d sets", f.Await(t, at(want...)...), f.Sets())
	s.put("/v1/agent/check/fail/c1", nil) // only those that pass
	for i, n := range want {
		if n == 1 {
			want = append(want[:i], want[i+1:]...)
			break
		}
	}
	s.add(30, nil)
	want = append(want, 30)
	t.Logf("a check that fails is seen after %v", f.Await(t, at(want...)...))
	if f.Empties() != 0 {
		t.Errorf("the set was empty %d times", f.Empties())
	}
	for _, n := range append(want, 1) {
		s.remove(n)
	}
	f.Await(t) // nobody is there: with no failure before, that is believed
}

func TestServerDescribes(t *testing.T) {
	s := run(t, "")
	s.add(1, fields{"Tags": []string{"v2", "blue"}, "Weights": fields{"Passing": 7, "Warning": 1}, "Meta": map[string]string{"pillion-zone": "a", "pillion-mesh": "true",
		"pillion-identity": "spiffe://example.org/other", "pillion-transport": "quic"}})
	s.add(2, fields{"Tags": []string{"v2"}})
	s.add(3, fields{"Tags": []string{"v2", "blue"}, "Meta": map[string]string{"pillion-weight": "heavy"}})
	f := follow(t, Config{Address: "http://" + s.http, Datacenter: "dc1"}, Query{Tags: []string{"v2", "blue"}, Port: 81,
		Defaults: discovery.Defaults{Mesh: true, Identity: "spiffe://example.org/orders"}})
	f.Await(t, "10.0.0.1:81")
	want := proxy.Endpoint{Addr: f.Endpoints()[0].Addr, Mesh: true, Identity: "spiffe://example.org/other", Transport: proxy.QUIC, Weight: 7, Zone: "a", Labels: "blue=true,v2=true"}
	if got := f.Endpoints()[0]; got != want {
		t.Errorf("endpoint %+v, want %+v", got, want)
	}
	if flaw := f.Status().Flaw; flaw == nil || !strings.Contains(flaw.Error(), `n1/orders-3: endpoint 10.0.0.3:81: weight: "heavy"`) {
		t.Errorf("flaw %v, want what is wrong with orders-3", flaw)
	}
	wrong := follow(t, Config{Address: "http://" + s.http}, Query{Datacenter: "nowhere"})
	wrong.AwaitError(t, "No path to datacenter")
}

// Whatever happens between us and the server, the set is never empty for it, and right once it is over.
func TestServerBehindFaults(t *testing.T) {
	s := run(t, "")
	p := discoverytest.NewProxy(t, s.http)
	f := follow(t, Config{Address: "http://" + p.Addr(), Wait: 2 * time.Second}, Query{})
	s.add(1, nil)
	f.Await(t, at(1)...)
	n := 1
	for _, fault := range []discoverytest.Fault{discoverytest.Cut, discoverytest.Page, discoverytest.Garbage, discoverytest.Slow, discoverytest.Silent} {
		p.Set(fault)
		n++
		s.add(n, nil)
		s.remove(n - 1)
		switch fault {
		case discoverytest.Slow:
			f.Await(t, at(n)...)
		case discoverytest.Silent: // the answer, when it is missed, is noticed after patience
			time.Sleep(200 * time.Millisecond)
		default:
			f.AwaitError(t, "")
			if f.Addresses() != at(n - 1)[0] {
				t.Errorf("fault %d: the set became %q, want it as it was", fault, f.Addresses())
			}
		}
		p.Set(discoverytest.None)
		t.Logf("fault %d: right %v after it was over", fault, f.Await(t, at(n)...))
	}
	if f.Empties() != 0 {
		t.Errorf("the set was empty %d times", f.Empties())
	}
}

func TestServerRestarts(t *testing.T) {
	s := run(t, "")
	f := follow(t, Config{Address: "http://" + s.http}, Query{})
	s.add(1, nil)
	s.add(2, nil)
	f.Await(t, at(1, 2)...)
	s.stop()
	f.AwaitError(t, "refused")
	s.start() // with its state, but for that of checks
	s.put("/v1/agent/check/pass/c2", nil)
	s.add(3, nil)
	s.remove(1)
	t.Logf("right %v after a restart", f.Await(t, at(2, 3)...))

	s.stop()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		t.Fatal(err)
	}
	s.start() // without
	f.AwaitError(t, "knows no endpoints any more")
	if f.Addresses() != strings.Join(at(2, 3), " ") {
		t.Errorf("a server that has lost its state made the set %q", f.Addresses())
	}
	s.add(2, nil)
	s.add(3, nil)
	s.add(4, nil)
	f.Await(t, at(2, 3, 4)...)
	if f.Empties() != 0 {
		t.Errorf("the set was empty %d times", f.Empties())
	}
}

func TestServerTokens(t *testing.T) {
	s := run(t, fmt.Sprintf(`{"acl": {"enabled": true, "default_policy": "deny", "tokens": {"initial_management": %q, "agent": %q}}}`, root, root))
	s.add(1, nil)
	s.put("/v1/acl/policy", fields{"Name": "read", "Rules": `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`})
	var token struct{ AccessorID, SecretID string }
	if err := json.Unmarshal(s.put("/v1/acl/token", fields{"Policies": []fields{{"Name": "read"}}}), &token); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token.SecretID+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := follow(t, Config{Address: "http://" + s.http, TokenFile: file, Wait: time.Second}, Query{})
	f.Await(t, at(1)...)
	var weak struct{ SecretID string }
	if err := json.Unmarshal(s.put("/v1/acl/token", fields{}), &weak); err != nil {
		t.Fatal(err)
	}
	nobody := follow(t, Config{Address: "http://" + s.http, Token: weak.SecretID}, Query{})
	nobody.AwaitError(t, "needs service:read")
	if nobody.Ready() {
		t.Error("with a token that may do nothing the set is known")
	}
	if _, _, err := s.api.do(context.Background(), http.MethodDelete, "/v1/acl/token/"+url.PathEscape(token.AccessorID), nil, nil); err != nil {
		t.Fatal(err)
	}
	f.AwaitError(t, "ACL")
	if f.Addresses() != at(1)[0] {
		t.Errorf("without its token the set became %q", f.Addresses())
	}
}

func TestRegister(t *testing.T) {
	s := run(t, "")
	f := follow(t, Config{Address: "http://" + s.http}, Query{})
	f.Await(t)
	unfit := make(chan error, 1)
	unfit <- nil
	r := discovery.NewRegistrar(discovery.RegistrarConfig{
		Registry: s.api,
		Registration: discovery.Registration{Service: "orders", ID: "orders-1", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Identity: "spiffe://example.org/orders", Transport: "tcp",
			Zone: "a", Weight: 3, Ports: []uint16{8080, 9090}, Tags: []string{"v2"}, TTL: 3 * time.Second},
		Fit: func(context.Context) error {
			err := <-unfit
			unfit <- err
			return err
		},
	})
	set := func(err error) {
		<-unfit
		unfit <- err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	f.Await(t, at(1)...)
	e := f.Endpoints()[0]
	if e.Identity != "spiffe://example.org/orders" || !e.Mesh || e.Weight != 3 || e.Zone != "a" || e.Transport != "tcp" {
		t.Errorf("entered as %+v", e)
	}
	if _, data, err := s.api.do(t.Context(), http.MethodGet, "/v1/agent/service/orders-1", nil, nil); err != nil || !strings.Contains(string(data), `"pillion-ports":"8080,9090"`) {
		t.Errorf("the agent knows %s, %v; want the ports of the app", data, err)
	}
	s.remove(1) // somebody takes it out
	f.Await(t)
	f.Await(t, at(1)...)
	set(errors.New("the app is down"))
	f.Await(t)
	set(nil)
	f.Await(t, at(1)...)
	s.stop()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		t.Fatal(err)
	}
	s.start()
	other := follow(t, Config{Address: "http://" + s.http}, Query{Tags: []string{"v2"}})
	other.Await(t, at(1)...) // it was entered anew
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	other.Await(t)
	if st := r.Status(); st.Entered || st.Err != nil {
		t.Errorf("status %+v after it was taken out", st)
	}
}
