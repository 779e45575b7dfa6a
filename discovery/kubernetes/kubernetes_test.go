package kubernetes

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/discoverytest"
	"github.com/pillion-proxy/pillion/proxy"
)

// follow runs a Watcher of target until the test ends.
func follow(t *testing.T, c Config, target Target) *discovery.Watcher {
	t.Helper()
	cluster, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := cluster.Resolver(target)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := discoverytest.Watch(t, r)
	return w
}

func plain(port string) Target { return Target{Name: "orders", Port: port} }

const one = `"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[%s]`

// ends makes a slice of port 8080 of addresses.
func ends(addrs ...string) string {
	var all []string
	for _, a := range addrs {
		all = append(all, fmt.Sprintf(`{"addresses":[%q],"conditions":{"ready":true}}`, a))
	}
	return fmt.Sprintf(one, strings.Join(all, ","))
}

func TestFollows(t *testing.T) {
	s := newAPIServer(t)
	for i := range 7 {
		s.put(fmt.Sprintf("orders-%d", i), ends(fmt.Sprintf("10.0.0.%d", i+1)))
	}
	c := s.conf()
	c.Page = 3
	w := follow(t, c, plain(""))
	discoverytest.Expect(t, w, "in three pages", "10.0.0.1:8080, 10.0.0.2:8080, 10.0.0.3:8080, 10.0.0.4:8080, 10.0.0.5:8080, 10.0.0.6:8080, 10.0.0.7:8080")
	for i := 1; i < 7; i++ {
		s.remove(fmt.Sprintf("orders-%d", i))
	}
	discoverytest.Expect(t, w, "slices removed", "10.0.0.1:8080")
	s.put("orders-0", ends("10.0.0.1", "10.0.0.9"))
	s.put("orders-x", ends("10.0.0.9", "10.0.0.8")) // an endpoint on its way from one slice to another
	discoverytest.Expect(t, w, "slices changed", "10.0.0.1:8080, 10.0.0.8:8080, 10.0.0.9:8080")
	s.put("orders-0", ends())
	s.put("orders-x", ends())
	discoverytest.Expect(t, w, "scaled to nothing", "")
	discoverytest.ExpectError(t, w, "scaled to nothing", "")
	s.remove("orders-0")
	s.remove("orders-x")
	discoverytest.Eventually(t, "a word about it", func() bool { return w.Status().Flaw == errNoSlices })
	s.put("orders-0", ends("10.0.0.1"))
	discoverytest.Expect(t, w, "back", "10.0.0.1:8080")
	discoverytest.Eventually(t, "no more of it", func() bool { return w.Status().Flaw == nil })
	if lists, watches := s.counts(); lists != 1 || watches != 1 {
		t.Errorf("%d lists and %d watches, want one of each", lists, watches)
	}
}

// A watch that breaks is taken up at the last version, and after a bookmark at that.
func TestResumes(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", ends("10.0.0.1"))
	w := follow(t, s.conf(), plain("http"))
	discoverytest.Expect(t, w, "at first", "10.0.0.1:8080")
	s.http.CloseClientConnections()
	s.put("orders-0", ends("10.0.0.2"))
	discoverytest.Expect(t, w, "after a break", "10.0.0.2:8080")
	s.pass()
	for pause := 50 * time.Millisecond; ; pause *= 2 { // until the bookmark was heard before the connection was cut
		time.Sleep(pause)
		_, before := s.counts()
		s.http.CloseClientConnections()
		discoverytest.Eventually(t, "another watch", func() bool { _, now := s.counts(); return now > before })
		s.mu.Lock()
		heard := s.since == s.version
		s.mu.Unlock()
		if heard {
			break
		}
		if pause > 10*time.Second {
			t.Fatal("no watch begins at the bookmark")
		}
	}
	s.compact()
	s.http.CloseClientConnections()
	s.put("orders-0", ends("10.0.0.3"))
	discoverytest.Expect(t, w, "after a bookmark", "10.0.0.3:8080")
	if lists, _ := s.counts(); lists != 1 {
		t.Errorf("%d lists, want 1", lists)
	}
	s.restart(func() { s.put("orders-0", ends("10.0.0.4")); s.compact() })
	discoverytest.Expect(t, w, "after 410", "10.0.0.4:8080")
	discoverytest.ExpectError(t, w, "after 410", "")
	if lists, _ := s.counts(); lists != 2 {
		t.Errorf("%d lists, want 2", lists)
	}
}

// Whatever the server does wrong, the last good set stays, and the next truth is found.
func TestFaults(t *testing.T) {
	answer := func(text string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool { _, _ = w.Write([]byte(text)); return true }
	}
	ev := func(kind, object string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("watch") == "" {
				return false
			}
			fmt.Fprintf(w, `{"type":%q,"object":%s}`, kind, object)
			return true
		}
	}
	const head = `{"kind":"EndpointSlice","metadata":{"name":"x","resourceVersion":"1000","labels":{"kubernetes.io/service-name":"orders"}},`
	for name, f := range map[string]struct {
		do   func(w http.ResponseWriter, r *http.Request) bool
		says string
	}{
		"nothing":         {answer(""), ""},
		"garbage":         {answer("<html>it works"), "is broken"},
		"another list":    {answer(`{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":[]}`), ""},
		"an empty object": {answer(`{}`), ""},
		"half":            {answer(`{"kind":"EndpointSliceList","metadata":{"resourceVersion":"7"},"items":[{"kind":"EndpointS`), ""},
		"overload":        {func(w http.ResponseWriter, r *http.Request) bool { refuse(w, 503, "etcd is away"); return true }, "503: etcd is away"},
		"forbidden":       {func(w http.ResponseWriter, r *http.Request) bool { refuse(w, 403, "no access"); return true }, "403: no access"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return true
		}, "302"},
		"an unknown event": {ev("MOVED", head+`"addressType":"IPv4"}`), `"MOVED"`},
		"a bad address":    {ev("ADDED", head+`"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.256"]}]}`), "10.0.0.256"},
		"a wrong family":   {ev("ADDED", head+`"addressType":"IPv6","endpoints":[{"addresses":["10.0.0.6"]}]}`), "10.0.0.6"},
		"no address":       {ev("MODIFIED", head+`"addressType":"IPv4","endpoints":[{}]}`), "without an address"},
		"a bad port":       {ev("ADDED", head+`"addressType":"IPv4","ports":[{"port":70000}]}`), "70000"},
		"another service":  {ev("ADDED", strings.Replace(head, "orders", "billing", 1)+`"addressType":"IPv4"}`), "billing"},
		"no version":       {ev("ADDED", `{"metadata":{"name":"x"}}`), "without a version"},
		"a wrong type":     {ev("ADDED", `{"metadata":7}`), "is broken"},
		"an error":         {ev("ERROR", `{"kind":"Status","code":500,"message":"etcd is away"}`), "500: etcd is away"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			s.put("orders-0", ends("10.0.0.1", "10.0.0.2"))
			w := follow(t, s.conf(), plain(""))
			discoverytest.Expect(t, w, "at first", "10.0.0.1:8080, 10.0.0.2:8080")
			s.fail(f.do)
			s.compact() // lists too
			s.http.CloseClientConnections()
			discoverytest.Eventually(t, "an error", func() bool { return w.Status().Err != nil })
			if f.says != "" {
				discoverytest.ExpectError(t, w, "during the fault", f.says)
			}
			if got := discoverytest.Show(w.Endpoints()); got != "10.0.0.1:8080, 10.0.0.2:8080" {
				t.Errorf("during the fault: %s", got)
			}
			s.put("orders-0", ends("10.0.0.3"))
			s.fail(nil)
			discoverytest.Expect(t, w, "after the fault", "10.0.0.3:8080")
			discoverytest.ExpectError(t, w, "after the fault", "")
		})
	}
}

// A server that takes its time, or takes requests and says nothing, is waited for; Run ends all the same.
func TestSlow(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", ends("10.0.0.1"))
	var slow atomic.Bool
	s.fail(func(w http.ResponseWriter, r *http.Request) bool {
		for slow.Load() && r.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return false
	})
	slow.Store(true)
	w := follow(t, s.conf(), plain(""))
	time.Sleep(50 * time.Millisecond)
	if w.Ready() {
		t.Error("ready before there was an answer")
	}
	slow.Store(false)
	discoverytest.Expect(t, w, "late", "10.0.0.1:8080")
	slow.Store(true)
	s.http.CloseClientConnections()
	s.put("orders-0", ends("10.0.0.2"))
	slow.Store(false)
	discoverytest.Expect(t, w, "late again", "10.0.0.2:8080")
	slow.Store(true)
	s.http.CloseClientConnections() // and the test ends meanwhile
}

// The token and the authorities are read again.
func TestRotation(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", ends("10.0.0.1"))
	c := s.conf()
	w := follow(t, c, plain(""))
	discoverytest.Expect(t, w, "at first", "10.0.0.1:8080")
	s.mu.Lock()
	s.token = "second"
	s.mu.Unlock()
	s.http.CloseClientConnections()
	discoverytest.ExpectError(t, w, "with an old token", "401")
	good, err := os.ReadFile(c.Account + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, data string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(c.Account, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.crt", "nothing")
	discoverytest.ExpectError(t, w, "with bad roots", "no certificate")
	write("ca.crt", string(good)+string(good))
	write("token", "second")
	s.put("orders-0", ends("10.0.0.2"))
	discoverytest.Expect(t, w, "with the new token", "10.0.0.2:8080")
	if err := os.Remove(filepath.Join(c.Account, "token")); err != nil {
		t.Fatal(err)
	}
	s.http.CloseClientConnections()
	discoverytest.ExpectError(t, w, "without a token", "token: open ")
}

// A server that has lost what it knew is not believed at once.
func TestLosesAll(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", ends("10.0.0.1"))
	hasty := s.conf()
	hasty.Grace = 200 * time.Millisecond
	w, h := follow(t, s.conf(), plain("")), follow(t, hasty, plain(""))
	discoverytest.Expect(t, w, "at first", "10.0.0.1:8080")
	discoverytest.Expect(t, h, "at first", "10.0.0.1:8080")
	s.restart(func() { s.remove("orders-0"); s.compact() })
	discoverytest.ExpectError(t, w, "it is back with nothing", "the last ones stay")
	discoverytest.Expect(t, h, "it has had nothing for long enough", "")
	if got := discoverytest.Show(w.Endpoints()); got != "10.0.0.1:8080" {
		t.Errorf("it is back with nothing: %s", got)
	}
	s.put("orders-0", ends("10.0.0.2"))
	discoverytest.Expect(t, w, "it has found it again", "10.0.0.2:8080")
	discoverytest.ExpectError(t, w, "it has found it again", "")
}

// Slices change a hundred times while the server fails in every way; at the end the set is right, and it was never empty.
func TestChurn(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", ends("10.0.0.1"))
	var broken atomic.Int32
	s.fail(func(w http.ResponseWriter, r *http.Request) bool {
		switch broken.Load() {
		case 1:
			_, _ = w.Write([]byte(`{"kind":"EndpointSliceList"`))
		case 2:
			refuse(w, 500, "no")
		case 3:
			panic(http.ErrAbortHandler)
		default:
			return false
		}
		return true
	})
	w := follow(t, s.conf(), plain(""))
	discoverytest.Expect(t, w, "at first", "10.0.0.1:8080")
	stop := discoverytest.NeverEmpty(t, w)
	for i := range 100 {
		name := fmt.Sprintf("orders-%d", 1+rand.IntN(5))
		if s.slices[name] != nil && rand.IntN(3) == 0 {
			s.remove(name)
		} else {
			s.put(name, ends(fmt.Sprintf("10.0.1.%d", i), "10.0.2.1"))
		}
		switch rand.IntN(6) {
		case 0:
			s.http.CloseClientConnections()
		case 1:
			s.compact()
		case 2:
			broken.Store(rand.Int32N(4))
		}
		time.Sleep(2 * time.Millisecond)
	}
	broken.Store(0)
	s.put("orders-9", ends("10.9.9.9"))
	var want []string
	seen := make(map[string]bool)
	for _, o := range s.slices {
		for _, part := range strings.Split(string(o), `"`) {
			if a, err := netip.ParseAddr(part); err == nil && !seen[part] {
				seen[part] = true
				want = append(want, a.String())
			}
		}
	}
	discoverytest.Eventually(t, fmt.Sprintf("the set is %v", want), func() bool {
		got := discoverytest.Show(w.Endpoints())
		for _, a := range want {
			if !strings.Contains(got, a+":8080") {
				return false
			}
		}
		return len(w.Endpoints()) == len(want)
	})
	stop()
}

func TestMerge(t *testing.T) {
	mesh := discovery.Defaults{Port: 15008, Mesh: true, Identity: "spiffe://example.org/orders", Transport: proxy.Auto}
	ipv4 := func(ports string, endpoints ...string) string {
		return fmt.Sprintf(`"addressType":"IPv4","ports":[%s],"endpoints":[%s]`, ports, strings.Join(endpoints, ","))
	}
	ipv6 := func(ports string, endpoints ...string) string {
		return strings.Replace(ipv4(ports, endpoints...), "IPv4", "IPv6", 1)
	}
	const http, metrics, own = `{"name":"http","port":8080}`, `{"name":"metrics","port":9090}`, `{"name":"pillion","port":15555}`
	at := func(addr, rest string) string { return fmt.Sprintf(`{"addresses":[%q]%s}`, addr, rest) }
	cond := func(c string) string { return `,"conditions":{` + c + `}` }
	pod := func(name string) string {
		return fmt.Sprintf(`,"targetRef":{"kind":"Pod","namespace":"shop","name":%q,"uid":"u"}`, name)
	}
	zone := func(z string, hints ...string) string {
		return fmt.Sprintf(`,"zone":%q,"hints":{"forZones":[{"name":"%s"}]}`, z, strings.Join(hints, `"},{"name":"`))
	}
	const both = " spiffe://example.org/orders auto"
	for name, c := range map[string]struct {
		conf   Config
		target Target
		slices []string
		want   string
		err    string
		flaw   string
	}{
		"ready by default":                 {slices: []string{ipv4(http, at("10.0.0.1", ""), at("10.0.0.2", cond(`"ready":false`)))}, want: "10.0.0.1:8080"},
		"serving counts only when leaving": {slices: []string{ipv4(http, at("10.0.0.2", cond(`"ready":false,"serving":true`)))}},
		"leaving beside ready":             {slices: []string{ipv4(http, at("10.0.0.1", cond(`"ready":true`)), at("10.0.0.2", cond(`"ready":false,"serving":true,"terminating":true`)))}, want: "10.0.0.1:8080"},
		"leaving alone": {slices: []string{ipv4(http, at("10.0.0.1", cond(`"ready":false,"serving":true,"terminating":true`)), at("10.0.0.2", cond(`"ready":false,"serving":false,"terminating":true`)),
			at("10.0.0.3", cond(`"ready":false,"terminating":true`)))}, want: "10.0.0.1:8080"},
		"leaving and ready in two slices": {slices: []string{ipv4(http, at("10.0.0.1", cond(`"ready":false,"serving":true,"terminating":true`))), ipv4(http, at("10.0.0.1", ""))}, want: "10.0.0.1:8080"},
		"the first address of many":       {slices: []string{ipv4(http, `{"addresses":["10.0.0.1","10.0.0.2"]}`)}, want: "10.0.0.1:8080"},
		"a name of a port":                {target: plain("metrics"), slices: []string{ipv4(http+","+metrics, at("10.0.0.1", ""))}, want: "10.0.0.1:9090"},
		"another number in another slice": {target: plain("http"), slices: []string{ipv4(http, at("10.0.0.1", "")), ipv4(`{"name":"http","port":8081}`, at("10.0.0.2", ""))}, want: "10.0.0.1:8080, 10.0.0.2:8081"},
		"a slice without the port":        {target: plain("http"), slices: []string{ipv4(http, at("10.0.0.1", "")), ipv4(metrics, at("10.0.0.2", ""))}, want: "10.0.0.1:8080"},
		"no slice with the port":          {target: plain("grpc"), slices: []string{ipv4(http, at("10.0.0.1", ""))}, err: `no port "grpc", but "http" (8080)`},
		"no endpoints, so no port needed": {target: plain("grpc"), slices: []string{ipv4("")}},
		"too many ports":                  {slices: []string{ipv4(http+","+metrics, at("10.0.0.1", ""))}, err: "name one"},
		"any port":                        {slices: []string{ipv4(`{"name":""}`, at("10.0.0.1", ""))}, err: "name one"},
		"a number":                        {target: plain("9999"), slices: []string{ipv4("", at("10.0.0.1", ""))}, want: "10.0.0.1:9999"},
		"beside the sidecars' port":       {slices: []string{ipv4(http+","+own, at("10.0.0.1", ""))}, want: "10.0.0.1:8080"},

		"sidecars":                      {target: Target{Defaults: mesh}, slices: []string{ipv4(http, at("10.0.0.1", ""))}, want: "10.0.0.1:15008" + both},
		"sidecars' own port":            {target: Target{Defaults: mesh}, slices: []string{ipv4(http+","+own, at("10.0.0.1", ""))}, want: "10.0.0.1:15555" + both},
		"sidecars' port by number":      {target: Target{Defaults: mesh, Port: "16000"}, slices: []string{ipv4(own, at("10.0.0.1", ""))}, want: "10.0.0.1:16000" + both},
		"sidecars' port by name":        {target: Target{Defaults: mesh, Port: "http"}, slices: []string{ipv4(http, at("10.0.0.1", ""))}, want: "10.0.0.1:8080" + both},
		"no sidecar":                    {target: Target{Defaults: mesh}, slices: []string{`"pillion-proxy/mesh":"false"|` + ipv4(http, at("10.0.0.1", ""))}, err: "without encryption"},
		"no sidecar in one slice":       {target: Target{Defaults: mesh}, slices: []string{`"pillion-proxy/mesh":"false"|` + ipv4(http, at("10.0.0.1", "")), ipv4(http, at("10.0.0.2", ""))}, want: "10.0.0.2:15008" + both, flaw: "without encryption"},
		"a sidecar, where none is used": {target: plain("8080"), slices: []string{`"pillion-proxy/mesh":"true"|` + ipv4(http+","+own, at("10.0.0.1", ""))}, want: "10.0.0.1:8080"},
		"a transport":                   {target: Target{Defaults: mesh}, slices: []string{`"pillion-proxy/transport":"quic"|` + ipv4(http, at("10.0.0.1", ""))}, want: "10.0.0.1:15008 spiffe://example.org/orders quic"},
		"a transport that is none":      {target: Target{Defaults: mesh}, slices: []string{`"pillion-proxy/transport":"pigeon"|` + ipv4(http, at("10.0.0.1", ""))}, err: "pigeon"},
		"a weight":                      {slices: []string{`"pillion-proxy/weight":"7"|` + ipv4(http, at("10.0.0.1", ""))}, want: "10.0.0.1:8080 weight 7"},

		"two families":         {slices: []string{ipv4(http, at("10.0.0.1", pod("a")), at("10.0.0.2", "")), ipv6(http, at("2001:db8::1", pod("a")), at("2001:db8::2", pod("b")))}, want: "10.0.0.1:8080, 10.0.0.2:8080, [2001:db8::2]:8080"},
		"two families, IPv6":   {conf: Config{IPv6: true}, slices: []string{ipv4(http, at("10.0.0.1", pod("a")), at("10.0.0.2", pod("c"))), ipv6(http, at("2001:db8::1", pod("a")), at("2001:db8::2", pod("b")))}, want: "10.0.0.2:8080, [2001:db8::1]:8080, [2001:db8::2]:8080"},
		"names for addresses":  {slices: []string{strings.Replace(ipv4(http, at("orders.example.com", "")), "IPv4", "FQDN", 1)}},
		"zones":                {slices: []string{ipv4(http, at("10.0.0.1", zone("a", "a")), at("10.0.0.2", zone("b", "b")))}, want: "10.0.0.1:8080 in a, 10.0.0.2:8080 in b"},
		"hints":                {conf: Config{Zone: "a"}, slices: []string{ipv4(http, at("10.0.0.1", zone("a", "c", "a")), at("10.0.0.2", zone("b", "b")))}, want: "10.0.0.1:8080 in a, 10.0.0.2:8080 in b priority 1"},
		"hints for others":     {conf: Config{Zone: "z"}, slices: []string{ipv4(http, at("10.0.0.1", zone("a", "a")), at("10.0.0.2", zone("b", "b")))}, want: "10.0.0.1:8080 in a, 10.0.0.2:8080 in b"},
		"not all have a hint":  {conf: Config{Zone: "a"}, slices: []string{ipv4(http, at("10.0.0.1", zone("a", "a")), at("10.0.0.2", `,"zone":"b"`))}, want: "10.0.0.1:8080 in a, 10.0.0.2:8080 in b"},
		"an endpoint not used": {conf: Config{Zone: "a"}, slices: []string{ipv4(http, at("10.0.0.1", zone("a", "a")), at("10.0.0.2", cond(`"ready":false`)))}, want: "10.0.0.1:8080 in a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			for i, y := range c.slices {
				s.put(fmt.Sprintf("orders-%d", i), y)
			}
			conf := s.conf()
			conf.Zone, conf.IPv6 = c.conf.Zone, c.conf.IPv6
			c.target.Name = "orders"
			w := follow(t, conf, c.target)
			if c.err != "" {
				discoverytest.ExpectError(t, w, name, c.err)
				if w.Ready() {
					t.Errorf("endpoints %s, want none yet", discoverytest.Show(w.Endpoints()))
				}
				return
			}
			discoverytest.Expect(t, w, name, c.want)
			if c.flaw != "" {
				discoverytest.Eventually(t, c.flaw, func() bool { flaw := w.Status().Flaw; return flaw != nil && strings.Contains(flaw.Error(), c.flaw) })
			}
		})
	}
}

func TestLabels(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", `"app.kubernetes.io/version":"v2","team":"shop","endpointslice.kubernetes.io/managed-by":"x","pillion-proxy/weight":"3"|`+
		fmt.Sprintf(one, `{"addresses":["10.0.0.1"],"nodeName":"n1","hostname":"orders-0","targetRef":{"kind":"Pod","namespace":"shop","name":"orders-x","uid":"u"}},{"addresses":["10.0.0.2"]}`))
	w := follow(t, s.conf(), plain(""))
	discoverytest.Expect(t, w, "at first", "10.0.0.1:8080 weight 3, 10.0.0.2:8080 weight 3")
	const slice = "app.kubernetes.io/version=v2,"
	if got, want := w.Endpoints()[0].Labels, slice+"hostname=orders-0,node=n1,pod=orders-x,team=shop"; got != want {
		t.Errorf("labels %q, want %q", got, want)
	}
	if got, want := w.Endpoints()[1].Labels, slice+"team=shop"; got != want {
		t.Errorf("labels %q, want %q", got, want)
	}
}

func TestKubeconfig(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", ends("10.0.0.1"))
	dir := s.account()
	whole := `
current-context: other
contexts:
- {name: other, context: {cluster: away, user: me}}
- {name: here, context: {cluster: near, user: me, namespace: shop}}
- {name: program, context: {cluster: near, user: exec}}
- {name: proxied, context: {cluster: proxied, user: me}}
- {name: nobody, context: {cluster: near, user: nobody}}
clusters:
- {name: away, cluster: {server: "https://192.0.2.1:6443"}}
- {name: near, cluster: {server: "` + s.http.URL + `", certificate-authority: ca.crt}}
- {name: proxied, cluster: {server: "` + s.http.URL + `", proxy-url: "http://127.0.0.1:1"}}
users:
- {name: me, user: {token: first}}
- {name: exec, user: {exec: {command: aws}}}
`
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	w := follow(t, Config{Kubeconfig: path, Context: "here"}, plain(""))
	discoverytest.Expect(t, w, "by kubeconfig", "10.0.0.1:8080")
	for _, c := range []struct {
		conf Config
		want string
	}{
		{Config{Kubeconfig: path, Context: "nowhere"}, `no context "nowhere"`},
		{Config{Kubeconfig: path, Context: "program"}, "another program"},
		{Config{Kubeconfig: path, Context: "proxied"}, "through a proxy"},
		{Config{Kubeconfig: path, Context: "nobody"}, `no user "nobody"`},
		{Config{Kubeconfig: path + "x"}, "no such file"},
		{Config{Kubeconfig: filepath.Join(dir, "ca.crt")}, "kubeconfig"},
		{Config{Getenv: func(string) string { return "" }}, "this is no pod"},
		{Config{Address: "10.0.0.1:6443"}, "address of the API server"},
		{Config{Address: "ftp://10.0.0.1"}, "not of the form"},
	} {
		if _, err := New(c.conf); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%+v) = %v, want %q", c.conf.Context, err, c.want)
		}
	}
}

// A proxy of kubectl's is reached without TLS and without a token.
func TestPlainAddress(t *testing.T) {
	s := newAPIServer(t)
	s.put("orders-0", ends("10.0.0.1"))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token was sent")
		}
		r.Header.Set("Authorization", "Bearer first")
		s.ServeHTTP(w, r)
	}))
	defer h.Close()
	w := follow(t, Config{Address: h.URL, Namespace: "shop"}, plain(""))
	discoverytest.Expect(t, w, "without TLS", "10.0.0.1:8080")
	s.put("orders-0", ends("10.0.0.2"))
	discoverytest.Expect(t, w, "without TLS", "10.0.0.2:8080")
	h.CloseClientConnections()
}

func FuzzSlice(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"x","labels":{"kubernetes.io/service-name":"orders"}},"addressType":"IPv4","ports":[{"port":80}],"endpoints":[{"addresses":["10.0.0.1"]}]}`))
	f.Add([]byte(`{"metadata":{"name":"x","resourceVersion":"1","labels":{"kubernetes.io/service-name":"orders"}},"addressType":"IPv6","endpoints":[{"addresses":["::1"],"hints":{}}]}`))
	cluster, err := New(Config{Address: "https://192.0.2.1", Zone: "a"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &Resolver{cluster: cluster, target: plain("")}
		w := &watch{Resolver: r, slices: make(map[string]*slice), version: "1"}
		changed, err := w.apply(&event{Type: "ADDED", Object: data})
		if err != nil && (changed || len(w.slices) > 0) {
			t.Errorf("apply = %v, %v and slices %v", changed, err, w.slices)
		}
		set, _ := r.merge(w.slices)
		for i := range set {
			if err := discovery.Check(&set[i]); err != nil {
				t.Error(err)
			}
		}
	})
}
