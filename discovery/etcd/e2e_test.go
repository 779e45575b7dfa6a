//go:build e2e

package etcd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// member is one etcd of a cluster.
type member struct {
	t      *testing.T
	client string // address
	dir    string
	args   []string
	cmd    *exec.Cmd
	out    *bytes.Buffer
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// cluster starts n members, which have more arguments in common.
func cluster(t *testing.T, n int, more ...string) []*member {
	t.Helper()
	scheme := "http"
	if len(more) > 0 && strings.HasPrefix(more[0], "--cert-file") {
		scheme = "https"
	}
	var all []*member
	var peers []string
	for i := range n {
		m := &member{t: t, client: freeAddr(t), dir: t.TempDir()}
		peer := "http://" + freeAddr(t)
		name := fmt.Sprint("m", i)
		peers = append(peers, name+"="+peer)
		url := scheme + "://" + m.client
		m.args = append([]string{"--name", name, "--data-dir", m.dir, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--listen-client-urls", url,
			"--advertise-client-urls", url, "--log-level", "error"}, more...)
		all = append(all, m)
	}
	for _, m := range all {
		m.args = append(m.args, "--initial-cluster", strings.Join(peers, ","))
		m.start()
		t.Cleanup(m.stop)
	}
	return all
}

func (m *member) start() {
	m.t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		m.t.Fatalf("etcd is not installed: apt-get install etcd-server etcd-client: %v", err)
	}
	m.out = new(bytes.Buffer)
	m.cmd = exec.Command("etcd", m.args...)
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) stop() {
	_ = m.cmd.Process.Kill() // it may have ended
	_ = m.cmd.Wait()         // killed
}

func (m *member) signal(s syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

func addresses(all []*member) (list []string) {
	for _, m := range all {
		list = append(list, m.client)
	}
	return list
}

// ctl runs etcdctl until it succeeds: a cluster without a leader needs its time.
func ctl(t *testing.T, endpoints []string, args ...string) string {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		cmd := exec.CommandContext(t.Context(), "etcdctl", append([]string{"--endpoints", strings.Join(endpoints, ","), "--command-timeout", "3s"}, args...)...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		out, err := cmd.CombinedOutput()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("etcdctl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// writer writes keys, in whatever state the cluster is: it tries until it can.
type writer struct {
	t      *testing.T
	client *Client
	run    func(ctx context.Context, method string, m message) error
}

func newWriter(t *testing.T, c Config) *writer {
	t.Helper()
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	w := &writer{t: t, client: cl}
	w.run = func(ctx context.Context, method string, m message) error {
		g, _ := cl.member()
		meta, err := cl.authenticate(ctx, g)
		if err == nil {
			_, err = g.Call(ctx, method, m, meta)
		}
		if err != nil {
			cl.next()
		}
		return err
	}
	return w
}

func (w *writer) do(method string, m message) {
	w.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		err := w.run(ctx, method, m)
		cancel()
		if err == nil {
			return
		}
		if time.Since(began) > time.Minute {
			w.t.Fatalf("%s: %v", method, err)
		}
	}
}

func key(n int) string { return fmt.Sprint("/pillion/services/orders/i", n) }

func (w *writer) put(n int) {
	w.t.Helper()
	w.write(n, fmt.Sprintf(`{"address":"10.0.0.%d:80"}`, n))
}

func (w *writer) write(n int, value string) {
	w.t.Helper()
	w.do(methodPut, message(nil).bytes(1, []byte(key(n))).bytes(2, []byte(value)))
}

func (w *writer) remove(n int) {
	w.t.Helper()
	w.do(methodDelete, message(nil).bytes(1, []byte(key(n))))
}

func at(ns ...int) (all []string) {
	for _, n := range ns {
		all = append(all, fmt.Sprintf("10.0.0.%d:80", n))
	}
	return all
}

func follow(t *testing.T, c Config) (*discoverytest.Follower, *Client) {
	t.Helper()
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := cl.Resolver("orders", discovery.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	return discoverytest.Follow(t, r), cl
}

func never(t *testing.T, f *discoverytest.Follower) {
	t.Helper()
	if f.Empties() != 0 {
		t.Errorf("the set was empty %d times", f.Empties())
	}
}

// churn changes the set ten times a second for a while, and returns what is there then; 1 always is.
func churn(w *writer, changes int) (there []int) {
	set := map[int]bool{1: true}
	w.put(1)
	for n := 2; n < 30; n++ {
		w.remove(n)
	}
	for range changes {
		if n := 2 + rand.N(20); set[n] {
			w.remove(n)
			delete(set, n)
		} else {
			w.put(n)
			set[n] = true
		}
		time.Sleep(100 * time.Millisecond)
	}
	for n := range set {
		there = append(there, n)
	}
	return there
}

func TestServerUnderChange(t *testing.T) {
	c := Config{Endpoints: addresses(cluster(t, 1))}
	w := newWriter(t, c)
	f, _ := follow(t, c)
	f.Await(t)
	w.put(1)
	f.Await(t, at(1)...)
	t.Logf("right %v after the last of 60 changes", f.Await(t, at(churn(w, 60)...)...))
	never(t, f)
	w.write(1, `{"address":"10.0.0.1:80"`) // half a value changes nothing
	w.put(40)
	for n := 2; n < 30; n++ {
		w.remove(n)
	}
	f.Await(t, at(1, 40)...)
	if flaw := f.Status().Flaw; flaw == nil || !strings.Contains(flaw.Error(), "entry i1: ") {
		t.Errorf("flaw %v, want what is wrong with i1", flaw)
	}
	w.remove(1)
	w.remove(40)
	f.Await(t)
}

func TestServerBehindFaults(t *testing.T) {
	m := cluster(t, 1)
	p := discoverytest.NewProxy(t, m[0].client)
	w := newWriter(t, Config{Endpoints: addresses(m)})
	w.put(1)
	f, _ := follow(t, Config{Endpoints: []string{p.Addr()}})
	f.Await(t, at(1)...)
	n := 1
	for _, fault := range []discoverytest.Fault{discoverytest.Cut, discoverytest.Page, discoverytest.Garbage, discoverytest.Slow, discoverytest.Silent} {
		p.Set(fault)
		n++
		w.put(n)
		w.remove(n - 1)
		switch fault {
		case discoverytest.Slow:
			f.Await(t, at(n)...)
		default:
			f.AwaitError(t, "")
			if f.Addresses() != at(n - 1)[0] && f.Addresses() != at(n)[0] {
				t.Errorf("fault %d: the set became %q", fault, f.Addresses())
			}
		}
		p.Set(discoverytest.None)
		t.Logf("fault %d: right %v after it was over", fault, f.Await(t, at(n)...))
	}
	never(t, f)
}

func TestServerRestartsAndCompacts(t *testing.T) {
	m := cluster(t, 1)
	c := Config{Endpoints: addresses(m)}
	p := discoverytest.NewProxy(t, m[0].client)
	w := newWriter(t, c)
	w.put(1)
	w.put(2)
	f, _ := follow(t, Config{Endpoints: []string{p.Addr()}})
	f.Await(t, at(1, 2)...)
	m[0].stop()
	f.AwaitError(t, "")
	m[0].start() // with its state
	w.put(3)
	w.remove(1)
	t.Logf("right %v after a restart", f.Await(t, at(2, 3)...))

	p.Set(discoverytest.Cut) // while nobody looks, history is forgotten
	f.AwaitError(t, "")
	there := churn(w, 20)
	rev := strings.Split(strings.Split(ctl(t, c.Endpoints, "get", "x", "-w", "json"), `"revision":`)[1], ",")[0]
	ctl(t, c.Endpoints, "compact", "--physical", rev)
	p.Set(discoverytest.None)
	t.Logf("right %v after a compaction", f.Await(t, at(there...)...))
	never(t, f)

	m[0].stop()
	if err := os.RemoveAll(m[0].dir); err != nil {
		t.Fatal(err)
	}
	m[0].start() // without its state
	f.AwaitError(t, "knows no endpoints any more")
	w.put(1)
	w.put(7)
	f.Await(t, at(1, 7)...)
	never(t, f)
}

func TestLeaderMoves(t *testing.T) {
	m := cluster(t, 3)
	c := Config{Endpoints: addresses(m)}
	w := newWriter(t, c)
	w.put(1)
	f, cl := follow(t, c)
	f.Await(t, at(1)...)
	stop := make(chan []int)
	go func() { stop <- churn(w, 100) }()
	move := func() {
		for _, x := range m {
			id := strings.Split(ctl(t, []string{x.client}, "endpoint", "status"), ", ")
			if len(id) > 4 && id[4] == "false" {
				_ = exec.Command("etcdctl", "--endpoints", strings.Join(c.Endpoints, ","), "move-leader", id[1]).Run() // only the leader may; and it may just have moved
			}
		}
	}
	t.Setenv("ETCDCTL_API", "3")
	move()
	_, name := cl.member()
	for _, x := range m {
		if x.client == name {
			x.stop() // the one that we are at
			time.Sleep(2 * time.Second)
			x.start()
		}
	}
	move()
	_, name = cl.member()
	for _, x := range m {
		if x.client == name {
			x.signal(syscall.SIGSTOP) // it hangs
			defer x.signal(syscall.SIGCONT)
		}
	}
	there := <-stop
	t.Logf("right %v after the last change", f.Await(t, at(there...)...))
	never(t, f)
}

// A member that is cut off from the others does not keep us.
func TestMinority(t *testing.T) {
	m := cluster(t, 3)
	c := Config{Endpoints: addresses(m)}
	w := newWriter(t, c)
	w.put(1)
	f, _ := follow(t, Config{Endpoints: []string{m[0].client}})
	f.Await(t, at(1)...)
	m[1].stop()
	m[2].stop()
	f.AwaitError(t, "leader")
	if f.Addresses() != at(1)[0] {
		t.Errorf("without a leader the set became %q", f.Addresses())
	}
	m[1].start()
	w.put(2)
	f.Await(t, at(1, 2)...)
	never(t, f)
}

func TestAuthenticationAndTLS(t *testing.T) {
	cert, keyFile, roots := certificate(t)
	m := cluster(t, 1, "--cert-file="+cert, "--key-file="+keyFile)
	c := Config{Endpoints: addresses(m), TLS: &tls.Config{RootCAs: roots}, Prefix: "/pillion/services"}
	tools := []string{"--cacert", cert}
	newWriter(t, c).put(1)
	for _, args := range [][]string{{"user", "add", "root:secret"}, {"role", "add", "root"}, {"user", "grant-role", "root", "root"},
		{"user", "add", "reader:word"}, {"role", "add", "read"}, {"role", "grant-permission", "read", "--prefix=true", "read", "/pillion/services/"}, {"user", "grant-role", "reader", "read"},
		{"user", "add", "other:word"}, {"auth", "enable"}} {
		ctl(t, c.Endpoints, append(tools, args...)...)
	}
	c.User, c.Password = "root", "secret"
	w := newWriter(t, c)
	c.User, c.Password = "reader", "word"
	f, _ := follow(t, c)
	f.Await(t, at(1)...)
	w.put(2)
	f.Await(t, at(1, 2)...)
	m[0].stop()
	m[0].start() // it knows our token no more
	w.put(3)
	f.Await(t, at(1, 2, 3)...)
	never(t, f)
	for _, x := range []struct{ user, password, want string }{{"reader", "wrong", "authentication failed"}, {"other", "word", "permission denied"}, {"", "", "user name is empty"}} {
		c.User, c.Password = x.user, x.password
		nobody, _ := follow(t, c)
		nobody.AwaitError(t, x.want)
		if nobody.Ready() {
			t.Errorf("as %q the set is known", x.user)
		}
	}
	c.TLS = &tls.Config{}
	stranger, _ := follow(t, c)
	stranger.AwaitError(t, "certificate")
}

// certificate writes one for 127.0.0.1, signed by itself.
func certificate(t *testing.T) (cert, keyFile string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(crand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return cert, keyFile, roots
}

func TestRegister(t *testing.T) {
	m := cluster(t, 1)
	c := Config{Endpoints: addresses(m)}
	f, cl := follow(t, c)
	f.Await(t)
	var mu sync.Mutex
	var unfit error
	r := discovery.NewRegistrar(discovery.RegistrarConfig{
		Registry: cl.Registry(),
		Registration: discovery.Registration{Service: "orders", ID: "i1", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Identity: "spiffe://example.org/orders", Transport: "tcp",
			Zone: "a", Weight: 3, TTL: 3 * time.Second},
		Fit: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return unfit
		},
	})
	set := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		unfit = err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	f.Await(t, at(1)...)
	e := f.Endpoints()[0]
	if e.Identity != "spiffe://example.org/orders" || !e.Mesh || e.Weight != 3 || e.Zone != "a" || e.Transport != "tcp" {
		t.Errorf("entered as %+v", e)
	}
	w := newWriter(t, c)
	w.remove(1) // somebody takes it out
	f.Await(t)
	f.Await(t, at(1)...)
	set(errors.New("the app is down"))
	f.Await(t)
	set(nil)
	f.Await(t, at(1)...)
	m[0].stop()
	if err := os.RemoveAll(m[0].dir); err != nil {
		t.Fatal(err)
	}
	m[0].start()
	f.AwaitError(t, "")
	other, _ := follow(t, c)
	other.Await(t, at(1)...) // it was entered anew, with a new lease
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	other.Await(t)
}
