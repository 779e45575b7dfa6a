package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Bed is what all pairs share: a folder for certificates, configurations and logs, and ports nobody else has.
type Bed struct {
	// Profile opens pillion's /debug/pprof; see Pair.Admin. It is off where something is measured.
	Profile bool
	// Shape is how large the configurations of the pairs are that are started from now on.
	Shape Shape

	dir     string
	ports   ports
	entries int               // Unix sockets so far
	built   map[string]string // programs that were built from source
}

// NewBed makes certificates in dir, which must exist. pillion is a built binary; if empty, one is built when it is needed.
func NewBed(dir, pillion string) (*Bed, error) {
	if err := writeCerts(dir, "web", "app"); err != nil {
		return nil, err
	}
	b := &Bed{dir: dir, built: map[string]string{}}
	if pillion != "" {
		return b, b.Use("pillion", pillion)
	}
	return b, nil
}

// Use makes the built program at path that of the peers whose binary has that name.
func (b *Bed) Use(name, path string) error {
	path, err := filepath.Abs(path)
	b.built[name] = path
	return err
}

// Find returns the path of the peer's program, building what comes from this repository.
func (b *Bed) Find(p Peer) (string, error) {
	if path := b.built[p.Binary]; path != "" {
		return path, nil
	}
	source := map[string]string{
		"pillion":  "github.com/pillion-proxy/pillion/cmd/pillion",
		"naivego":  "github.com/pillion-proxy/pillion/bench/peers/naivego",
		"barequic": "github.com/pillion-proxy/pillion/bench/peers/barequic",
	}[p.Binary]
	if source == "" {
		return p.Find()
	}
	path := filepath.Join(b.dir, p.Binary)
	profile := "off"
	if p.Binary == "pillion" { // as the README builds it
		dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", source).Output()
		if err != nil {
			return "", fmt.Errorf("go list %s: %w", source, err)
		}
		profile = filepath.Join(strings.TrimSpace(string(dir)), "pillion.pgo")
	}
	build := exec.Command("go", "build", "-pgo", profile, "-o", path, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // static, as it is installed
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", source, err, out)
	}
	b.built[p.Binary] = path
	return path, nil
}

// Version is what the peer says of its version, one line.
func (b *Bed) Version(p Peer) string {
	path, err := b.Find(p)
	if err != nil || len(p.version) == 0 {
		return ""
	}
	out, err := exec.Command(path, p.version...).CombinedOutput()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		if strings.ContainsAny(line, "0123456789") { // some say other things first
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// Start runs the pair of p between a client that sends kind and the app, host:port or unix:/path, and returns when both sides
// accept connections. The caller stops it.
func (b *Bed) Start(p Peer, kind Kind, app string) (*Pair, error) {
	if why := p.Cannot[kind]; why != "" {
		return nil, fmt.Errorf("%s cannot carry %s: %s", p.Name, kind, why)
	}
	pair := &Pair{Peer: p, Addr: app}
	if p.command == nil {
		return pair, nil
	}
	binary, err := b.Find(p)
	if err != nil {
		return nil, err
	}
	entry, err := b.ports.take()
	if err != nil {
		return nil, err
	}
	link, err := b.ports.take()
	if err != nil {
		return nil, err
	}
	if kind == Unix {
		b.entries++
		entry = fmt.Sprintf("%s%s/entry-%d", unixPrefix, b.dir, b.entries)
	}
	pair.Addr = entry
	far := side{Kind: kind, Name: "app", Listen: link, Next: app, binary: binary}
	near := side{Kind: kind, Name: "web", Listen: entry, Next: link, Near: true, binary: binary}
	for _, s := range []side{far, near} {
		if err := b.startSide(pair, s); err != nil {
			pair.Stop()
			return nil, fmt.Errorf("%s, the side of %s: %w", p.Name, s.Name, err)
		}
	}
	return pair, nil
}

// startSide gives one side a folder of its own and runs it there.
func (b *Bed) startSide(pair *Pair, s side) error {
	var err error
	if s.Dir, err = os.MkdirTemp(b.dir, fmt.Sprintf("%s-%s-%s-", pair.Peer.Name, s.Kind, s.Name)); err != nil {
		return err
	}
	for _, name := range []string{"roots.pem", s.Name + ".crt", s.Name + ".key", s.Name + ".pem"} {
		if err := os.Link(filepath.Join(b.dir, name), filepath.Join(s.Dir, name)); err != nil {
			return err
		}
	}
	for range 3 {
		addr, err := b.ports.take()
		if err != nil {
			return err
		}
		s.spare = append(s.spare, addr)
	}
	s.shape = b.Shape
	if s.Profile = b.Profile; b.Profile && pair.Peer.Binary == "pillion" {
		pair.Admin = append(pair.Admin, s.Admin())
	}
	argv, err := pair.Peer.command(s)
	if err != nil {
		return err
	}
	began := time.Now()
	proc, err := start(filepath.Join(s.Dir, "output.log"), argv...)
	if err != nil {
		return err
	}
	pair.procs = append(pair.procs, proc)
	err = proc.waitListening(s.Listen)
	pair.Started = time.Since(began)
	return err
}
