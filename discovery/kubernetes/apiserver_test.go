package kubernetes

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// apiServer behaves as the documentation of the API says, for the EndpointSlices of one namespace, and fails on request. The e2e tests ask a real one.
type apiServer struct {
	t    *testing.T
	http *httptest.Server

	mu      sync.Mutex
	token   string
	version int
	slices  map[string]json.RawMessage
	history []change
	oldest  int           // the least version to watch from
	news    chan struct{} // closed at each change
	lists   int           // how many lists were begun
	watches int           // and watches
	since   int           // the version that the last watch began with
	fault   func(w http.ResponseWriter, r *http.Request) bool
}

type change struct {
	version int
	kind    string
	object  json.RawMessage
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{t: t, version: 100, oldest: 100, token: "first", slices: make(map[string]json.RawMessage), news: make(chan struct{})}
	s.http = httptest.NewUnstartedServer(s)
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.StartTLS()
	t.Cleanup(func() { s.http.CloseClientConnections(); s.http.Close() })
	return s
}

// restart makes it come back at its address after f; its certificate is the same.
func (s *apiServer) restart(f func()) {
	s.t.Helper()
	addr := s.http.Listener.Addr().String()
	s.http.CloseClientConnections()
	s.http.Close()
	f()
	s.http = httptest.NewUnstartedServer(s)
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.Listener.Close()
	discoverytest.Eventually(s.t, addr+" is free", func() bool {
		ln, err := net.Listen("tcp", addr)
		s.http.Listener = ln
		return err == nil
	})
	s.http.StartTLS()
}

// account makes the folder of a pod's service account.
func (s *apiServer) account() string {
	dir := s.t.TempDir()
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	for name, data := range map[string]string{"token": s.token + "\n", "ca.crt": string(roots), "namespace": "shop"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return dir
}

// conf is that of a pod.
func (s *apiServer) conf() Config {
	return Config{Account: s.account(), Getenv: func(name string) string {
		host, port, _ := net.SplitHostPort(s.http.Listener.Addr().String())
		return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}[name]
	}}
}

// put stores a slice, which is given without its version; remove deletes it.
func (s *apiServer) put(name, yaml string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	kind := "ADDED"
	if s.slices[name] != nil {
		kind = "MODIFIED"
	}
	o := json.RawMessage(fmt.Sprintf(`{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":%q,"namespace":"shop","resourceVersion":"%d","labels":{"kubernetes.io/service-name":"orders"%s}},%s}`,
		name, s.version, labels(yaml), body(yaml)))
	if !json.Valid(o) {
		s.t.Errorf("not JSON: %s", o)
	}
	s.slices[name] = o
	s.changed(kind, o)
}

// labels and body split what put is given: "labels | body".
func labels(y string) string {
	if l, _, ok := strings.Cut(y, "|"); ok {
		return "," + l
	}
	return ""
}

func body(y string) string {
	if _, b, ok := strings.Cut(y, "|"); ok {
		return b
	}
	return y
}

func (s *apiServer) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	var o object
	if err := json.Unmarshal(s.slices[name], &o); err != nil {
		s.t.Error(err)
	}
	gone := json.RawMessage(strings.Replace(string(s.slices[name]), `"resourceVersion":"`+o.Metadata.ResourceVersion, `"resourceVersion":"`+strconv.Itoa(s.version), 1))
	delete(s.slices, name)
	s.changed("DELETED", gone)
}

func (s *apiServer) changed(kind string, o json.RawMessage) {
	s.history = append(s.history, change{s.version, kind, o})
	close(s.news)
	s.news = make(chan struct{})
}

// pass is a change of something else, of which watches hear by a bookmark.
func (s *apiServer) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.changed("BOOKMARK", json.RawMessage(fmt.Sprintf(`{"kind":"EndpointSlice","metadata":{"resourceVersion":"%d","creationTimestamp":null},"endpoints":null,"ports":null,"addressType":""}`, s.version)))
}

// compact forgets the history, so that watches from before fail.
func (s *apiServer) compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history, s.oldest = nil, s.version
}

// fail makes f answer first; it reports whether it did. nil is none.
func (s *apiServer) fail(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *apiServer) counts() (lists, watches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists, s.watches
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","status":"Failure","message":%q,"code":%d}`, message, code)
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault, token := s.fault, s.token
	s.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	q := r.URL.Query()
	switch {
	case r.Header.Get("Authorization") != "Bearer "+token:
		refuse(w, 401, "Unauthorized")
	case r.URL.Path != "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices" || q.Get("labelSelector") != "kubernetes.io/service-name=orders":
		refuse(w, 403, "endpointslices is forbidden")
	case q.Get("watch") != "":
		s.watch(w, r)
	default:
		s.list(w, q.Get("limit"), q.Get("continue"))
	}
}

func (s *apiServer) list(w http.ResponseWriter, limit, next string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, from := s.version, 0
	if next == "" {
		s.lists++
	} else if _, err := fmt.Sscanf(next, "%d-%d", &version, &from); err != nil || version != s.version {
		refuse(w, 410, "The provided continue parameter is too old")
		return
	}
	names := slices.Sorted(maps.Keys(s.slices))
	n, _ := strconv.Atoi(limit)
	end := min(from+n, len(names))
	items := []json.RawMessage{}
	for _, name := range names[from:end] {
		items = append(items, s.slices[name])
	}
	more := ""
	if end < len(names) {
		more = fmt.Sprintf("%d-%d", version, end)
	}
	b, _ := json.Marshal(map[string]any{"kind": "EndpointSliceList", "metadata": map[string]any{"resourceVersion": strconv.Itoa(version), "continue": more}, "items": items})
	_, _ = w.Write(b)
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	seen, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	s.mu.Lock()
	s.watches++
	s.since = seen
	s.mu.Unlock()
	w.WriteHeader(200)
	flush := http.NewResponseController(w).Flush
	_ = flush()
	for {
		s.mu.Lock()
		news, oldest, history := s.news, s.oldest, slices.Clone(s.history)
		s.mu.Unlock()
		if seen < oldest {
			fmt.Fprintf(w, `{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old resource version","reason":"Expired","code":410}}`+"\n")
			return
		}
		for _, c := range history {
			if c.version > seen {
				fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", c.kind, c.object)
				seen = c.version
			}
		}
		_ = flush()
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}
