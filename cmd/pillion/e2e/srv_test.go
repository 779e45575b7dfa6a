//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// namedApp is an HTTP app that answers with its name.
func namedApp(t *testing.T, name, addr string) (stop func()) {
	t.Helper()
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name) }))
	app.Listener.Close()
	eventually(t, 20*time.Second, addr+" is free", func() bool {
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			app.Listener = ln
		}
		return err == nil
	})
	app.Start()
	t.Cleanup(app.Close)
	return app.Close
}

// answering is who answers at the sidecar's port now, or why nobody does.
func answering(addr string) string {
	resp, err := getOnce("http://" + addr + "/")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(b))
}

// known are the addresses that the sidecar knows of its only service, with their priorities, and what it says is wrong.
func known(s *sidecar) (endpoints []string, problem string) {
	svc := s.status().Services[0]
	for _, e := range svc.Endpoints {
		endpoints = append(endpoints, fmt.Sprintf("%s/%d", e.Address, e.Priority))
	}
	slices.Sort(endpoints)
	return endpoints, svc.Error
}

// SRV records of a real server are followed while they change, and outlive every failure of the server.
func TestSRVRecordsUnderChange(t *testing.T) {
	if *direct {
		return
	}
	first, second, third := freeAddr(t), freeAddr(t), freeAddr(t)
	port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	bind := newNamed(t, 1, fmt.Sprintf("a A 127.0.0.1\nb A 127.0.0.1\nc A 127.0.0.1\n_app._tcp SRV 10 1 %s a\n_app._tcp SRV 20 1 %s b", port(first), port(second)))
	stopFirst := namedApp(t, "first", first)
	namedApp(t, "second", second)
	namedApp(t, "third", third)
	local := freeAddr(t)
	a := newSidecar(t, "A", fmt.Sprintf("service: web\noutbound: {listen: %q, dns: \"127.94.%d.53:53\", dns_forward: [%q]}\n"+
		"services:\n  app: {endpoints: \"srv:_app._tcp.example.test.\", mesh: false, listen: %q}\n", freeAddr(t), rand.IntN(250), bind.addr, local), newAuthority(t).issue(leaf{name: "web"}))
	a.ready()
	expect := func(when string, want ...string) {
		t.Helper()
		slices.Sort(want)
		eventually(t, 60*time.Second, fmt.Sprintf("%s: endpoints %v", when, want), func() bool {
			got, _ := known(a)
			return slices.Equal(got, want)
		})
	}
	answers := func(when, want string) {
		t.Helper()
		eventually(t, 30*time.Second, when+": an answer of "+want, func() bool { return answering(local) == want })
	}
	expect("at first", first+"/10", second+"/20")
	for range 20 {
		if got := answering(local); got != "first" {
			t.Fatalf("%q answers while the lowest priority can be reached, want first", got)
		}
	}
	stopFirst()
	answers("the lowest priority is down", "second")
	namedApp(t, "first", first)
	answers("it is back", "first")

	// From here on there is always an endpoint, whatever happens.
	watching := watchEmpty(t, a)
	bind.update(t, "delete _app._tcp SRV 10 1 "+port(first)+" a.example.test.", "add _app._tcp 1 SRV 10 1 "+port(third)+" c.example.test.")
	expect("a record replaced", third+"/10", second+"/20")
	answers("a record replaced", "third")
	for i := range 10 { // faster than any TTL: only the last state need be seen
		verb := []string{"add", "delete"}[i%2]
		ttl := map[string]string{"add": "1 ", "delete": ""}[verb]
		bind.update(t, verb+" _app._tcp "+ttl+"SRV 5 1 "+port(first)+" a.example.test.")
	}
	bind.update(t, "add _app._tcp 1 SRV 5 1 "+port(first)+" a.example.test.")
	expect("after ten changes", first+"/5", third+"/10", second+"/20")

	// More than one datagram holds.
	var many, endpoints []string
	for i := range 80 { // BIND refuses more than 100
		many = append(many, fmt.Sprintf("add _app._tcp 1 SRV 30 1 %d a.example.test.", 40000+i))
		endpoints = append(endpoints, fmt.Sprintf("127.0.0.1:%d/30", 40000+i))
	}
	bind.update(t, many...)
	expect("eighty more", append(endpoints, first+"/5", third+"/10", second+"/20")...)
	for i := range many {
		many[i] = strings.Replace(many[i], "add _app._tcp 1 SRV", "delete _app._tcp SRV", 1)
	}
	bind.update(t, many...)
	usual := []string{first + "/5", third + "/10", second + "/20"}
	expect("and gone again", usual...)

	bind.kill()
	fails := func(when string) {
		t.Helper()
		eventually(t, 60*time.Second, when+": status says so", func() bool { _, problem := known(a); return problem != "" })
		expect(when, usual...)
		answers(when, "first")
	}
	fails("the server is gone")
	for name, answer := range map[string]func([]byte) []byte{
		"garbage":  func(q []byte) []byte { return []byte("this is no DNS") },
		"SERVFAIL": func(q []byte) []byte { q[2] |= 0x80; q[3] = 2; return q },
		"silence":  func([]byte) []byte { return nil },
		"a cut answer": func(q []byte) []byte {
			q[2] |= 0x84
			q[7] = 1 // one answer, which is missing
			return q
		},
	} {
		stop := fakeServer(t, bind.addr, answer)
		fails(name)
		stop()
	}
	bind.start(t)
	bind.update(t, "delete _app._tcp SRV 5 1 "+port(first)+" a.example.test.")
	expect("the server is back, with another answer", third+"/10", second+"/20")
	eventually(t, 30*time.Second, "status without a problem", func() bool { _, problem := known(a); return problem == "" })
	// A host that leaves takes its endpoints with it, once that is no hiccup: after 30 seconds. The others stay.
	bind.update(t, "delete c A")
	expect("a host is gone", second+"/20")
	answers("a host is gone", "second")
	watching()
}

// watchEmpty fails the test if the service of s is ever without endpoints until the returned function is called.
func watchEmpty(t *testing.T, s *sidecar) (stop func()) {
	t.Helper()
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
			}
			resp, err := getOnce("http://" + s.admin + "/status")
			if err != nil {
				continue
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if strings.Contains(string(b), `"endpoints":null`) || strings.Contains(string(b), `"endpoints":[]`) {
				t.Errorf("a service without endpoints: %s", b)
				return
			}
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { close(over) }); watching.Wait() }
	t.Cleanup(stop)
	return stop
}

// fakeServer answers DNS questions at addr, over UDP, until stop.
func fakeServer(t *testing.T, addr string, answer func(query []byte) []byte) (stop func()) {
	t.Helper()
	var nc net.PacketConn
	eventually(t, 20*time.Second, addr+" is free", func() (ok bool) {
		var err error
		nc, err = net.ListenPacket("udp", addr)
		return err == nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, from, err := nc.ReadFrom(b)
			if err != nil {
				return
			}
			if out := answer(b[:n]); out != nil {
				_, _ = nc.WriteTo(out, from)
			}
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { nc.Close() }); <-done }
	t.Cleanup(stop)
	return stop
}
