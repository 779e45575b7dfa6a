package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the tests get into the golden and the generated files")

// golden compares got with the file at path.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Errorf("%s:%d is stale (go generate, or go test -args -update, writes it anew)\ngot:  %s\nwant: %s", path, i+1, gotLines[i], wantLines[i])
			return
		}
	}
	t.Errorf("%s is stale: got %d lines, want %d", path, len(gotLines), len(wantLines))
}

// uncommented leaves out the lines that are comments.
func uncommented(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func samples(t *testing.T, pattern string) []string {
	t.Helper()
	return glob(t, pattern)
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples %s: %v", pattern, err)
	}
	return files
}

// portable removes what differs from machine to machine.
func portable(t *testing.T, s string) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(s, wd, "DIR")
}

// equal compares what two configurations say, wherever they came from.
func equal(a, b *Config) bool {
	x, y := *a, *b
	x.File, y.File, x.Warnings, y.Warnings = "", "", nil, nil
	x.at, y.at = nil, nil
	x.sum, y.sum = [32]byte{}, [32]byte{}
	return reflect.DeepEqual(x, y)
}

// writeCert makes the certificate that the samples name.
func writeCert(t *testing.T, dir, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{u}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for _, name := range []string{"orders.crt", "orders.key", "roots.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGood compares each sample with its whole printed form, and reads that form again.
func TestGood(t *testing.T) {
	t.Setenv("HOME", "/home/user")
	t.Setenv("XDG_DATA_HOME", "")
	tmp := t.TempDir()
	for _, dir := range []string{"tls", "good"} {
		if err := os.Mkdir(filepath.Join(tmp, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeCert(t, filepath.Join(tmp, "tls"), "spiffe://shop.example/orders")
	for _, file := range samples(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := filepath.Join(tmp, "good", filepath.Base(file))
			if err := os.WriteFile(in, data, 0o644); err != nil {
				t.Fatal(err)
			}
			c, err := Load(in)
			if err != nil {
				t.Fatalf("Load(%s): %v", file, err)
			}
			printed := c.Print()
			text := printed
			if file != "testdata/good/least.yaml" { // one sample has the comments
				text = uncommented(text)
			}
			for _, w := range c.Warnings {
				text += "# warning: " + w.String() + "\n"
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", strings.ReplaceAll(text, tmp, "TMP"))
			if c.Admin.Token != "" {
				printed = strings.ReplaceAll(printed, "# token: set, and not shown here", "token: "+c.Admin.Token)
			}
			if h := c.Tracing.Headers; len(h) > 0 {
				printed = strings.ReplaceAll(printed, "# headers: set, and not shown here", "headers: {"+h[0].Name+": "+h[0].Value+"}")
			}
			again, err := read("again.yaml", tmp, []byte(printed), Flags{})
			if err != nil {
				t.Fatalf("the printed form of %s: %v", file, err)
			}
			if len(again.Warnings) > len(c.Warnings) {
				t.Errorf("the printed form of %s has further warnings:\ngot  %v\nwant %v", file, again.Warnings, c.Warnings)
			}
			if !equal(c, again) {
				t.Errorf("the printed form of %s means something else:\ngot  %+v\nwant %+v", file, again, c)
			}
		})
	}
}

func TestBad(t *testing.T) {
	t.Setenv("HOME", "/home/user")
	for _, file := range samples(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file)
			if err == nil {
				t.Fatalf("Load(%s) = %+v, want an error", file, c)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", portable(t, err.Error()+"\n"))
		})
	}
}

// TestBounds: a document that means much more than it says is refused before it costs much, and its mistakes are not told without end.
func TestBounds(t *testing.T) {
	var b strings.Builder
	b.WriteString("service: web\nservices:\n  a: &a\n    endpoints: 10.0.0.1\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "    k%d: 1\n", i)
	}
	b.WriteString("  b: {<<: [" + strings.Repeat("*a, ", 100_000) + "*a]}\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := read("bomb.yaml", "/", []byte(b.String()), Flags{})
	runtime.ReadMemStats(&after)
	ps, _ := err.(Problems)
	if len(ps) == 0 || len(ps) > maxProblems+1 || !strings.Contains(ps[len(ps)-1].Text, "more mistakes") {
		t.Errorf("got %d problems, the last %v", len(ps), ps[len(ps)-1:])
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 500<<20 {
		t.Errorf("it took %d MiB", used>>20)
	}
}

// TestMany: ten thousand services may be written out in full.
func TestMany(t *testing.T) {
	var b strings.Builder
	b.WriteString("service: web\nservices:\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "  other-%d:\n    endpoints:\n      - 10.0.%d.%d:15008\n      - 10.1.%d.%d:15008\n    protocol: http\n    timeout: 10s\n", i, i/250, i%250, i/250, i%250)
	}
	c, err := read("many.yaml", "/", []byte(b.String()), Flags{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != 10_000 || len(c.Services[9999].Endpoints.Static) != 2 {
		t.Errorf("got %d services", len(c.Services))
	}
}

// TestBrief: nothing that is secret, no comment, and what is in force.
func TestBrief(t *testing.T) {
	const file = `
service: web
admin: {token: 0123456789abcdef0123, write_token: fedcba98765432100123}
services:
  billing:
    endpoints: 10.0.0.7
    routes:
      - match: {headers: {authorization: hunter2, x-team: blue*}}
        request_headers: {set: {x-api-key: hunter2, x-from: web}}
`
	name := filepath.Join(t.TempDir(), "pillion.yaml")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Brief()
	for _, bad := range []string{"0123456789", "hunter2", "fedcba"} {
		if strings.Contains(got, bad) {
			t.Errorf("%s is in\n%s", bad, got)
		}
	}
	for _, want := range []string{"service: web\n", "  # token: set, and not shown here\n", "x-from: web", "x-team: blue*", "x-api-key: (secret)"} {
		if !strings.Contains(strings.ReplaceAll(got, `"`, ""), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "rewrite:") {
		t.Errorf("a mapping without anything is in\n%s", got)
	}
}
