package main

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/fx"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

func TestGraphIsComplete(t *testing.T) {
	err := fx.ValidateApp(graph(new(config.Config), slog.New(slog.DiscardHandler), nil), fx.Invoke(func(parts) {}))
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
