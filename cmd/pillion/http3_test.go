package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/tls/devca"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// h3App is an app that speaks HTTP/3 and nothing else, with a certificate of the development CA in dir, for localhost.
func h3App(t *testing.T, dir string, h http.Handler) (addr string) {
	t.Helper()
	ca, _, err := devca.OpenFor(dir, "pillion.local")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue("spiffe://pillion.local/app", devca.IssueOptions{Hosts: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{pair}})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(pc) }()
	t.Cleanup(func() {
		server.Close()
		<-done
		pc.Close()
	})
	return pc.LocalAddr().String()
}

// h3Client speaks HTTP/3 to addr, whatever the host of a request, and trusts the development CA in dir alone.
func h3Client(t *testing.T, addr, dir string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		Dial: func(ctx context.Context, _ string, conf *tls.Config, cfg *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, addr, conf, cfg)
		},
	}
	t.Cleanup(func() { tr.Close() })
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// TestAppsSpeakHTTP3: from an app that speaks HTTP/3 to one that does, the sidecars and their link between.
func TestAppsSpeakHTTP3(t *testing.T) {
	for _, over := range []string{"tcp", "quic"} {
		t.Run(over, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			app := h3App(t, dir, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				w.Header().Set("Trailer", "X-Sum")
				w.Header().Set("X-Host", r.Host)
				w.Write(b)
				w.Header().Set("X-Sum", r.Trailer.Get("X-Up"))
			}))
			free := freeAddrs(t, 4)
			startSidecar(t, fmt.Sprintf("service: api\napp:\n  - {port: 80, to: %s, protocol: h3, tls: {roots: %s}}\n  - {port: 81, to: %s, protocol: h3, tls: {insecure: true}}\n"+
				"  - {port: 82, to: %s, protocol: h3, tls: {roots: %s, name: other}}\n"+
				"peer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 5s\n",
				app, filepath.Join(dir, "ca.crt"), app, app, filepath.Join(dir, "ca.crt"), free[0], free[1], dir))
			startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none, transport: %s}\noutbound: {listen: none, http3: %s}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\ndrain: 5s\n"+
				"services:\n  api: {endpoints: %s}\n", over, free[2], free[3], dir, free[0]))
			client := h3Client(t, free[2], dir)
			for _, host := range []string{"api", "api:80", "api:81"} {
				for _, size := range []int{0, 1000, 1 << 20} {
					sent := strings.Repeat("x", size)
					req, _ := http.NewRequest("POST", "https://"+host+"/echo", io.MultiReader(strings.NewReader(sent)))
					req.Trailer = http.Header{"X-Up": {"sum"}}
					resp, err := client.Do(req)
					if err != nil {
						t.Fatalf("%s: %v", host, err)
					}
					got, err := io.ReadAll(resp.Body)
					if string(got) != sent || err != nil || resp.Header.Get("X-Host") != host || size > 0 && resp.Trailer.Get("X-Sum") != "sum" {
						t.Errorf("%s: %d, %d bytes of %d, %v, %v, trailers %v", host, resp.StatusCode, len(got), size, err, resp.Header, resp.Trailer)
					}
					resp.Body.Close()
				}
			}
			for host, want := range map[string]string{"api:82": "tls.name", "nobody": "service"} { // the certificate has no such name
				resp, err := client.Get("https://" + host + "/")
				if host == "nobody" {
					if err == nil {
						t.Errorf("the certificate is for %s, which is no service: %s", host, resp.Status)
						resp.Body.Close()
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != 503 || !strings.Contains(string(got), want) {
					t.Errorf("%s: got %s %q, want 503 and %s", host, resp.Status, got, want)
				}
				resp.Body.Close()
			}
		})
	}
}
