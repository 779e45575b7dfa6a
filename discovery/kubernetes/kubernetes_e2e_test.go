//go:build servers

package kubernetes

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// cluster is a kube-apiserver, built from the module k8s.io/kubernetes, with Debian's etcd behind it.
type cluster struct {
	t        *testing.T
	dir, bin string
	etcd     string // its URL
	addr     string
	api      *exec.Cmd
	http     *http.Client
}

const adminToken = "admin-token"

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), addr: freeAddr(t), http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
	c.bin = filepath.Join(c.dir, "kube-apiserver")
	build := exec.Command("go", "build", "-o", c.bin, ".") // some minutes the first time, and then from Go's cache
	build.Dir = "testdata/apiserver"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build kube-apiserver: %v\n%s", err, out)
	}
	client, peer := "http://"+freeAddr(t), "http://"+freeAddr(t)
	c.etcd = client
	c.run("etcd", exec.Command("etcd", "--data-dir", filepath.Join(c.dir, "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.file("sa.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	c.file("tokens.csv", []byte(adminToken+`,admin,1,"system:masters"`+"\n"))
	c.api = c.serve(c.addr)
	return c
}

func (c *cluster) file(name string, data []byte) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// run starts a process that ends with the test.
func (c *cluster) run(name string, cmd *exec.Cmd) *exec.Cmd {
	c.t.Helper()
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { kill(cmd); log.Close() })
	return cmd
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// serve runs an API server at addr and waits until it is ready.
func (c *cluster) serve(addr string) *exec.Cmd {
	c.t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	cmd := c.run("apiserver-"+port, exec.Command(c.bin, "--etcd-servers="+c.etcd, "--bind-address="+host, "--secure-port="+port, "--cert-dir="+filepath.Join(c.dir, "certs"),
		"--authorization-mode=RBAC", "--token-auth-file="+filepath.Join(c.dir, "tokens.csv"), "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+filepath.Join(c.dir, "sa.key"), "--service-account-signing-key-file="+filepath.Join(c.dir, "sa.key"), "--service-cluster-ip-range=10.96.0.0/16",
		"--watch-cache=true"))
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if code, _ := c.call(addr, "GET", "/readyz", nil); code == 200 {
			return cmd
		}
		if time.Now().After(end) {
			b, _ := os.ReadFile(filepath.Join(c.dir, "apiserver-"+port+".log"))
			c.t.Fatalf("the API server is not ready:\n%s", b)
		}
	}
}

// call asks as the administrator.
func (c *cluster) call(addr, method, path string, body any) (code int, answer []byte) {
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "https://"+addr+path, bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	answer, _ = io.ReadAll(resp.Body)
	return resp.StatusCode, answer
}

func (c *cluster) must(addr, method, path string, body any) []byte {
	c.t.Helper()
	code, answer := c.call(addr, method, path, body)
	if code/100 != 2 {
		c.t.Fatalf("%s %s = %d %s", method, path, code, answer)
	}
	return answer
}

// apply makes what the example gives a sidecar to read endpoints with.
func (c *cluster) apply(path string) {
	c.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/"
	at := map[string]string{"Namespace": "/api/v1/namespaces", "ServiceAccount": "/api/v1/namespaces/shop/serviceaccounts", "Role": rbac + "roles", "RoleBinding": rbac + "rolebindings",
		"ConfigMap": "/api/v1/namespaces/shop/configmaps", "Deployment": "/apis/apps/v1/namespaces/shop/deployments", "Service": "/api/v1/namespaces/shop/services"}
	for dec := yaml.NewDecoder(f); ; {
		var m map[string]any
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			c.t.Fatal(err)
		}
		c.must(c.addr, "POST", at[m["kind"].(string)], m)
	}
}

// pod is the configuration of a pod of the service account orders, with a token of its own.
func (c *cluster) pod() Config {
	c.t.Helper()
	var answer struct{ Status struct{ Token string } }
	if err := json.Unmarshal(c.must(c.addr, "POST", "/api/v1/namespaces/shop/serviceaccounts/orders/token", map[string]any{"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}), &answer); err != nil {
		c.t.Fatal(err)
	}
	account := c.t.TempDir()
	roots, err := os.ReadFile(filepath.Join(c.dir, "certs", "apiserver.crt"))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, data := range map[string][]byte{"token": []byte(answer.Status.Token), "ca.crt": roots, "namespace": []byte("shop")} {
		if err := os.WriteFile(filepath.Join(account, name), data, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	host, port, _ := net.SplitHostPort(c.addr)
	return Config{Account: account, Page: 3, Getenv: func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}[name]
	}}
}

const slicesPath = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"

// put makes a slice of billing what is given: endpoints as JSON.
func (c *cluster) put(addr, name, family string, endpoints ...string) {
	c.t.Helper()
	o := json.RawMessage(fmt.Sprintf(`{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":%q,"labels":{"kubernetes.io/service-name":"billing"}},"addressType":%q,"ports":[{"name":"pillion","port":15555}],"endpoints":[%s]}`,
		name, family, strings.Join(endpoints, ",")))
	if code, _ := c.call(addr, "PUT", slicesPath+"/"+name, o); code/100 != 2 {
		c.must(addr, "POST", slicesPath, o)
	}
}

func end(ip string) string { return fmt.Sprintf(`{"addresses":[%q],"conditions":{"ready":true}}`, ip) }
func left(ip string) string {
	return fmt.Sprintf(`{"addresses":[%q],"conditions":{"ready":false,"serving":true,"terminating":true}}`, ip)
}

func TestRealAPIServer(t *testing.T) {
	c := newCluster(t)
	c.apply("../../examples/kubernetes/orders.yaml")
	c.refused()
	w := follow(t, c.pod(), Target{Name: "billing", Defaults: discovery.Defaults{Port: 15008, Mesh: true, Identity: "spiffe://example.org/billing"}})
	addresses := func() string {
		var all []string
		for _, e := range w.Endpoints() {
			all = append(all, e.Addr.String())
		}
		return strings.Join(all, " ")
	}
	slowest := time.Duration(0)
	expect := func(when, want string) {
		t.Helper()
		began := time.Now()
		discoverytest.Eventually(t, when+": "+want, func() bool { return w.Ready() && addresses() == want })
		slowest = max(slowest, time.Since(began))
	}
	discoverytest.Eventually(t, "a word that there is no such Service", func() bool { return w.Status().Flaw == errNoSlices })
	for i := range 8 {
		c.put(c.addr, fmt.Sprintf("billing-%d", i), "IPv4", end(fmt.Sprintf("10.0.0.%d", i+1)))
	}
	all := "10.0.0.1:15555 10.0.0.2:15555 10.0.0.3:15555 10.0.0.4:15555 10.0.0.5:15555 10.0.0.6:15555 10.0.0.7:15555 10.0.0.8:15555"
	expect("as they come", all)
	second := follow(t, c.pod(), Target{Name: "billing", Defaults: discovery.Defaults{Port: 15008}, Port: "pillion"})
	discoverytest.Eventually(t, "a list in pages", func() bool { return len(second.Endpoints()) == 8 })
	for i := 1; i < 8; i++ {
		c.must(c.addr, "DELETE", slicesPath+fmt.Sprintf("/billing-%d", i), nil)
	}
	expect("as they go", "10.0.0.1:15555")
	c.put(c.addr, "billing-6", "IPv6", end("2001:db8::1"))
	expect("both families", "10.0.0.1:15555 [2001:db8::1]:15555")
	c.put(c.addr, "billing-6", "IPv6")
	c.put(c.addr, "billing-0", "IPv4", left("10.0.0.1"), end("10.0.0.2"))
	expect("one that leaves beside one that is ready", "10.0.0.2:15555")
	c.put(c.addr, "billing-0", "IPv4", left("10.0.0.1"))
	expect("one that leaves, alone", "10.0.0.1:15555")

	// From here on there is always an endpoint, whatever happens.
	stop := discoverytest.NeverEmpty(t, w)
	slowest = 0
	ten := time.NewTicker(100 * time.Millisecond)
	for i := range 50 {
		<-ten.C
		c.put(c.addr, "billing-0", "IPv4", end(fmt.Sprintf("10.0.1.%d", i)))
		expect("ten changes a second", fmt.Sprintf("10.0.1.%d:15555", i))
	}
	t.Logf("the slowest of 50 changes was seen after %v", slowest)

	kill(c.api)
	discoverytest.Eventually(t, "an error without a server", func() bool { return w.Status().Err != nil })
	other := freeAddr(t)
	elsewhere := c.serve(other) // things go on while our server is away, and it will know nothing of what was before
	for i := range 20 {
		c.put(other, "billing-0", "IPv4", end(fmt.Sprintf("10.0.2.%d", i)))
	}
	kill(elsewhere)
	expect("without a server", "10.0.1.49:15555")
	c.api = c.serve(c.addr)
	expect("the server is back", "10.0.2.19:15555")
	discoverytest.Eventually(t, "no error", func() bool { return w.Status().Err == nil })

	if err := c.api.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	expect("the server stands still", "10.0.2.19:15555")
	if err := c.api.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.put(c.addr, "billing-0", "IPv4", end("10.0.3.1"))
	expect("the server goes on", "10.0.3.1:15555")
	stop()
}

// refused: a pod that may not read endpoints says so.
func (c *cluster) refused() {
	c.t.Helper()
	conf := c.pod()
	conf.Namespace = "default"
	discoverytest.ExpectError(c.t, follow(c.t, conf, Target{Name: "billing"}), "in another namespace", "403: endpointslices.discovery.k8s.io is forbidden")
}
