package consul

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// script is a server that answers as Consul is documented to; a test sets what.
type script struct {
	mu     sync.Mutex
	asked  []string // the queries
	answer func(r *http.Request, w http.ResponseWriter)
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Path+"?"+r.URL.RawQuery)
	answer := s.answer
	s.mu.Unlock()
	answer(r, w)
}

// say makes the server answer each query with these instances of 10.0.0.n, and wait where the index is the one asked for.
func (s *script) say(index string, head map[string]string, ns ...int) {
	var all []string
	for _, n := range ns {
		all = append(all, fmt.Sprintf(`{"Node":{"Node":"n"},"Service":{"ID":"i%d","Address":"10.0.0.%d","Port":80,"Weights":{"Passing":1},"Locality":null}}`, n, n))
	}
	s.write(index, head, "["+strings.Join(all, ",")+"]")
}

func (s *script) write(index string, head map[string]string, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = func(r *http.Request, w http.ResponseWriter) {
		if index != "" && r.URL.Query().Get("index") == index {
			time.Sleep(20 * time.Millisecond)
		}
		for k, v := range head {
			w.Header().Set(k, v)
		}
		if index != "" {
			w.Header().Set("X-Consul-Index", index)
		}
		fmt.Fprint(w, body)
	}
}

// queries are all that came.
func (s *script) queries() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, "\n")
}

func scripted(t *testing.T, c Config) (*script, *Resolver) {
	t.Helper()
	s := &script{}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	c.Address = web.URL
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r, err := cl.Resolver(Query{Service: "orders", Tags: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

func here(ns ...int) (all []string) {
	for _, n := range ns {
		all = append(all, fmt.Sprintf("10.0.0.%d:80", n))
	}
	return all
}

func TestIndex(t *testing.T) {
	s, r := scripted(t, Config{Datacenter: "eu"})
	s.say("0", nil, 1) // "never 0"
	f := discoverytest.Follow(t, r)
	f.Await(t, here(1)...)
	s.say("100", nil, 1, 2)
	f.Await(t, here(1, 2)...)
	s.say("90", nil, 3) // backwards: asked again, of the leader, and then believed
	f.Await(t, here(3)...)
	all := s.queries()
	for _, want := range []string{"/v1/health/service/orders?dc=eu&passing=1&stale=&tag=a&tag=b\n", "?dc=eu&index=1&passing=1&stale=&tag=a&tag=b&wait=500ms",
		"index=100&", "?dc=eu&passing=1&tag=a&tag=b\n"} {
		if !strings.Contains(all+"\n", want) {
			t.Errorf("nothing was asked with %q; but\n%s", want, all)
		}
	}
	if strings.Contains(all, "index=0") {
		t.Errorf("index 0 was asked for:\n%s", all)
	}
}

// Answers that are none, or not trusted, change nothing.
func TestDoubtfulAnswers(t *testing.T) {
	s, r := scripted(t, Config{})
	s.say("5", nil, 1)
	f := discoverytest.Follow(t, r)
	f.Await(t, here(1)...)
	for _, c := range []struct {
		index, body string
		head        map[string]string
		want        string
	}{
		{"", "[]", nil, "no index"},
		{"6", "", nil, "no list of instances"},
		{"6", "null", nil, "no list of instances"},
		{"6", `{"a":1}`, nil, "no list of instances"},
		{"6", "[{}]", nil, "no list of instances"},
		{"6", "[", nil, "no list of instances"},
		{"6", "[]", map[string]string{"X-Consul-KnownLeader": "false"}, "no leader"},
		{"6", "[]", map[string]string{"X-Consul-Results-Filtered-By-ACLs": "true"}, "the token may not"},
		{"7", "[]", nil, "knows no endpoints any more"}, // after all these failures
		{"8", `[{"Node":{"Node":"n"},"Service":{"ID":"i2","Address":"orders.internal","Port":80}}]`, nil, `"orders.internal" is no IP`},
	} {
		s.write(c.index, c.head, c.body)
		f.AwaitError(t, c.want)
	}
	if f.Addresses() != here(1)[0] || f.Empties() != 0 {
		t.Errorf("the set became %q", f.Addresses())
	}
	s.say("9", nil, 2)
	f.Await(t, here(2)...)
}

func TestLabels(t *testing.T) {
	s, r := scripted(t, Config{})
	s.write("5", nil, `[{"Node":{"Node":"n"},"Service":{"ID":"i1","Address":"10.0.0.1","Port":80,"Tags":["blue","version=v1","stage=canary"],
		"Meta":{"version":"v2","team":"shop","pillion-zone":"a","note":"one, two"}}}]`)
	f := discoverytest.Follow(t, r)
	f.Await(t, here(1)...)
	if e := f.Endpoints()[0]; e.Labels != "blue=true,stage=canary,team=shop,version=v2" || e.Zone != "a" {
		t.Errorf("labels %q, zone %q", e.Labels, e.Zone)
	}
}

// An answer that is lost is asked for again, at once while the service changes, and every second until there is one.
func TestLostAnswers(t *testing.T) {
	s, r := scripted(t, Config{})
	s.say("5", nil, 1)
	f := discoverytest.Follow(t, r)
	f.Await(t, here(1)...)
	var lost atomic.Int32
	s.mu.Lock()
	s.answer = func(r *http.Request, w http.ResponseWriter) {
		if lost.Add(1) <= 2 {
			<-r.Context().Done() // as a client that gives up sees it
			return
		}
		w.Header().Set("X-Consul-Index", "6")
		fmt.Fprint(w, `[{"Node":{"Node":"n"},"Service":{"ID":"i2","Address":"10.0.0.2","Port":80}}]`)
	}
	s.mu.Unlock()
	f.Await(t, here(2)...)
	if n := lost.Load(); n < 3 {
		t.Errorf("%d questions, want those that were lost and one more", n)
	}
	if err := f.Status().Err; err != nil {
		t.Errorf("the source is said to fail: %v; it was asked again in time", err)
	}
}

// A service that has not changed for long is asked about less often.
func TestWait(t *testing.T) {
	_, r := scripted(t, Config{})
	for _, c := range []struct{ since, least, most time.Duration }{
		{0, lively, lively}, {time.Second, lively, 10 * time.Second}, {8 * time.Second, 4 * time.Second, 10 * time.Second}, {time.Hour, 10 * time.Second, 10 * time.Second},
	} {
		w := &watch{Resolver: r, changed: time.Now().Add(-c.since)}
		if got := w.wait(); got < c.least || got > c.most {
			t.Errorf("%v after a change an answer may wait %v, want %v to %v", c.since, got, c.least, c.most)
		}
	}
}

// With more services than slots they take turns.
func TestTurns(t *testing.T) {
	s, r := scripted(t, Config{Slots: 2, Wait: 4 * time.Second})
	s.say("5", nil, 1)
	var all []*discoverytest.Follower
	for range 6 {
		all = append(all, discoverytest.Follow(t, r))
	}
	for _, f := range all {
		f.Await(t, here(1)...)
	}
	s.say("6", nil, 2)
	for _, f := range all {
		f.Await(t, here(2)...)
	}
	if q := s.queries(); !strings.Contains(q, "wait=1333ms") {
		t.Errorf("six services with two slots wait otherwise than a third of the time:\n%s", q)
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	cl, err := New(Config{TokenFile: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.token(); err == nil || !strings.Contains(err.Error(), "consul's token") {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(path, []byte(" secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := cl.token(); got != "secret" || err != nil {
		t.Errorf("token = %q, %v", got, err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"127.0.0.1:8500", "ftp://x", "http://", "http://%"} {
		if _, err := New(Config{Address: address}); err == nil {
			t.Errorf("New with the address %q succeeded", address)
		}
	}
	cl, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Resolver(Query{}); err == nil {
		t.Error("a Resolver for no service was made")
	}
}

// FuzzParse: whatever a server answers, what is used of it can be used.
func FuzzParse(f *testing.F) {
	q := &Query{Defaults: discovery.Defaults{Mesh: true, Port: 15008, Identity: "spiffe://example.org/orders"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parse(data)
		if err != nil && all != nil {
			t.Errorf("instances and %v", err)
		}
		for i := range all {
			if e, err := all[i].endpoint(q); err == nil && discovery.Check(&e) != nil {
				t.Errorf("took %+v: %v", e, discovery.Check(&e))
			}
		}
	})
}
