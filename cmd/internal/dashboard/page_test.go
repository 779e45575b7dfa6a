package dashboard

import (
	"io/fs"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// TestFiles: each file is served with its type and a policy, and what the page refers to is there.
func TestFiles(t *testing.T) {
	served := Files()
	embedded, err := fs.ReadDir(files, "page")
	if err != nil || len(embedded) != len(served)+1 {
		t.Errorf("%d files are embedded, %d are served beside the page: %v", len(embedded), len(served), err)
	}
	served["GET /"] = Page()
	refers := regexp.MustCompile(`(?:src|href)="(/[^"]+)"|from "\./([^"]+)"`)
	for pattern, h := range served {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		body := w.Body.String()
		if w.Code != 200 || body == "" {
			t.Errorf("%s: %d, %d bytes", pattern, w.Code, len(body))
		}
		if p := w.Header().Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") {
			t.Errorf("%s: policy %q", pattern, p)
		}
		if w.Header().Get("Content-Type") == "" {
			t.Errorf("%s has no Content-Type", pattern)
		}
		for _, m := range refers.FindAllStringSubmatch(body, -1) {
			name := m[1]
			if name == "" {
				name = "/dashboard/" + m[2]
			}
			if served["GET "+name] == nil {
				t.Errorf("%s refers to %s, which is not served", pattern, name)
			}
		}
	}
}

// TestNothingFromElsewhere: no file names another address, makes markup of text, or has what the policy forbids.
func TestNothingFromElsewhere(t *testing.T) {
	bad := regexp.MustCompile(`https?://[^"]*|//[a-z]+\.|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\sstyle="|<script>|<style|\son[a-z]+="|@import|url\(|localStorage|document\.cookie`)
	err := fs.WalkDir(files, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		for _, m := range bad.FindAllString(string(data), -1) {
			if m != "http://www.w3.org/2000/svg" { // a name, which nobody fetches
				t.Errorf("%s has %q", name, m)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
