//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAccessLogRotated: the file is moved away, and SIGHUP has the next lines go to a new one, as logrotate wants it.
func TestAccessLogRotated(t *testing.T) {
	if *direct {
		return
	}
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	file := filepath.Join(t.TempDir(), "access.log")
	ca := newAuthority(t)
	s := newSidecar(t, "web", fmt.Sprintf("service: web\nservices:\n  app: {endpoints: %q, mesh: false}\naccess_log: {what: all, to: %q}\n", app.Listener.Addr(), file), ca.issue(leaf{name: "web"}))
	s.ready()
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.outbound})}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	call := func(path, in string) {
		t.Helper()
		resp, err := client.Get("http://app" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		eventually(t, 20*time.Second, path+" in "+in, func() bool {
			data, _ := os.ReadFile(in)
			return strings.Contains(string(data), fmt.Sprintf("%q", path))
		})
	}
	call("/before", file)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	call("/between", file+".1")
	s.signal(syscall.SIGHUP)
	eventually(t, 20*time.Second, "a new file", func() bool { _, err := os.Stat(file); return err == nil })
	call("/after", file)
	if data, _ := os.ReadFile(file); strings.Contains(string(data), "before") || strings.Contains(string(data), "between") {
		t.Errorf("the new file has %s", data)
	}
}
