package xds

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/discoverytest"
	"github.com/pillion-proxy/pillion/proxy"
)

func (p *plane) conf(mode Mode) Config {
	return Config{Server: p.addr, Mode: mode, Node: Node{ID: "web-1", Cluster: "web", Region: "r", Zone: "a"}, Grace: time.Hour, Retry: 10 * time.Millisecond, Patience: 2 * time.Second}
}

func newClient(t *testing.T, c Config) *Client {
	t.Helper()
	cl, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if len(cl.subs) > 0 || cl.session != nil {
			t.Errorf("%d subscriptions are left", len(cl.subs))
		}
	})
	return cl
}

// follow runs a Watcher of one cluster until the test ends, or stop.
func follow(t *testing.T, c *Client, cluster string, d discovery.Defaults) (w *discovery.Watcher, stop func()) {
	t.Helper()
	r, err := c.Resolver(cluster, d)
	if err != nil {
		t.Fatal(err)
	}
	return discoverytest.Watch(t, r)
}

// followed is a plane with one cluster, and who follows it.
func followed(t *testing.T, mode Mode) (*plane, *discovery.Watcher) {
	t.Helper()
	p := newPlane(t)
	p.put("orders", in("a", at("10.0.0.1", 80)))
	w, _ := follow(t, newClient(t, p.conf(mode)), "orders", none)
	discoverytest.Expect(t, w, "at first", "10.0.0.1:80 in a")
	return p, w
}

func both(t *testing.T, f func(t *testing.T, mode Mode)) {
	for name, mode := range map[string]Mode{"delta": Delta, "state": State} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, mode)
		})
	}
}

var none discovery.Defaults

func TestFollows(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p := newPlane(t)
		p.put("orders", in("a", at("10.0.0.1", 80)))
		p.put("unwanted", in("a", at("10.9.9.9", 80)))
		c := newClient(t, p.conf(mode))
		orders, _ := follow(t, c, "orders", none)
		discoverytest.Expect(t, orders, "at first", "10.0.0.1:80 in a")
		p.put("orders", in("a", at("10.0.0.1", 80)), in("b", at("2001:db8::1", 81)))
		discoverytest.Expect(t, orders, "another locality", "10.0.0.1:80 in a, [2001:db8::1]:81 in b")
		p.put("orders")
		discoverytest.Expect(t, orders, "an assignment without endpoints", "")
		discoverytest.ExpectError(t, orders, "an assignment without endpoints", "")
		p.put("orders", in("a", at("10.0.0.2", 80)))
		discoverytest.Expect(t, orders, "back", "10.0.0.2:80 in a")
		// A second cluster, and its end, on the same stream.
		p.put("billing", in("c", at("10.0.1.1", 80)))
		billing, stop := follow(t, c, "billing", none)
		discoverytest.Expect(t, billing, "a second cluster", "10.0.1.1:80 in c")
		p.put("billing", in("c", at("10.0.1.2", 80)))
		discoverytest.Expect(t, billing, "a second cluster changes", "10.0.1.2:80 in c")
		stop()
		p.put("billing", in("c", at("10.0.1.3", 80)))
		p.put("orders", in("a", at("10.0.0.3", 80)))
		discoverytest.Expect(t, orders, "the other has gone", "10.0.0.3:80 in a")
		again, _ := follow(t, c, "billing", none)
		discoverytest.Expect(t, again, "watched again", "10.0.1.3:80 in c")
		p.heard(func() bool {
			if p.streams != 1 || len(p.nacks) > 0 {
				t.Errorf("%d streams, refusals %q; want one, and none", p.streams, p.nacks)
			}
			if n := p.nodes[0]; n.Id != "web-1" || n.Cluster != "web" || n.Locality.GetRegion() != "r" || n.Locality.GetZone() != "a" || n.UserAgentName != "pillion" {
				t.Errorf("node %v", n)
			}
			return true
		})
		if mode == State {
			discoverytest.Eventually(t, "an acknowledgement of the last version", func() bool {
				return p.heard(func() bool { return strings.Contains(strings.Join(p.acks, " "), fmt.Sprint(p.version)) })
			})
		}
	})
}

// A cluster that ends, ends at once; one that is missing after a reconnect may come yet.
func TestEnds(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p := newPlane(t)
		p.put("orders", in("a", at("10.0.0.1", 80)))
		p.put("other", in("a", at("10.0.0.9", 80)))
		conf := p.conf(mode)
		w, _ := follow(t, newClient(t, conf), "orders", none)
		discoverytest.Expect(t, w, "at first", "10.0.0.1:80 in a")
		p.remove("orders")
		discoverytest.Expect(t, w, "the cluster has ended", "")
		p.put("orders", in("a", at("10.0.0.1", 80)))
		discoverytest.Expect(t, w, "the cluster is back", "10.0.0.1:80 in a")
		p.stop()
		discoverytest.ExpectError(t, w, "the server is gone", "connection refused")
		p.remove("orders")
		p.start()
		discoverytest.ExpectError(t, w, "the server is back without it", "no longer has it")
		if got := discoverytest.Show(w.Endpoints()); got != "10.0.0.1:80 in a" {
			t.Errorf("the server is back without it: endpoints %s", got)
		}
		p.put("orders", in("a", at("10.0.0.2", 80)))
		discoverytest.Expect(t, w, "it has come", "10.0.0.2:80 in a")
		discoverytest.ExpectError(t, w, "it has come", "")

		conf.Grace = 50 * time.Millisecond
		hasty, _ := follow(t, newClient(t, conf), "orders", none)
		discoverytest.Expect(t, hasty, "another client", "10.0.0.2:80 in a")
		p.stop()
		p.remove("orders")
		p.start()
		discoverytest.Expect(t, hasty, "it has been missing for long enough", "")
	})
}

// After a restart the client says what it has, and hears only of what has changed.
func TestReconnects(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p, w := followed(t, mode)
		p.stop()
		discoverytest.ExpectError(t, w, "the server is gone", "connection refused")
		p.start()
		discoverytest.ExpectError(t, w, "the server is back", "")
		p.heard(func() bool {
			if mode == Delta {
				for _, r := range p.deltas[2:] {
					if len(r.InitialResourceVersions) != 1 || r.InitialResourceVersions["orders"] == "" || len(r.ResourceNamesSubscribe) != 1 {
						t.Errorf("a first request after a reconnect: %v", r)
					}
				}
				return true
			}
			for _, r := range p.states[2:] {
				if r.VersionInfo != "1" || len(r.ResourceNames) != 1 {
					t.Errorf("a first request after a reconnect: %v", r)
				}
			}
			return true
		})
		p.put("orders", in("a", at("10.0.0.2", 80)))
		discoverytest.Expect(t, w, "a change after a reconnect", "10.0.0.2:80 in a")
		for range 5 {
			p.stop()
			p.start()
		}
		p.put("orders", in("a", at("10.0.0.3", 80)))
		discoverytest.Expect(t, w, "a change after five", "10.0.0.3:80 in a")
	})
}

// A cluster that names another assignment keeps its endpoints until that has come.
func TestWarms(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p := newPlane(t)
		p.clusters["orders"] = edsCluster("orders", "v1")
		p.endpoints["v1"] = assign("v1", in("a", at("10.0.0.1", 80)))
		p.publish()
		w, _ := follow(t, newClient(t, p.conf(mode)), "orders", none)
		discoverytest.Expect(t, w, "at first", "10.0.0.1:80 in a")
		p.clusters["orders"] = edsCluster("orders", "v2")
		delete(p.endpoints, "v1")
		p.publish()
		discoverytest.Eventually(t, "an error while the assignment is missing", func() bool { return w.Status().Err != nil })
		if got := discoverytest.Show(w.Endpoints()); got != "10.0.0.1:80 in a" {
			t.Errorf("while the assignment is missing: endpoints %s", got)
		}
		p.endpoints["v2"] = assign("v2", in("a", at("10.0.0.2", 80)))
		p.publish()
		discoverytest.Expect(t, w, "once it has come", "10.0.0.2:80 in a")
		discoverytest.ExpectError(t, w, "once it has come", "")
		static := edsCluster("orders", "")
		static.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		static.LoadAssignment = assign("orders", in("s", at("10.0.0.3", 80)))
		p.clusters["orders"] = static
		p.publish()
		discoverytest.Expect(t, w, "with endpoints of its own", "10.0.0.3:80 in s")
	})
}

// What is wrong is refused with its reason, and changes nothing; what is beside it counts.
func TestRefuses(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p := newPlane(t)
		p.put("orders", in("a", at("10.0.0.1", 80)))
		p.put("billing", in("a", at("10.0.1.1", 80)))
		c := newClient(t, p.conf(mode))
		orders, _ := follow(t, c, "orders", none)
		billing, _ := follow(t, c, "billing", none)
		discoverytest.Expect(t, orders, "at first", "10.0.0.1:80 in a")
		discoverytest.Expect(t, billing, "at first", "10.0.1.1:80 in a")
		high := in("a", at("10.0.0.2", 80))
		high.Priority = 129
		dns := edsCluster("orders", "")
		dns.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		i := 1
		for says, bad := range map[string]func(){
			"orders.internal": func() { p.endpoints["orders"] = assign("orders", in("a", at("orders.internal", 80))) },
			"port is 0":       func() { p.endpoints["orders"] = assign("orders", in("a", at("10.0.0.2", 0))) },
			"priority 129":    func() { p.endpoints["orders"] = assign("orders", high) },
			"is no port": func() {
				p.endpoints["orders"] = assign("orders", in("a", saying(at("10.0.0.2", 80), map[string]any{"port": "web"})))
			},
			"STRICT_DNS": func() { p.clusters["orders"] = dns },
		} {
			i++
			bad()
			p.endpoints["billing"] = assign("billing", in("a", at(fmt.Sprintf("10.0.1.%d", i), 80)))
			p.publish()
			discoverytest.ExpectError(t, orders, says, says)
			discoverytest.Expect(t, billing, says, fmt.Sprintf("10.0.1.%d:80 in a", i))
			discoverytest.ExpectError(t, billing, says, "")
			discoverytest.Eventually(t, "a refusal because of "+says, func() bool {
				return p.heard(func() bool { return strings.Contains(strings.Join(p.nacks, "\n"), says) })
			})
			if got := discoverytest.Show(orders.Endpoints()); got != "10.0.0.1:80 in a" {
				t.Errorf("%s: endpoints %s", says, got)
			}
			p.put("orders", in("a", at("10.0.0.1", 80)))
			discoverytest.ExpectError(t, orders, "after "+says, "")
		}
		p.put("orders", in("a", at("10.0.0.7", 80)))
		discoverytest.Expect(t, orders, "in the end", "10.0.0.7:80 in a")
	})
}

func TestUnknownCluster(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p := newPlane(t)
		p.put("other", in("a", at("10.0.0.1", 80)))
		conf := p.conf(mode)
		conf.Patience = 100 * time.Millisecond
		w, _ := follow(t, newClient(t, conf), "orders", none)
		discoverytest.Eventually(t, "an error", func() bool { return w.Status().Err != nil })
		if w.Ready() {
			t.Errorf("ready with %s", discoverytest.Show(w.Endpoints()))
		}
		p.put("orders", in("a", at("10.0.0.1", 80)))
		discoverytest.Expect(t, w, "the cluster comes", "10.0.0.1:80 in a")
		discoverytest.ExpectError(t, w, "the cluster comes", "")
	})
}

func TestFallsBack(t *testing.T) {
	p := newPlane(t, grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		if strings.Contains(info.FullMethod, "Delta") {
			return status.Error(codes.Unimplemented, "no delta")
		}
		return h(srv, s)
	}))
	p.put("orders", in("a", at("10.0.0.1", 80)))
	w, _ := follow(t, newClient(t, p.conf(Auto)), "orders", none)
	discoverytest.Expect(t, w, "without delta", "10.0.0.1:80 in a")
	p.put("orders", in("a", at("10.0.0.2", 80)))
	discoverytest.Expect(t, w, "without delta", "10.0.0.2:80 in a")
}

func TestSet(t *testing.T) {
	mesh := discovery.Defaults{Port: 15008, Mesh: true, Identity: "spiffe://example.org/orders", Transport: proxy.Auto}
	pinned := mesh
	pinned.Pinned = true
	priority := func(l *endpointv3.LocalityLbEndpoints, n uint32) *endpointv3.LocalityLbEndpoints {
		l.Priority = n
		return l
	}
	share := func(l *endpointv3.LocalityLbEndpoints, n uint32) *endpointv3.LocalityLbEndpoints {
		l.LoadBalancingWeight = wrapperspb.UInt32(n)
		return l
	}
	type locs []*endpointv3.LocalityLbEndpoints
	pipe := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/app.sock"}}}}}}
	for name, c := range map[string]struct {
		d         discovery.Defaults
		of        locs
		want      string
		err, flaw string
	}{
		"health": {of: locs{in("a", health(at("10.0.0.1", 80), corev3.HealthStatus_HEALTHY), at("10.0.0.2", 80), health(at("10.0.0.3", 80), corev3.HealthStatus_UNHEALTHY),
			health(at("10.0.0.4", 80), corev3.HealthStatus_DRAINING), health(at("10.0.0.5", 80), corev3.HealthStatus_TIMEOUT), health(at("10.0.0.6", 80), corev3.HealthStatus_DEGRADED))},
			want: "10.0.0.1:80 in a, 10.0.0.2:80 in a, 10.0.0.6:80 in a priority 1"},
		"priorities":           {of: locs{in("a", at("10.0.0.1", 80), health(at("10.0.0.2", 80), corev3.HealthStatus_DEGRADED)), priority(in("b", at("10.0.0.3", 80)), 1)}, want: "10.0.0.1:80 in a, 10.0.0.2:80 in a priority 2, 10.0.0.3:80 in b priority 1"},
		"weights":              {of: locs{in("a", weighing(at("10.0.0.1", 80), 3), at("10.0.0.2", 80))}, want: "10.0.0.1:80 in a weight 3, 10.0.0.2:80 in a"},
		"large weights":        {of: locs{in("a", weighing(at("10.0.0.1", 80), 4_000_000_000), weighing(at("10.0.0.2", 80), 1))}, want: "10.0.0.1:80 in a weight 10000, 10.0.0.2:80 in a"},
		"weights of zones":     {of: locs{share(in("a", at("10.0.0.1", 80), at("10.0.0.2", 80)), 1), share(in("b", at("10.0.0.3", 80)), 2)}, want: "10.0.0.1:80 in a weight 2500, 10.0.0.2:80 in a weight 2500, 10.0.0.3:80 in b weight 10000"},
		"a zone without":       {of: locs{share(in("a", at("10.0.0.1", 80)), 1), in("b", at("10.0.0.3", 80))}, want: "10.0.0.1:80 in a weight 10000"},
		"a region":             {of: locs{in("", at("10.0.0.1", 80))}, want: "10.0.0.1:80 in r"},
		"sidecars":             {d: mesh, of: locs{in("", at("10.0.0.1", 15008))}, want: "10.0.0.1:15008 spiffe://example.org/orders auto in r"},
		"whom to expect":       {d: mesh, of: locs{in("a", saying(at("10.0.0.1", 80), map[string]any{"port": 15555, "identity": "spiffe://example.org/x", "transport": "quic"}))}, want: "10.0.0.1:15555 spiffe://example.org/x quic in a"},
		"not whom it says":     {d: pinned, of: locs{in("a", saying(at("10.0.0.1", 80), map[string]any{"identity": "spiffe://example.org/x"}))}, err: "the configuration wants"},
		"no sidecar":           {d: mesh, of: locs{in("a", saying(at("10.0.0.1", 80), map[string]any{"mesh": false}))}, err: "without encryption"},
		"no sidecar in places": {d: mesh, of: locs{in("a", saying(at("10.0.0.1", 80), map[string]any{"mesh": false}), at("10.0.0.2", 80))}, want: "10.0.0.2:80 spiffe://example.org/orders auto in a", flaw: "without encryption"},
		"a socket":             {of: locs{in("a", pipe)}, want: "unix:/run/app.sock in a"},
		"a socket, sidecars":   {d: mesh, of: locs{in("a", pipe)}, err: "a Unix socket cannot be a sidecar's"},
		"IPv4 in IPv6":         {of: locs{in("a", at("::ffff:10.0.0.1", 80))}, want: "10.0.0.1:80 in a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t)
			p.put("orders", c.of...)
			w, _ := follow(t, newClient(t, p.conf(Auto)), "orders", c.d)
			if c.err != "" {
				discoverytest.ExpectError(t, w, name, c.err)
				return
			}
			discoverytest.Expect(t, w, name, c.want)
			discoverytest.ExpectError(t, w, name, "")
			discoverytest.Eventually(t, "flaw "+c.flaw, func() bool {
				flaw := w.Status().Flaw
				return c.flaw == "" && flaw == nil || c.flaw != "" && flaw != nil && strings.Contains(flaw.Error(), c.flaw)
			})
		})
	}
}

func TestLabels(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p := newPlane(t)
		labelled, err := structpb.NewStruct(map[string]any{"version": "v2", "shard": 7, "canary": true, "many": []any{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		e := saying(at("10.0.0.1", 80), nil)
		e.Metadata.FilterMetadata["envoy.lb"] = labelled
		where := in("a", e, at("10.0.0.2", 80))
		where.Locality.SubZone = "rack-1"
		p.put("orders", where)
		w, _ := follow(t, newClient(t, p.conf(mode)), "orders", none)
		discoverytest.Expect(t, w, "at first", "10.0.0.1:80 in a, 10.0.0.2:80 in a")
		for i, want := range []string{"canary=true,region=r,shard=7,sub_zone=rack-1,version=v2", "region=r,sub_zone=rack-1"} {
			if got := w.Endpoints()[i].Labels; got != want {
				t.Errorf("labels %q, want %q", got, want)
			}
		}
	})
}

func TestTLSAndToken(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	roots, leaf := x509.NewCertPool(), web.TLS.Certificates[0]
	roots.AddCert(web.Certificate())
	p := newPlane(t, grpc.Creds(credentials.NewServerTLSFromCert(&leaf)))
	p.put("orders", in("a", at("10.0.0.1", 80)))
	conf := p.conf(Auto)
	conf.TLS = &tls.Config{RootCAs: roots}
	conf.TokenFile = filepath.Join(t.TempDir(), "token")
	w, _ := follow(t, newClient(t, conf), "orders", none)
	discoverytest.ExpectError(t, w, "without the token", "token: open ")
	if err := os.WriteFile(conf.TokenFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	discoverytest.Expect(t, w, "over TLS", "10.0.0.1:80 in a")
	p.heard(func() bool {
		if fmt.Sprint(p.tokens) != "[Bearer secret]" {
			t.Errorf("tokens %q", p.tokens)
		}
		return true
	})
	conf.TLS = &tls.Config{}
	stranger, _ := follow(t, newClient(t, conf), "orders", none)
	discoverytest.ExpectError(t, stranger, "of a stranger", "certificate")
}

// Who answers with anything but the protocol, or with nothing, changes nothing.
func TestGarbage(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p, w := followed(t, mode)
		for name, answer := range map[string]string{"words": "HTTP/1.1 200 OK\r\n\r\n", "an end": "", "silence": "\x00"} {
			p.stop()
			stop := impostor(t, p.addr, answer)
			if name != "silence" { // from which we cannot tell a server that has nothing to say
				discoverytest.Eventually(t, name+": an error", func() bool { return w.Status().Err != nil })
			}
			if got := discoverytest.Show(w.Endpoints()); got != "10.0.0.1:80 in a" {
				t.Errorf("%s: endpoints %s", name, got)
			}
			stop()
			p.start()
			discoverytest.ExpectError(t, w, "after "+name, "")
		}
		p.put("orders", in("a", at("10.0.0.2", 80)))
		discoverytest.Expect(t, w, "in the end", "10.0.0.2:80 in a")
	})
}

// impostor answers each connection to addr with some bytes; \x00 is to say nothing and keep it.
func impostor(t *testing.T, addr, answer string) (stop func()) {
	t.Helper()
	var ln net.Listener
	discoverytest.Eventually(t, addr+" is free", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if answer != "\x00" {
				_, _ = c.Write([]byte(answer))
				c.Close()
			}
		}
	}()
	return func() { ln.Close(); <-done }
}

// A control plane that was away and has nothing now is not believed at once.
func TestLosesAll(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p := newPlane(t)
		p.put("orders", in("a", at("10.0.0.1", 80)))
		conf := p.conf(mode)
		w, _ := follow(t, newClient(t, conf), "orders", none)
		conf.Grace = 100 * time.Millisecond
		hasty, _ := follow(t, newClient(t, conf), "orders", none)
		discoverytest.Expect(t, w, "at first", "10.0.0.1:80 in a")
		discoverytest.Expect(t, hasty, "at first", "10.0.0.1:80 in a")
		p.stop()
		p.put("orders")
		p.start()
		discoverytest.ExpectError(t, w, "it is back with nothing", "no longer has it")
		discoverytest.Expect(t, hasty, "it has had nothing for long enough", "")
		if got := discoverytest.Show(w.Endpoints()); got != "10.0.0.1:80 in a" {
			t.Errorf("it is back with nothing: %s", got)
		}
		p.put("orders", in("a", at("10.0.0.2", 80)))
		discoverytest.Expect(t, w, "it has found it again", "10.0.0.2:80 in a")
		discoverytest.ExpectError(t, w, "it has found it again", "")
	})
}

// Endpoints change two hundred times while the control plane comes and goes; at the end the set is right, and it was never empty.
func TestChurn(t *testing.T) {
	both(t, func(t *testing.T, mode Mode) {
		p, w := followed(t, mode)
		stop := discoverytest.NeverEmpty(t, w)
		up := true
		for i := range 200 {
			p.put("orders", in("a", at(fmt.Sprintf("10.0.1.%d", i), 80)))
			if i%20 == 0 {
				if up {
					p.stop()
				} else {
					p.start()
				}
				up = !up
			}
			if rand.IntN(5) == 0 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		if !up {
			p.start()
		}
		p.put("orders", in("a", at("10.0.2.1", 80)))
		discoverytest.Expect(t, w, "in the end", "10.0.2.1:80 in a")
		stop()
	})
}

func FuzzResponse(f *testing.F) {
	c, err := New(Config{Server: "127.0.0.1:1", Node: Node{ID: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x0a\x011\x22\x37type.googleapis.com/envoy.config.cluster.v3.Cluster\x2a\x01n"), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, data []byte, delta bool) {
		if r, err := parseResponse(data, delta); err == nil {
			s := newSession(c, nil)
			s.delta = delta
			s.clusters.all["a"], s.clusters.asked = &entryOf[*cluster]{}, []string{"a"}
			s.assignments.all["a"], s.assignments.asked = &entryOf[*assignment]{}, []string{"a"}
			_ = apply(s, &s.clusters, r, func(b []byte) (*cluster, string, error) { c, err := parseCluster(b); return c, c.name, err })
			_ = apply(s, &s.assignments, r, func(b []byte) (*assignment, string, error) { a, err := parseAssignment(b); return a, a.name, err })
			s.missing(r)
		}
		if a, err := parseAssignment(data); err == nil {
			set, _ := a.build(discovery.Defaults{Port: 80})
			for i := range set {
				if err := discovery.Check(&set[i]); err != nil {
					t.Error(err)
				}
			}
		}
		_, _ = parseCluster(data)
	})
}
