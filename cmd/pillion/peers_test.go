package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/fx"

	"github.com/pillion-proxy/pillion/listeners/admin"
)

// sharing is a sidecar, api, with that admin.share, and one, web, that calls it.
func sharing(t *testing.T, over, share string, app http.Handler) *pair {
	t.Helper()
	web := httptest.NewServer(app)
	t.Cleanup(web.Close)
	free := freeAddrs(t, 4)
	ca := filepath.Join(t.TempDir(), "ca")
	p := &pair{outbound: free[0], adminA: free[1], adminB: free[2]}
	p.stopB = startSidecar(t, fmt.Sprintf("service: api\napp: %s\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s, share: %s}\nidentity: {dev_ca: %s}\n",
		web.Listener.Addr(), free[3], p.adminB, share, ca))
	p.stopA = startSidecar(t, fmt.Sprintf("service: web\npeer: {listen: none, transport: %s}\noutbound: {listen: %s}\nadmin: {listen: %s}\nidentity: {dev_ca: %s}\n"+
		"services:\n  api: {endpoints: %s}\n  billing: {endpoints: %s, identity: api}\n", over, p.outbound, p.adminA, ca, free[3], free[3]))
	return p
}

// TestPeersView: status --all shows what the peers say of themselves where they permit it, and else why not; their apps hear nothing of it.
func TestPeersView(t *testing.T) {
	for _, over := range []string{"tcp", "quic"} {
		t.Run(over, func(t *testing.T) { testPeersView(t, over) })
	}
}

func testPeersView(t *testing.T, over string) {
	var heard atomic.Int32
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { heard.Add(1) })
	p := sharing(t, over, "[other, we*]", app)
	ask := func() *everything {
		t.Helper()
		x := new(everything)
		if err := json.Unmarshal([]byte(answerOf(t, "status", "--admin", p.adminA, "--all", "-o", "json")), x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	x := ask()
	if x.Self == nil || x.Self.Service != "web" || len(x.Peers.Peers) != 1 {
		t.Fatalf("got %+v, want this sidecar and its only peer", x)
	}
	got := x.Peers.Peers[0]
	if got.Status == nil || got.Status.Service != "api" || got.Status.State != admin.Ready || got.Code != "" || strings.Join(got.Services, " ") != "api billing" || len(got.Status.Apps) != 1 {
		t.Errorf("the peer: %+v", got)
	} else if l := got.Status.Links; len(l) == 0 || l[0].Identity != "spiffe://pillion.local/web" || l[0].Direction != admin.Inbound {
		t.Errorf("its links: %+v, want the one from here", l)
	}
	text := answerOf(t, "status", "--admin", p.adminA, "--all")
	for _, want := range []string{"service\tweb\n", "peers\t" + got.Address + "\tspiffe://pillion.local/api\tapi,billing\tready\t", "peer\t" + got.Address + "\tservice\tapi\n", "peer\t" + got.Address + "\tapp\t"} {
		if !strings.Contains(text, want) {
			t.Errorf("--all lacks %q:\n%s", want, text)
		}
	}
	// The app cannot ask, whatever it writes.
	req, err := http.NewRequest("GET", "http://api/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Pillion-To", "*sidecar")
	resp, err := p.client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ContentLength > 0 || heard.Load() != 1 {
		t.Errorf("an app that asks by itself gets %d with %d bytes, and the other app heard of %d requests; want it to reach that app alone", resp.StatusCode, resp.ContentLength, heard.Load())
	}
	p.stopB()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got = ask().Peers.Peers[0]; got.Status == nil || time.Now().After(deadline) {
			break
		}
	}
	if got.Status != nil || got.Error == "" || got.Code == "denied" {
		t.Errorf("a peer that has gone: %+v", got)
	}
}

// TestPeersRefuse: whom admin.share does not name is told nothing but that.
func TestPeersRefuse(t *testing.T) {
	p := sharing(t, "tcp", "spiffe://pillion.local/ops/*", http.NotFoundHandler())
	text := answerOf(t, "status", "--admin", p.adminA, "--all")
	if !strings.Contains(text, "\tdenied\t-\t-\t-\tpillion: 403 denied: spiffe://pillion.local/web may not see what the sidecar of api does: it is not in admin.share there") {
		t.Errorf("got %s", text)
	}
	if strings.Contains(text, "\npeer\t") {
		t.Errorf("a peer that refuses has tables:\n%s", text)
	}
}

// TestPeersAreAskedSideBySide: a peer that never answers does not hold the others up, and what has no sidecar is not asked.
func TestPeersAreAskedSideBySide(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	free := freeAddrs(t, 3)
	ca := filepath.Join(t.TempDir(), "ca")
	startSidecar(t, fmt.Sprintf("service: api\napp: 1\npeer: {listen: %s}\noutbound: {listen: none}\nadmin: {listen: %s, share: \"*\"}\nidentity: {dev_ca: %s}\n", free[0], free[1], ca))
	var s *sidecar
	log := slog.New(slog.DiscardHandler)
	cfg := load(t, fmt.Sprintf("service: web\npeer: {listen: none, transport: tcp}\noutbound: {listen: none}\nadmin: {listen: none}\nidentity: {dev_ca: %s}\n"+
		"services:\n  api: {endpoints: [%s, %s]}\n  plain: {endpoints: %s, mesh: false}\n", ca, free[0], mute.Addr(), free[2]))
	if err := fx.New(graph(cfg, log, nil, reloading{}), fx.Invoke(func(p parts) { s = newSidecar(p) })).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	defer func() { cancel(); <-ended }()
	for wait := 100 * time.Millisecond; ; wait *= 2 { // a slow machine needs longer for a handshake
		limited, end := context.WithTimeout(ctx, wait)
		got := s.peers(limited).Peers
		end()
		if len(got) == 2 && got[0].Status == nil && got[1].Status == nil && wait < 20*time.Second {
			continue
		}
		if len(got) != 2 {
			t.Fatalf("%+v; want the two sidecars, and not what has none", got)
		}
		for _, one := range got {
			if answers := one.Status != nil; answers != (one.Address == free[0]) || !answers && (one.Code != "timeout" || one.Error == "") {
				t.Errorf("%+v", one)
			}
		}
		return
	}
}
