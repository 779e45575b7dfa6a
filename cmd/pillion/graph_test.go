package main

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
)

func TestGraphIsComplete(t *testing.T) {
	err := fx.ValidateApp(graph(new(config.Config), slog.New(slog.DiscardHandler), nil, reloading{}), fx.Invoke(func(parts) {}))
	if err != nil {
		t.Error(err)
	}
}

// load reads a configuration from text.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pillion.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestEveryBusyPortIsNamed(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	at := busy.Addr().String()
	cfg := load(t, "service: web\npeer: {listen: none}\nadmin: {listen: none}\noutbound: {listen: "+at+"}\n"+
		"services:\n  a: {endpoints: 10.0.0.1, listen: 127.0.0.1:0}\n")
	_, err = bind(cfg)
	if err == nil || !strings.Contains(err.Error(), "outbound.listen: listen tcp "+at) {
		t.Errorf("got %v, want an error that names the setting and the address", err)
	}
	_, port, _ := net.SplitHostPort(at)
	for _, advice := range []string{"sport = :" + port, "another address into outbound.listen"} {
		if err == nil || !strings.Contains(err.Error(), advice) {
			t.Errorf("got %v, want %q in it", err, advice)
		}
	}
}

// The idle time of a service holds for the links to its identity, which another service may share.
func TestLinkIdle(t *testing.T) {
	idle := linkIdle(load(t, `service: web
services:
  a: {endpoints: 10.0.0.1, idle: 10s, identity: shared}
  b: {endpoints: 10.0.0.1, idle: 20s, identity: shared}
  c: {endpoints: 10.0.0.2, idle: 30s}
  d: {endpoints: 10.0.0.3, idle: none, identity: ever}
  e: {endpoints: 10.0.0.3, idle: 5s, identity: ever}
identity: {trust_domain: example.org, dev_ca: ca}
`))
	for name, want := range map[string]time.Duration{"shared": 20 * time.Second, "c": 30 * time.Second, "ever": 0} {
		if got := idle[proxy.NewIdentity("example.org", name)]; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestOwnListenersAreRecognised(t *testing.T) {
	everywhere, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	s := &sockets{peer: everywhere, outbound: one}
	_, port, _ := net.SplitHostPort(everywhere.Addr().String())
	own := s.own()
	for address, want := range map[string]bool{
		one.Addr().String():  true,
		"127.0.0.1:" + port:  true,
		"127.0.0.9:" + port:  true,
		"[::1]:" + port:      true,
		"192.0.2.77:" + port: false,
		"127.0.0.1:1":        false,
	} {
		if got := own("tcp", address); got != want {
			t.Errorf("%s: got %v, want %v", address, got, want)
		}
	}
}
