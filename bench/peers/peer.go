package peers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kind is what the client sends and the app understands.
type Kind string

const (
	HTTP Kind = "http" // HTTP/1.1 in and out
	H2C  Kind = "h2c"  // HTTP/2 without TLS in and out, with prior knowledge
	TCP  Kind = "tcp"  // bytes, which the proxies pass on
	UDP  Kind = "udp"  // datagrams
	// Unix is HTTP over Unix sockets, from the client to its side, and from the other side to the app.
	Unix Kind = "unix"
	// Cached is HTTP/1.1 in and out, with a cache at the client's side.
	Cached Kind = "cached"
	// WebSocket is HTTP/1.1 in and out with an Upgrade.
	WebSocket Kind = "websocket"
)

// unixPrefix begins the addresses of Unix sockets.
const unixPrefix = "unix:"

// noUDP is why most cannot carry datagrams.
const noUDP = "it carries no datagrams over an authenticated link"

// Peer is one contender.
type Peer struct {
	Name    string
	About   string   // one line for the report: what runs between the two sides
	Package []string // the packages of Debian that it needs, if it comes from there
	Binary  string   // the program that is run, and looked for in the PATH

	// Field says that pillion is compared with it. Direct and the naive pair are only references.
	Field bool
	// Aware says that it understands HTTP and can do what needs that; others pass bytes on.
	Aware bool
	// Cannot names the kinds of traffic that it has no way to carry, with the reason.
	Cannot map[Kind]string

	version []string                     // arguments that make it print its version
	command func(side) ([]string, error) // writes the configuration of one side, returns what to run
}

// side is what a peer is told about one of its two processes. It is the data of the templates.
type side struct {
	Near   bool   // beside the client; the other is beside the app
	Kind   Kind   // what the client sends
	Name   string // of its certificate: web near the client, app near the app
	Listen string // where it accepts
	Next   string // where it connects
	Dir    string // its own folder, with the certificates in it
	spare  []string
	binary string

	Profile   bool   // open /debug/pprof, if there is such a thing
	Transport string // of pillion's links
	Layers    Layers // what pillion does to keep calls going
	shape     Shape
}

// Shape is how large the configuration of a pair is. Only pillion has shapes; the zero value is the usual one.
type Shape struct {
	Services  int // configured beside the one that is asked
	Endpoints int // of the service that is asked, each with a Link of its own to the same sidecar; zero is one
	Aperture  int // how many of them are used at least; zero is what pillion does by itself
}

// Aperture is for the configuration.
func (s side) Aperture() int { return s.shape.Aperture }

// ListenPeer is where the app's side accepts: every address of the machine, if its endpoints are many.
func (s side) ListenPeer() string {
	if s.shape.Endpoints > 1 {
		return "0.0.0.0:" + s.Port(s.Listen)
	}
	return s.Listen
}

// Endpoints are addresses of the app's side, all of them of loopback.
func (s side) Endpoints() []string {
	if s.shape.Endpoints <= 1 {
		return []string{s.Next}
	}
	var all []string
	for i := range s.shape.Endpoints {
		all = append(all, fmt.Sprintf("127.0.%d.%d:%s", i/250, i%250+1, s.Port(s.Next)))
	}
	return all
}

// Services are the names of those that nobody asks.
func (s side) Services() []string {
	var all []string
	for i := range s.shape.Services {
		all = append(all, fmt.Sprintf("other-%d", i))
	}
	return all
}

// Outbound, Admin and Peer are free addresses, for the listeners of a sidecar that nobody connects to here.
func (s side) Outbound() string { return s.spare[0] }
func (s side) Admin() string    { return s.spare[1] }
func (s side) Peer() string     { return s.spare[2] }

// Unix reports whether an address of the client's or of the app's is a Unix socket, and Path is where that is.
func (s side) Unix(addr string) bool   { return strings.HasPrefix(addr, unixPrefix) }
func (s side) Path(addr string) string { return strings.TrimPrefix(addr, unixPrefix) }

// Host and Port split an address for the peers that want it so.
func (s side) Host(addr string) string { host, _, _ := strings.Cut(addr, ":"); return host }
func (s side) Port(addr string) string { _, port, _ := strings.Cut(addr, ":"); return port }

// Cert, Key, Both and Roots are the paths of the certificate, its key, both in one file, and the authority's certificate.
func (s side) Cert() string  { return filepath.Join(s.Dir, s.Name+".crt") }
func (s side) Key() string   { return filepath.Join(s.Dir, s.Name+".key") }
func (s side) Both() string  { return filepath.Join(s.Dir, s.Name+".pem") }
func (s side) Roots() string { return filepath.Join(s.Dir, "roots.pem") }

// All returns the contenders, in the order of the report.
func All() []Peer {
	return []Peer{
		{Name: "direct", About: "no proxy: the client connects to the app"},
		pillion(), pillionQUIC(),
		haproxyH1(), haproxyH2(), haproxyTCP(),
		nginx(),
		varnish(),
		nghttpx(),
		stunnel(),
		naiveGo(), naiveQUIC(), bareQUIC(), bareRequests(),
	}
}

// Find says where the peer's program is. The error says what to install.
func (p Peer) Find() (string, error) {
	if p.Binary == "" {
		return "", nil
	}
	path, err := exec.LookPath(p.Binary)
	if err != nil && len(p.Package) > 0 {
		return "", fmt.Errorf("%w (apt-get install %s)", err, strings.Join(p.Package, " "))
	}
	return path, err
}
