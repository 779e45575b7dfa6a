package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/bench/app"
	engine "github.com/pillion-proxy/pillion/bench/load"
	"github.com/pillion-proxy/pillion/cmd/internal/child"
)

// benchPair is what a bench without targets measures: an app in this process, and two sidecars, processes of their own.
type benchPair struct {
	dir   string
	app   func() // closes it
	procs *child.Set
}

const (
	benchReady    = 15 * time.Second // for the sidecars to become ready
	benchAttempts = 3                // at ports that nobody else takes meanwhile
)

// ownSize refuses what the own app cannot answer.
func ownSize(protocol engine.Protocol, size int) error {
	most := 0
	switch protocol {
	case engine.H2C, engine.GRPC:
		most = 16<<10 - 64
	case engine.HTTP1, engine.NewConn:
		most = 64 << 10
	case engine.HTTPBulk:
		most = 1 << 30
	}
	if most > 0 && size > most {
		return fmt.Errorf("--size %d is too much for %s: at most %d", size, protocol, most)
	}
	return nil
}

// startBenchPair starts everything and sets the plan's targets. The caller closes it.
func startBenchPair(ctx context.Context, p *benchPlan) (*benchPair, error) {
	for try := 1; ; try++ {
		pair, err := tryBenchPair(ctx, p)
		if err == nil || try == benchAttempts || !strings.Contains(err.Error(), "address already in use") {
			return pair, err
		}
	}
}

// tryBenchPair is startBenchPair with one choice of ports.
func tryBenchPair(ctx context.Context, p *benchPlan) (_ *benchPair, err error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pair := &benchPair{app: func() {}}
	defer func() {
		if err != nil {
			pair.close()
		}
	}()
	if pair.dir, err = os.MkdirTemp("", "pillion-bench-"); err != nil {
		return nil, err
	}
	addr, path, err := pair.startApp(p)
	if err != nil {
		return nil, err
	}
	ports, err := freeBenchPorts(4)
	if err != nil {
		return nil, err
	}
	entry, peer, admins := ports[0], ports[1], ports[2:]
	files, err := writeBenchConfigs(pair.dir, p.load.Protocol, addr, entry, peer, admins)
	if err != nil {
		return nil, err
	}
	alive, died := context.WithCancelCause(ctx)
	defer died(nil)
	pair.procs = child.New(executable, nil, died)
	for i, name := range []string{"the sidecar beside the app", "the sidecar beside the client"} {
		if _, err := pair.procs.Start(child.Command{Name: name, Args: []string{"run", "--until-input-ends", "-c", files[i]}}); err != nil {
			return nil, err
		}
	}
	if err := pair.await(alive, admins); err != nil {
		return nil, err
	}
	p.direct = benchTarget{name: "client → app", addr: addr, path: path}
	p.via = benchTarget{name: "client → pillion ═ pillion → app", addr: entry, host: "app", path: path}
	if rawProtocol(p.load.Protocol) {
		p.via.host = ""
	}
	return pair, nil
}

// startApp starts the app that the protocol wants.
func (b *benchPair) startApp(p *benchPlan) (addr, path string, err error) {
	path = "/"
	if p.load.Protocol == engine.HTTP1 || p.load.Protocol == engine.NewConn {
		small, err := app.NewSmall(p.size)
		if err != nil {
			return "", "", err
		}
		b.app = small.Close
		return small.Addr.String(), path, nil
	}
	if p.load.Protocol == engine.UDPEcho || p.load.Protocol == engine.UDPFlows {
		echo, err := app.NewUDPEcho()
		if err != nil {
			return "", "", err
		}
		b.app = echo.Close
		return echo.Addr.String(), path, nil
	}
	var server *app.Server
	switch p.load.Protocol {
	case engine.HTTPBulk:
		path = fmt.Sprintf("/%d", p.size)
		server, err = app.NewBulk()
	case engine.H2C:
		server, err = app.NewH2C(p.size)
	case engine.GRPC:
		path = ""
		server, err = app.NewGRPC(p.size)
	case engine.TCPEcho:
		server, err = app.NewEcho()
	case engine.WebSocket:
		server, err = app.NewWebSocket()
	default:
		server, err = app.NewSource()
	}
	if err != nil {
		return "", "", err
	}
	b.app = server.Close
	return server.Addr.String(), path, nil
}

// writeBenchConfigs writes the files of both sidecars, the app's first. There is nothing in them for speed.
func writeBenchConfigs(dir string, protocol engine.Protocol, app, entry, peer string, admins []string) ([]string, error) {
	inbound, outbound := "http", "http"
	switch protocol {
	case engine.H2C, engine.GRPC:
		inbound = "h2c"
	case engine.TCPEcho, engine.TCPBulk:
		inbound, outbound = "tcp", "tcp"
	case engine.UDPEcho, engine.UDPFlows:
		inbound, outbound = "udp", "udp"
	}
	common := "identity: {dev_ca: ca, trust_domain: bench.example}\ndrain: 1s\noutbound: {listen: none}\nadmin: {listen: %q}\n"
	texts := []string{
		fmt.Sprintf("service: app\napp: [{port: 80, to: %q, protocol: %s}]\npeer: {listen: %q}\n"+common, app, inbound, peer, admins[0]),
		fmt.Sprintf("service: client\nservices:\n  app: {endpoints: [%q], listen: %q, protocol: %s}\npeer: {listen: none}\n"+common, peer, entry, outbound, admins[1]),
	}
	var files []string
	for i, text := range texts {
		files = append(files, filepath.Join(dir, []string{"app.yaml", "client.yaml"}[i]))
		if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// await returns when both sidecars are ready.
func (b *benchPair) await(alive context.Context, admins []string) error {
	ctx, cancel := context.WithTimeout(alive, benchReady)
	defer cancel()
	for _, address := range admins {
		if err := new(adminClient).await(ctx, address, ""); err != nil {
			if alive.Err() != nil {
				err = context.Cause(alive)
			}
			var said strings.Builder
			for _, ch := range b.procs.All() {
				fmt.Fprintf(&said, "\n  the last lines of %s:\n%s", ch.Name, ch.Last(10))
			}
			return fmt.Errorf("%w%s", err, said.String())
		}
	}
	return nil
}

// pids are the sidecars'.
func (b *benchPair) pids() []int {
	var pids []int
	for _, ch := range b.procs.All() {
		pids = append(pids, ch.Pid())
	}
	return pids
}

// close ends everything and waits for it.
func (b *benchPair) close() {
	if b.procs != nil {
		b.procs.Close()
	}
	b.app()
	if b.dir != "" {
		_ = os.RemoveAll(b.dir) // the temporary folder's own cleaning will see to the rest
	}
}

// freeBenchPorts returns addresses of loopback that are free for TCP. They lie below the ports that outgoing connections get.
func freeBenchPorts(n int) ([]string, error) {
	const low, high = 20000, 32000
	var found []string
	var last error
	for range 100 {
		if len(found) == n {
			return found, nil
		}
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(low+rand.IntN(high-low)))
		// Those found before are still open, so each is found once.
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			last = err
			continue
		}
		defer l.Close()
		found = append(found, addr.String())
	}
	return nil, errors.Join(errors.New("find free ports on 127.0.0.1"), last)
}
