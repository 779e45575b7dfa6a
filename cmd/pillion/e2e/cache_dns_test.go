//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var ttlOf = regexp.MustCompile(`(?m)^\S+\s+(\d+)\s+IN\s`)

// TestCacheDNS: answers of BIND that pass through a Flow are kept for as long as they say, by a service that asks for it.
func TestCacheDNS(t *testing.T) {
	if *direct {
		return
	}
	long := "long IN TXT"
	for range 12 {
		long += fmt.Sprintf(" %q", strings.Repeat("x", 200))
	}
	server := newNamed(t, 600, "www IN A 192.0.2.80\nquick 1 IN A 192.0.2.81\nhost IN CNAME www\n"+long)
	for _, transport := range []string{"tcp", "quic"} {
		t.Run(transport, func(t *testing.T) {
			p := newPair(t, setup{app: server.addr, service: "dns", port: 53, protocol: "udp", listen: "udp", transport: transport, svcMore: ", port: 53, cache: {dns: true}"})
			dig := func(question string) string {
				t.Helper()
				return runTool(t, dig(t, p.local, strings.Fields(question)...)...)
			}
			answers := func() uint64 { return p.b.status().Apps[0].Flows.Out } // what the server has answered
			for i, x := range []struct {
				question, want string
				asks           uint64
			}{
				{"www.example.test A", "192.0.2.80", 1},
				{"WWW.Example.test A", "192.0.2.80", 0},
				{"+dnssec www.example.test A", "192.0.2.80", 1},
				{"+noedns www.example.test A", "192.0.2.80", 1},
				{"+subnet=192.0.2.0/24 www.example.test A", "192.0.2.80", 1},
				{"+subnet=192.0.3.0/24 www.example.test A", "192.0.2.80", 1},
				{"+subnet=192.0.2.0/24 www.example.test A", "192.0.2.80", 0},
				{"host.example.test A", "192.0.2.80", 1},
				{"host.example.test A", "192.0.2.80", 0},
				{"none.example.test A", "NXDOMAIN", 1},
				{"none.example.test A", "NXDOMAIN", 0},
				{"www.example.test AAAA", "ANSWER: 0", 1},
				{"www.example.test AAAA", "ANSWER: 0", 0},
				{"elsewhere.test A", "REFUSED", 1},
				{"elsewhere.test A", "REFUSED", 1},
				{"+ignore +bufsize=512 long.example.test TXT", "flags: qr aa tc", 1},
				{"+ignore +bufsize=512 long.example.test TXT", "flags: qr aa tc", 1},
			} {
				before := answers()
				out := dig(x.question)
				if !strings.Contains(out, x.want) || strings.Contains(out, "Warning") && !strings.Contains(out, "recursion") {
					t.Errorf("%d, dig %s: want %s in\n%s", i, x.question, x.want, out)
				}
				if n := answers() - before; n != x.asks {
					t.Errorf("%d, dig %s: the server was asked %d times, want %d", i, x.question, n, x.asks)
				}
			}
			if out := runTool(t, workshop.pillion(), "cache", "stats", "--admin", p.a.admin); !strings.Contains(out, "\ndns\tdns\t29.4%\t5\t12\t8\t") {
				t.Errorf("pillion cache stats: want 5 hits, 12 misses and 8 answers of dns in\n%s", out)
			}
			eventually(t, time.Minute, "its TTL has counted down", func() bool {
				m := ttlOf.FindStringSubmatch(dig("www.example.test A"))
				if m == nil {
					return false
				}
				ttl, err := strconv.Atoi(m[1])
				return err == nil && ttl < 600
			})
			before := answers()
			dig("quick.example.test A")
			eventually(t, time.Minute, "an answer is asked for again after its time", func() bool {
				dig("quick.example.test A")
				return answers() >= before+2
			})
		})
	}
}
