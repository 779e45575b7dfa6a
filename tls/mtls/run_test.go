package mtls

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// logs collects log lines.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// files are the three files of a Source, the way Kubernetes mounts them: links into a directory that is
// itself a link, which is replaced in one step.
type files struct {
	t   *testing.T
	dir string
	n   int
}

func (f *files) config() Config {
	return Config{
		Cert: filepath.Join(f.dir, "tls.crt"), Key: filepath.Join(f.dir, "tls.key"), Roots: filepath.Join(f.dir, "ca.crt"),
	}
}

func newFiles(t *testing.T, p Material) *files {
	f := &files{t: t, dir: t.TempDir()}
	f.swap(p)
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		f.must(os.Symlink(filepath.Join("..data", name), filepath.Join(f.dir, name)))
	}
	return f
}

// swap replaces all three at once.
func (f *files) swap(p Material) {
	f.t.Helper()
	f.n++
	version := filepath.Join(f.dir, "..v"+string(rune('a'+f.n)))
	f.must(os.Mkdir(version, 0o700))
	f.must(os.WriteFile(filepath.Join(version, "tls.crt"), p.Cert, 0o600))
	f.must(os.WriteFile(filepath.Join(version, "tls.key"), p.Key, 0o600))
	f.must(os.WriteFile(filepath.Join(version, "ca.crt"), p.Roots, 0o600))
	temp := filepath.Join(f.dir, "..tmp")
	f.must(os.Symlink(filepath.Base(version), temp))
	f.must(os.Rename(temp, filepath.Join(f.dir, "..data")))
}

func (f *files) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// run runs s in the background of a bubble, and returns when s has looked for the first time; the returned function ends it.
func run(t *testing.T, s *Source) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		f := newFiles(t, ca.issue(webID, nil))
		var l logs
		c := f.config()
		c.Logger = l.logger()
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer run(t, s)()
		first := s.Status()
		f.swap(ca.issue(webID, nil))
		time.Sleep(3 * time.Second)
		second := s.Status()
		if first.Serial == second.Serial || second.Error != "" || !second.Loaded.After(first.Loaded) {
			t.Errorf("after the files were replaced: %+v; want another certificate than %s", second, first.Serial)
		}
		// Another root: peers of both must be accepted once the file says so.
		other := newAuthority(t)
		p := ca.issue(webID, nil)
		p.Roots = append(p.Roots, encode(other.cert)...)
		f.swap(p)
		time.Sleep(3 * time.Second)
		if got := len(s.Status().Roots); got != 2 {
			t.Errorf("%d roots, want 2", got)
		}
		if got := l.count("certificate replaced"); got != 2 {
			t.Errorf("%d lines say that the certificate was replaced, want 2", got)
		}
	})
}

func TestReloadKeepsTheOld(t *testing.T) {
	ca := newAuthority(t)
	good := ca.issue(webID, nil)
	for name, c := range map[string]struct {
		p    Material
		want string
	}{
		"key of another":  {Material{Cert: ca.issue(webID, nil).Cert, Key: good.Key, Roots: good.Roots}, "private key does not match"},
		"not PEM":         {Material{Cert: []byte("oops"), Key: good.Key, Roots: good.Roots}, "no CERTIFICATE block"},
		"empty roots":     {Material{Cert: good.Cert, Key: good.Key}, "roots: no CERTIFICATE block"},
		"unrelated roots": {Material{Cert: good.Cert, Key: good.Key, Roots: newAuthority(t).issue(webID, nil).Roots}, "none of our roots"},
		"already expired": {ca.issue(webID, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), "expired at"},
		"another's":       {ca.issue(ordersID, nil), "another identity's"},
		"no name":         {ca.issue(webID, func(c *x509.Certificate) { c.URIs = nil }), "no URI SAN"},
	} {
		t.Run(name, func(t *testing.T) {
			var l logs
			f := newFiles(t, good)
			conf := f.config()
			conf.Logger = l.logger()
			s, err := New(conf)
			if err != nil {
				t.Fatal(err)
			}
			k := keeper{Source: s, offered: good}
			before := s.Status().Serial
			f.swap(c.p)
			for range 3 {
				k.look()
			}
			st := s.Status()
			if st.Serial != before || !strings.Contains(st.Error, c.want) || st.ErrorAt.IsZero() {
				t.Errorf("Status = serial %s, error %q since %v; want serial %s and an error with %q", st.Serial, st.Error, st.ErrorAt, before, c.want)
			}
			if got := l.count("new certificate not used"); got != 1 {
				t.Errorf("%d lines about it in three looks, want 1", got)
			}
			f.swap(ca.issue(webID, nil))
			k.look()
			if st := s.Status(); st.Serial == before || st.Error != "" {
				t.Errorf("after good files came: serial %s, error %q; want another than %s and none", st.Serial, st.Error, before)
			}
		})
	}
}

func TestReloadBetweenTwoFiles(t *testing.T) {
	ca := newAuthority(t)
	var l logs
	f := newFiles(t, ca.issue(webID, nil))
	c := f.config()
	c.Logger = l.logger()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	k := keeper{Source: s, offered: s.current.Load().pem}
	p := ca.issue(webID, nil)
	f.must(os.WriteFile(c.Cert, p.Cert, 0o600))
	k.look()
	f.must(os.WriteFile(c.Key, p.Key, 0o600))
	k.look()
	if got := l.count("level=ERROR"); got != 0 {
		t.Errorf("%d errors logged while the files were being replaced one by one, want none", got)
	}
	if got := string(s.current.Load().pem.Cert); got != string(p.Cert) {
		t.Error("the new certificate is not in use")
	}
	f.must(os.Remove(c.Key))
	k.look()
	k.look()
	if st := s.Status(); !strings.Contains(st.Error, "load key") {
		t.Errorf("with the key gone Status.Error = %q", st.Error)
	}
}

func TestNewRefuses(t *testing.T) {
	ca := newAuthority(t)
	f := newFiles(t, ca.issue(webID, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))
	if _, err := New(f.config()); err == nil || !strings.Contains(err.Error(), "expired at") || !strings.Contains(err.Error(), "tls.crt") {
		t.Errorf("New with an expired certificate = %v; want an error that says so and names the file", err)
	}
	f.swap(ca.issue(webID, nil))
	c := f.config()
	c.TrustDomain = "example.com"
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "trust domain") {
		t.Errorf("New for another trust domain = %v; want an error that says so", err)
	}
	c = f.config()
	c.Key = ""
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "path of the key is empty") {
		t.Errorf("New without a key = %v", err)
	}
	c.Key = filepath.Join(f.dir, "missing")
	if _, err := New(c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("New with a missing key = %v", err)
	}
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		var l logs
		var issued atomic.Int32
		var broken atomic.Bool
		issue := func(context.Context) (Material, error) {
			if broken.Load() {
				return Material{}, errors.New("the issuer is away")
			}
			issued.Add(1)
			return ca.issue(webID, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now(), time.Now().Add(3*time.Hour) }), nil
		}
		s, err := NewIssued(t.Context(), issue, Config{Logger: l.logger()})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, s)
		time.Sleep(2*time.Hour - time.Minute)
		if n := issued.Load(); n != 1 {
			t.Errorf("%d certificates before two thirds of the first one's lifetime, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		if n := issued.Load(); n != 2 {
			t.Errorf("%d certificates after two thirds of the first one's lifetime, want 2", n)
		}
		time.Sleep(7 * time.Hour)
		if n := issued.Load(); n != 5 {
			t.Errorf("%d certificates after nine hours, want 5", n)
		}
		stop()
		broken.Store(true)
		defer run(t, s)()
		time.Sleep(2*time.Hour + 10*time.Minute)
		st := s.Status()
		if !strings.Contains(st.Error, "the issuer is away") {
			t.Errorf("Status.Error = %q", st.Error)
		}
		if n := l.count("certificate not renewed"); n < 2 || n > 100 {
			t.Errorf("%d attempts to renew logged, want a few", n)
		}
		time.Sleep(time.Hour)
		if got := s.Status().Warning; !strings.Contains(got, "expired at") {
			t.Errorf("Status.Warning = %q after the end", got)
		}
		if soon, over := l.count("expires soon"), l.count("has expired"); soon != 1 || over != 1 {
			t.Errorf("%d warnings before the end and %d after; want 1 and 1", soon, over)
		}
		broken.Store(false)
		time.Sleep(2 * time.Minute)
		if st := s.Status(); st.Warning != "" || st.Error != "" {
			t.Errorf("after the issuer came back: warning %q, error %q; want none", st.Warning, st.Error)
		}
	})
}

func TestWarnAt(t *testing.T) {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ lifetime, before time.Duration }{
		{time.Hour, 12 * time.Minute},
		{35 * 24 * time.Hour, 7 * 24 * time.Hour},
		{365 * 24 * time.Hour, 7 * 24 * time.Hour},
	} {
		m := &material{leaf: &x509.Certificate{NotBefore: begin, NotAfter: begin.Add(c.lifetime)}}
		if got := m.leaf.NotAfter.Sub(m.warnAt()); got != c.before {
			t.Errorf("a lifetime of %v is warned of %v before its end, want %v", c.lifetime, got, c.before)
		}
	}
}

func TestStatus(t *testing.T) {
	s := source(t, newAuthority(t).issue(webID, nil))
	st := s.Status()
	if st.Identity != webID || st.TrustDomain != "example.org" || st.Serial == "" || len(st.Fingerprint) != 64 || st.Issuer != "CN=test root" ||
		len(st.Roots) != 1 || st.Roots[0].Subject != "CN=test root" || st.Warning != "" || st.Error != "" {
		t.Errorf("Status = %+v", st)
	}
}

// A rotation, even of the roots, touches no open connection; the next handshake goes by the new files.
func TestRotationKeepsLinks(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	web, orders := source(t, before.issue(webID, nil)), source(t, before.issue(ordersID, nil))
	c, s, clientErr, serverErr := handshake(t, web.ClientConfig(ordersID), orders.ServerConfig())
	if clientErr != nil || serverErr != nil {
		t.Fatalf("handshake: client %v, server %v", clientErr, serverErr)
	}
	client, server := web.ClientConfig(ordersID), orders.ServerConfig()
	k := keeper{Source: orders}
	if err := k.take(after.issue(ordersID, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("still here")); err != nil {
		t.Errorf("write on the open connection: %v", err)
	}
	p := make([]byte, 10)
	if _, err := io.ReadFull(s, p); err != nil || string(p) != "still here" {
		t.Errorf("read on the open connection: %q, %v", p, err)
	}
	_, _, clientErr, _ = handshake(t, client, server)
	wantReason(t, clientErr, Untrusted, "leads to none of our roots")
	k = keeper{Source: web}
	if err := k.take(after.issue(webID, nil)); err != nil {
		t.Fatal(err)
	}
	if _, _, clientErr, serverErr = handshake(t, client, server); clientErr != nil || serverErr != nil {
		t.Errorf("handshake after both have rotated: client %v, server %v", clientErr, serverErr)
	}
}
