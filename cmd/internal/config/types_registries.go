package config

import (
	"net/netip"
	"time"
)

// Consul is the agent or server that endpoints: consul:name ask, and register: consul enters this sidecar at.
type Consul struct {
	// Its URL, or unix:/path.
	Address string `yaml:"address" default:"http://127.0.0.1:8500"`
	// The ACL token. To find services it needs service:read and node:read; to register, service:write for this service.
	Token string `yaml:"token" note:"no token"`
	// A file with the token, read again for each request.
	TokenFile string `yaml:"token_file" note:"no token"`
	// The datacenter in which services are that name none.
	Datacenter string `yaml:"datacenter" note:"the agent's own"`
	// The certificates of the authorities that Consul's must be signed by, PEM, for an address with https.
	Roots string `yaml:"roots" note:"those of the system"`
	// The certificate chain to show, PEM, where Consul wants one.
	Cert string `yaml:"cert" note:"none"`
	// The private key of cert, PEM.
	Key string `yaml:"key" note:"none"`
}

// Etcd is the cluster that endpoints: etcd:name ask, and register: etcd enters this sidecar in: version 3.4 or later.
type Etcd struct {
	// Its members, host:port, or some of them: one, or a list.
	Endpoints Words `yaml:"endpoints" note:"127.0.0.1:2379"`
	// What is before <service>/<id> in keys.
	Prefix string `yaml:"prefix" default:"/pillion/services/"`
	// Whether connections are encrypted. With roots, or cert and key, they always are.
	TLS bool `yaml:"tls" default:"false"`
	// The user to authenticate as.
	User string `yaml:"user" note:"nobody"`
	// A file with the user's password, read at the start.
	PasswordFile string `yaml:"password_file" note:"none"`
	// The certificates of the authorities that the members' must be signed by, PEM.
	Roots string `yaml:"roots" note:"those of the system"`
	// The certificate chain to show, PEM, where etcd wants one.
	Cert string `yaml:"cert" note:"none"`
	// The private key of cert, PEM.
	Key string `yaml:"key" note:"none"`
}

// Registration is what register says of this sidecar, beside its name, its identity, its zone, its transport and its app's ports.
type Registration struct {
	// Where peers connect: an IP address, with a port if it is not that of peer.listen.
	Address string `yaml:"address" note:"the address of peer.listen; if that is every address, the one from which the registry is reached; with an agent of Consul on this machine, its node's"`
	// The share of requests, relative to that of other instances.
	Weight int `yaml:"weight" default:"1" min:"1" max:"65535"`
	// Consul's tags: one, or a list.
	Tags Words `yaml:"tags" note:"none"`
	// What its callers' balance.subset can ask for, beside tags: names and values. In Consul they are metadata.
	Labels LabelValues `yaml:"labels" note:"none"`
	// How long the entry lasts when this sidecar has gone without a word. It is renewed three times in this time.
	TTL time.Duration `yaml:"ttl" default:"15s" min:"3s" max:"1h"`
}

type (
	// Words are written as one word, or a list.
	Words []string
	// Registry is where a sidecar is registered.
	Registry string
)

// The registries.
const (
	NoRegistry Registry = "none"
	InConsul   Registry = "consul"
	InEtcd     Registry = "etcd"
)

// ConsulService is which instances of a service in Consul count.
type ConsulService struct {
	Name       string
	Tags       []string // all of them
	Datacenter string   // "" is that of Consul
	Port       uint16   // 0: as registered
}

// Advertised is Registration.Address as it was checked: the zero value if nothing is written, port 0 if that of peer.listen counts.
func (r *Registration) Advertised() netip.AddrPort {
	if addr, err := netip.ParseAddrPort(r.Address); err == nil {
		return addr
	}
	ip, err := netip.ParseAddr(r.Address)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, 0)
}
