package peers

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTemplatesFillIn: every peer has a configuration for both sides of every kind of traffic that it can carry.
func TestTemplatesFillIn(t *testing.T) {
	for _, p := range All() {
		for _, kind := range []Kind{HTTP, H2C, TCP, UDP, WebSocket, Unix, Cached} {
			if p.command == nil || p.Cannot[kind] != "" {
				continue
			}
			for _, near := range []bool{true, false} {
				s := side{
					Near: near, Kind: kind, Name: "app", Listen: "127.0.0.1:1111", Next: "127.0.0.1:2222", Dir: t.TempDir(),
					spare: []string{"127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5"}, binary: "proxy",
				}
				if kind == Unix && near {
					s.Listen = "unix:/tmp/1111"
				} else if kind == Unix {
					s.Next = "unix:/tmp/2222"
				}
				argv, err := p.command(s)
				if err != nil {
					t.Errorf("%s, %s, near %v: %v", p.Name, kind, near, err)
					continue
				}
				text := strings.Join(argv, " ")
				files, err := filepath.Glob(filepath.Join(s.Dir, "*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, file := range files {
					data, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					text += string(data)
				}
				for _, want := range []string{"proxy", "1111", "2222", "roots.pem"} {
					if want == "roots.pem" && p.Name == "varnish" {
						continue // it has no TLS
					}
					if !strings.Contains(text, want) {
						t.Errorf("%s, %s, near %v: %q is not in\n%s", p.Name, kind, near, want, text)
					}
				}
			}
		}
	}
}

func TestCertificatesVerifyAgainstTheRoot(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewBed(dir, ""); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "roots.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("roots.pem holds no certificate")
	}
	for _, name := range []string{"web", "app"} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("certificate of %s: %v", name, err)
			}
		}
	}
}
