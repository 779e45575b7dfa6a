package proxy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Service is a logical destination: "orders", or "orders:8080". Port 0 means the peer's only, else its first, app entry.
type Service struct {
	Name string
	Port uint16
}

// String returns "orders" or "orders:8080".
func (s Service) String() string {
	if s.Port == 0 {
		return s.Name
	}
	return s.Name + ":" + strconv.Itoa(int(s.Port))
}

// ToField names, between two pillions, the service and port that a request is for: an Exchange keeps the authority that the client wrote, which may say
// neither.
const ToField = "Pillion-To"

// SidecarName, where ToField has it in place of a service, asks the sidecar itself, and never its app. No service has such a name, and no app can ask for it: Links
// alone write ToField.
const SidecarName = "*sidecar"

// Identity is who a certificate says a workload is: a SPIFFE ID such as spiffe://example.org/orders. The zero value is nobody.
type Identity string

// Transport is what a Link runs over.
type Transport string

// The transports.
const (
	Auto Transport = "auto" // whichever works
	TCP  Transport = "tcp"
	QUIC Transport = "quic"
)

// Endpoint is one address that serves a Service. It is immutable: a change is a new Endpoint. The fields make a comparable value.
type Endpoint struct {
	// Addr is the sidecar's peer address, or the app's own where Mesh is false.
	Addr netip.AddrPort
	// Unix is the path of a socket, instead of Addr; only where Mesh is false.
	Unix string
	// Identity is whom to expect there; never empty where Mesh is true.
	Identity Identity
	// Mesh says that a sidecar is there.
	Mesh bool
	// Transport is what a Link to it runs over; empty means Auto.
	Transport Transport
	// Priority orders sets: those of a lower one are used while any of them can be reached.
	Priority int
	// Weight is relative, among the same Priority; zero means 1.
	Weight int
	// Zone is where it runs, "" if unknown.
	Zone string
	// Labels are what else is known of it: "stage=canary,version=v2", sorted by name; see Labels and Label.
	Labels string
}

// Label returns the value of a label.
func (e *Endpoint) Label(name string) (value string, ok bool) {
	for rest := e.Labels; rest != ""; {
		var one string
		one, rest, _ = strings.Cut(rest, ",")
		if k, v, found := strings.Cut(one, "="); found && k == name {
			return v, true
		}
	}
	return "", false
}

// Labels makes what Endpoint.Labels holds. Neither names nor values may hold a comma, nor a name an equals sign.
func Labels(m map[string]string) string {
	all := make([]string, 0, len(m))
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// String returns the address, for logs.
func (e *Endpoint) String() string {
	if e.Unix != "" {
		return "unix:" + e.Unix
	}
	return e.Addr.String()
}
