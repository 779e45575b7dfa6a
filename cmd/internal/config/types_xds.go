package config

// XDS is the Envoy control plane that endpoints: xds:cluster ask, by ADS.
type XDS struct {
	// Where it is: https://host:port, http://host:port for one without TLS, or unix:/path.
	Server string `yaml:"server" note:"none"`
	// The variant of the protocol: delta, state (of the world), or auto, which is delta unless the control plane does not know it.
	Mode XDSMode `yaml:"mode" default:"auto" enum:"auto,delta,state"`
	// What the control plane is told of this sidecar, whose zone is the top-level key.
	Node XDSNode `yaml:"node"`
	// The certificates of the authorities that the control plane's must be signed by, PEM.
	Roots string `yaml:"roots" note:"those of the system"`
	// The certificate chain to show there, PEM.
	Cert string `yaml:"cert" note:"none"`
	// The private key of cert, PEM.
	Key string `yaml:"key" note:"none"`
	// A file with a bearer token to show, read again for each stream.
	TokenFile string `yaml:"token_file" note:"none"`
}

// XDSNode is who asks.
type XDSNode struct {
	// By this the control plane tells sidecars apart.
	ID string `yaml:"id" note:"<service>.<host name>"`
	// The group that it belongs to.
	Cluster string `yaml:"cluster" note:"the service"`
	// The region in which it runs.
	Region string `yaml:"region" note:"unknown"`
}

// XDSMode is a variant of the protocol.
type XDSMode string

// The variants.
const (
	XDSAuto  XDSMode = "auto"
	XDSDelta XDSMode = "delta"
	XDSState XDSMode = "state"
)
