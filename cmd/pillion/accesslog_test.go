package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// linesOf waits until the file has n lines at least.
func linesOf(t *testing.T, file string, n int) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(file)
		if strings.Count(string(data), "\n") >= n {
			return string(data)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has not %d lines: %q", file, n, data)
		}
	}
}

// TestAccessLogReopened: at SIGHUP what comes goes to a new file in the place of the one that was moved away, and no line is lost. Nothing else of the configuration
// changes by that.
func TestAccessLogReopened(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	file, outbound := filepath.Join(t.TempDir(), "access.log"), freeAddrs(t, 1)[0]
	r := startReloadableWith(t, fmt.Sprintf("outbound: {listen: %s}\naccess_log: {what: all, to: %s, format: text}\n", outbound, file), fmt.Sprintf("  api: {endpoints: %s, mesh: false}\n", web.Listener.Addr()))
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: outbound})}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	call := func(path string) {
		t.Helper()
		resp, err := client.Get("http://api" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	call("/before")
	linesOf(t, file, 1)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	call("/between") // the file that was moved away is open still
	linesOf(t, file+".1", 2)
	r.asked <- struct{}{} // as SIGHUP does, which the end-to-end tests send
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	call("/after")
	if got := linesOf(t, file, 1); !strings.Contains(got, "path=/after ") || strings.Contains(got, "between") {
		t.Errorf("the new file has %q", got)
	}
	if got := linesOf(t, file+".1", 2); strings.Contains(got, "after") || !strings.Contains(got, "path=/between ") {
		t.Errorf("the old file has %q", got)
	}
}
