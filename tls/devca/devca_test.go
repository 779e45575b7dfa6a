package devca

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

func TestOpenCreatesOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "ca")
	first, created, err := Open(dir)
	if err != nil || !created {
		t.Fatalf("first Open: created %v, %v; want true, nil", created, err)
	}
	second, created, err := Open(dir)
	if err != nil || created {
		t.Fatalf("second Open: created %v, %v; want false, nil", created, err)
	}
	if got, want := second.Fingerprint(), first.Fingerprint(); got != want {
		t.Errorf("second Open has fingerprint %s, want %s", got, want)
	}
	wantMode(t, dir, 0o700)
	wantMode(t, filepath.Join(dir, "ca.key"), 0o600)
	wantMode(t, first.RootsFile(), 0o644)
	public, err := os.ReadFile(first.RootsFile())
	if err != nil || strings.Contains(string(public), "PRIVATE") || string(public) != string(first.Roots()) {
		t.Errorf("roots file holds %q, %v; want the certificate alone", public, err)
	}
	wantFiles(t, dir, 2)
}

func TestOpenByManyAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	const processes = 16
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, prints := 0, map[string]bool{}
	for range processes {
		wg.Go(func() {
			ca, created, err := Open(dir)
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if created {
				made++
			}
			prints[ca.Fingerprint()] = true
		})
	}
	wg.Wait()
	if made != 1 || len(prints) != 1 {
		t.Errorf("%d openers made a CA and there are %d fingerprints; want 1 and 1", made, len(prints))
	}
	wantFiles(t, dir, 2)
}

func TestOpenRefuses(t *testing.T) {
	damage := map[string]func(t *testing.T, dir string){
		"can be read by others": func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "ca.key"), 0o640); err != nil {
				t.Fatal(err)
			}
		},
		"no ECDSA private key": func(t *testing.T, dir string) { write(t, filepath.Join(dir, "ca.key"), "") },
		"do not belong together": func(t *testing.T, dir string) {
			other, err := generate(TrustDomain, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			_, cert := pem.Decode(other)
			mine, err := os.ReadFile(filepath.Join(dir, "ca.key"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "ca.key"), string(mine)+string(cert))
		},
		"the CA expired": func(t *testing.T, dir string) {
			old, err := generate(TrustDomain, time.Now().Add(-2*lifetime))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "ca.key"), string(old))
		},
	}
	for want, f := range damage {
		t.Run(want, func(t *testing.T) {
			dir := t.TempDir()
			if _, _, err := Open(dir); err != nil {
				t.Fatal(err)
			}
			f(t, dir)
			if _, _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Open = %v; want an error with %q", err, want)
			}
		})
	}
	dir := t.TempDir()
	if _, _, err := OpenFor(dir, "one.example"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenFor(dir, "two.example"); err == nil || !strings.Contains(err.Error(), "one.example") {
		t.Errorf("OpenFor another trust domain = %v; want an error that names the first", err)
	}
	if _, _, err := OpenFor(t.TempDir(), "Bad Domain"); err == nil {
		t.Error("OpenFor a bad trust domain succeeded")
	}
}

func TestOpenWritesRootsAnew(t *testing.T) {
	dir := t.TempDir()
	ca, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, ca.RootsFile(), "spoilt")
	if _, _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(ca.RootsFile()); err != nil || string(got) != string(ca.Roots()) {
		t.Errorf("roots file = %q, %v; want the certificate again", got, err)
	}
}

func TestIssue(t *testing.T) {
	ca, _, err := OpenFor(t.TempDir(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	id := proxy.NewIdentity("example.org", "orders")
	certPEM, keyPEM, err := ca.Issue(id, IssueOptions{For: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.Leaf
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != string(id) || leaf.IsCA {
		t.Errorf("issued URIs %v, CA %v; want %s alone and no CA", leaf.URIs, leaf.IsCA, id)
	}
	if left := time.Until(leaf.NotAfter); left < 59*time.Minute || left > time.Hour {
		t.Errorf("issued certificate ends in %v, want an hour", left)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Roots())
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("verify for usage %v: %v", usage, err)
		}
	}
	certPEM, _, err = ca.Issue(id, IssueOptions{For: 20 * lifetime})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	long, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !long.NotAfter.Equal(ca.NotAfter()) {
		t.Errorf("a certificate for ever ends at %v, %v; want the CA's end %v", long.NotAfter, err, ca.NotAfter())
	}
}

func TestIssueRefuses(t *testing.T) {
	ca, _, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []proxy.Identity{"", "orders", "spiffe://pillion.local", "spiffe://example.org/orders"} {
		if _, _, err := ca.Issue(id, IssueOptions{}); err == nil {
			t.Errorf("Issue(%q) succeeded", id)
		}
	}
	if _, _, err := ca.Issue("spiffe://pillion.local/a", IssueOptions{For: -1}); err == nil {
		t.Error("Issue for a negative time succeeded")
	}
}

func TestDefaultDir(t *testing.T) {
	for _, c := range []struct{ xdg, home, want string }{
		{"/data", "/home/u", "/data/pillion/ca"},
		{"", "/home/u", "/home/u/.local/share/pillion/ca"},
		{"relative", "/home/u", "/home/u/.local/share/pillion/ca"},
		{"", "", ""},
	} {
		got, err := DefaultDir(func(name string) string {
			return map[string]string{"XDG_DATA_HOME": c.xdg, "HOME": c.home}[name]
		})
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("DefaultDir with XDG_DATA_HOME=%q HOME=%q = %q, %v; want %q", c.xdg, c.home, got, err, c.want)
		}
	}
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("mode of %s = %04o, want %04o", path, got, want)
	}
}

func wantFiles(t *testing.T, dir string, want int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != want {
		t.Errorf("%s holds %v, %v; want %d files", dir, entries, err, want)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
