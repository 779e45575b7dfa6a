package main

import (
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed haproxy.cfg
var haproxyConfig string

// pair is a proxy beside the client and one beside the app; direct is a pair without proxies.
type pair struct {
	name  string
	addr  netip.AddrPort // where the client connects
	procs []*process
}

// bed is what all pairs share.
type bed struct {
	dir     string // certificates, configurations, logs
	app     netip.AddrPort
	ports   ports
	pillion string // the binary
	haproxy string // the binary
	threads int    // of each HAProxy
}

// startPillion starts a pair of sidecars.
func (b *bed) startPillion() (*pair, error) {
	entry, peer, err := b.two()
	if err != nil {
		return nil, err
	}
	inbound := fmt.Sprintf(`
service: app
app: [{port: 8080, to: "%s", protocol: http}]
peer: {listen: "%s"}
%s`, b.app, peer, b.common("app"))
	outbound := fmt.Sprintf(`
service: web
services:
  app: {endpoints: ["%s"], listen: "%s", protocol: http}
%s`, peer, entry, b.common("web"))
	p := &pair{name: "pillion", addr: netip.MustParseAddrPort(entry)}
	for _, side := range []struct{ name, config, listens string }{
		{"pillion-b", inbound, peer},
		{"pillion-a", outbound, entry},
	} {
		path := filepath.Join(b.dir, side.name+".yaml")
		if err := os.WriteFile(path, []byte(side.config), 0o600); err != nil {
			return p, err
		}
		if err := p.start(b.dir, side.name, side.listens, b.pillion, "run", "-c", path); err != nil {
			return p, err
		}
	}
	return p, nil
}

// common is the part of a sidecar's configuration that both have.
func (b *bed) common(name string) string {
	free := func() string {
		addr, err := b.ports.take()
		if err != nil {
			return "127.0.0.1:0"
		}
		return addr
	}
	lines := fmt.Sprintf("admin: {listen: %q}\nidentity: {cert: %q, key: %q, roots: %q}\n", free(),
		filepath.Join(b.dir, name+".crt"), filepath.Join(b.dir, name+".key"), filepath.Join(b.dir, "roots.pem"))
	if name == "web" {
		lines += fmt.Sprintf("peer: {listen: %q}\n", free())
	}
	return lines + fmt.Sprintf("outbound: {listen: %q}\n", free())
}

// startHAProxy starts a pair of HAProxy.
func (b *bed) startHAProxy() (*pair, error) {
	entry, peer, err := b.two()
	if err != nil {
		return nil, err
	}
	roots := filepath.Join(b.dir, "roots.pem")
	p := &pair{name: "haproxy", addr: netip.MustParseAddrPort(entry)}
	for _, side := range []struct{ name, listen, listenOptions, next, nextOptions string }{
		{
			"haproxy-b", peer, fmt.Sprintf("ssl crt %s/app.pem ca-file %s verify required alpn h2", b.dir, roots),
			b.app.String(), "",
		},
		{
			"haproxy-a", entry, "",
			peer, fmt.Sprintf("ssl crt %s/web.pem ca-file %s verify required alpn h2", b.dir, roots),
		},
	} {
		config := strings.NewReplacer("{THREADS}", strconv.Itoa(b.threads), "{LISTEN}", side.listen,
			"{LISTEN_OPTIONS}", side.listenOptions, "{NEXT}", side.next, "{NEXT_OPTIONS}", side.nextOptions).Replace(haproxyConfig)
		path := filepath.Join(b.dir, side.name+".cfg")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return p, err
		}
		if err := p.start(b.dir, side.name, side.listen, b.haproxy, "-db", "-f", path); err != nil {
			return p, err
		}
	}
	return p, nil
}

// two returns two free addresses.
func (b *bed) two() (string, string, error) {
	entry, err := b.ports.take()
	if err != nil {
		return "", "", err
	}
	peer, err := b.ports.take()
	return entry, peer, err
}

// start runs one side and waits until it listens.
func (p *pair) start(dir, name, listens string, argv ...string) error {
	proc, err := start(dir, name, argv...)
	if err != nil {
		return err
	}
	p.procs = append(p.procs, proc)
	if err := proc.waitListening(listens); err != nil {
		printed, _ := os.ReadFile(proc.log)
		return fmt.Errorf("%s: %w; it printed:\n%s", name, err, printed)
	}
	return nil
}

// stop ends both sides.
func (p *pair) stop() {
	for _, proc := range p.procs {
		proc.stop()
	}
}

// cpu is the processor time of both sides so far.
func (p *pair) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, proc := range p.procs {
		d, err := proc.cpu()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}
