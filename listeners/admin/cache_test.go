package admin

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
)

// post is a POST from this machine.
func post(s *Server, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, nil)
	r.Host, r.RemoteAddr = "127.0.0.1:15000", "127.0.0.1:5000"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, r)
	return w
}

func TestCache(t *testing.T) {
	var asked []string
	var purged []CachePurge
	s := newServer(t, "127.0.0.1:15000", func(c *Config) {
		c.Cache = func(service, url string, most int) CacheList {
			asked = append(asked, service+" "+url)
			return CacheList{More: most == 5}
		}
		c.CachePurge = func(p CachePurge) int { purged = append(purged, p); return 7 }
	})
	w := ask(s, "GET", "/cache?service=a&url=b/c&limit=5")
	if w.Code != 200 || w.Body.String() != "{\n  \"entries\": [],\n  \"more\": true\n}\n" || asked[0] != "a b/c" {
		t.Errorf("/cache = %d %q, asked for %q", w.Code, w.Body, asked)
	}
	for path, want := range map[string]int{"?url=a/b": 200, "?tag=x": 200, "?all=true": 200, "": 400, "?all=1": 400, "?url=a/b&tag=x": 400} {
		before := len(purged)
		w := post(s, "/cache/purge"+path, ActionField, "1")
		if w.Code != want || (len(purged) > before) != (want == 200) {
			t.Errorf("purge %s = %d %q", path, w.Code, w.Body)
		}
		var res CachePurged
		if want == 200 && (json.Unmarshal(w.Body.Bytes(), &res) != nil || res.Purged != 7) {
			t.Errorf("purge %s = %q", path, w.Body)
		}
	}
	for _, header := range [][]string{nil, {ActionField, "1", "Sec-Fetch-Site", "cross-site"}, {ActionField, "1", "Host", "evil.example"}} {
		if w := post(s, "/cache/purge?all=true", header...); w.Code != 403 {
			t.Errorf("purge with %q = %d, want 403", header, w.Code)
		}
	}
	if w := ask(s, "GET", "/cache/purge?all=true"); w.Code != 405 && w.Code != 404 {
		t.Errorf("GET /cache/purge = %d", w.Code)
	}
}
